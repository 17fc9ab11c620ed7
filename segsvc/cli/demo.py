"""`segsvc demo`."""

from __future__ import annotations

from pathlib import Path

import click

from segsvc.asking import Asked, Place, request_of
from segsvc.assets import demo_images
from segsvc.cli.ledger_flag import ledger_flag
from segsvc.cli.main import Exit
from segsvc.cli.progress import say
from segsvc.cli.run import execute, inline, show_run
from segsvc.cli.serve import DEFAULT_HOST, DEFAULT_PORT, serve_page
from segsvc.settings import settings


@click.command("demo")
@click.option("--out", default="segsvc-demo", show_default=True, help="Where the demo's runs are written.")
@click.option("--no-serve", is_flag=True, help="Only run; do not serve the review page.")
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Where the review page is reached.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any that is free.")
@ledger_flag
@click.option("--open/--no-open", "opens", default=False, help="Open the page in the browser.")
def command(out: str, no_serve: bool, host: str, port: int, place: str, opens: bool) -> int:
    """Segment real nuclei and classify real photos with the models that came along, and serve the review page on them.

    OUT is the run over the nuclei, OUT/imagenet the one over the photos; each has its report.html.
    """
    codes = []
    outs = {"nuclei": Path(out), "imagenet": Path(out) / "imagenet"}
    for model_name, folder in outs.items():
        images = demo_images(settings().assets_dir, model_name)
        request = request_of(Asked(input=str(images), model=model_name, out=str(folder)), Place(), say)
        click.echo(f"{model_name}: {request.model.card.description}")
        codes.append(show_run(execute(request, inline), as_json=False))
        click.echo("")
    if not no_serve:  # the latest import stands first in the list: the nuclei
        serve_page(place, host=host, port=port, opens=opens, imports=[str(folder) for folder in reversed(outs.values())])
    return max(codes, default=Exit.DONE)
