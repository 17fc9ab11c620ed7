"""`segsvc demo`."""

from __future__ import annotations

from pathlib import Path

import click

from segsvc.assets import demo_images
from segsvc.cli.converting import ready_runtime
from segsvc.cli.main import Exit
from segsvc.cli.run import execute, show_run, spread_cores
from segsvc.models.library import find_model
from segsvc.plan import read_input
from segsvc.runner import RunRequest
from segsvc.settings import settings
from segsvc.stores import store_of


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
        model = find_model(model_name)
        model.check_weights()
        chosen = ready_runtime(model, settings().runtime)
        workers, threads = spread_cores(None, None)
        click.echo(f"{model_name}: {model.card.description}")
        document = execute(RunRequest(
            source=read_input(str(folder)), model=model, runtime=chosen.runtime,
            out_uri=store_of(str(place)).folder(str(place)).uri, point=model.operating_point, workers=workers,
            threads=threads))
        codes.append(show_run(document, as_json=False))
        click.echo("")
    if not no_serve:
        click.echo("The review page is not part of this version: look at the reports above.", err=True)
    return max(codes, default=Exit.DONE)
