"""`segsvc demo`."""

from __future__ import annotations

from pathlib import Path

import click

from segsvc.asking import Asked, Place, request_of
from segsvc.assets import demo_images
from segsvc.cli.main import Exit
from segsvc.cli.progress import say
from segsvc.cli.run import execute, inline, show_run
from segsvc.settings import settings


@click.command("demo")
@click.option("--out", default="segsvc-demo", show_default=True, help="Where the demo's runs are written.")
@click.option("--no-serve", is_flag=True, help="Only run; do not open the review page.")
def command(out: str, no_serve: bool) -> int:
    """Segment real nuclei and classify real photos with the models that came along.

    OUT is the run over the nuclei, OUT/imagenet the one over the photos; each has its report.html.
    """
    codes = []
    for model_name, place in (("nuclei", Path(out)), ("imagenet", Path(out) / "imagenet")):
        folder = demo_images(settings().assets_dir, model_name)
        request = request_of(Asked(input=str(folder), model=model_name, out=str(place)), Place(), say)
        click.echo(f"{model_name}: {request.model.card.description}")
        codes.append(show_run(execute(request, inline), as_json=False))
        click.echo("")
    if not no_serve:
        click.echo("The review page is not part of this version: look at the reports above.", err=True)
    return max(codes, default=Exit.DONE)
