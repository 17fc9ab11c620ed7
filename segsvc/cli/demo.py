"""`segsvc demo`."""

from __future__ import annotations

from pathlib import Path

import click

from segsvc.asking import Asked, Place, request_of
from segsvc.assets import IMAGENET, WINDOWS, demo_images
from segsvc.cli.ledger_flag import ledger_flag
from segsvc.cli.main import Exit
from segsvc.cli.progress import say
from segsvc.cli.run import execute, inline, show_run
from segsvc.cli.serve import DEFAULT_HOST, DEFAULT_PORT, serve_page
from segsvc.settings import settings

LABEL_SET = "demo"
_LABELLED = 40


@click.command("demo")
@click.option("--out", default="segsvc-demo", show_default=True, help="Where the demo's runs are written.")
@click.option("--no-serve", is_flag=True, help="Only run; do not serve the review page.")
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Where the review page is reached.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any that is free.")
@ledger_flag
@click.option("--open/--no-open", "opens", default=False, help="Open the page in the browser.")
def command(out: str, no_serve: bool, host: str, port: int, place: str, opens: bool) -> int:
    """Segment real nuclei and classify real photos with the models that came along, and serve the review page on them.

    OUT is the run over the nuclei, OUT/imagenet the one over the photos; each has its report.html. OUT/windows is one over
    small images of nuclei, of which a label set is drawn for you: label it at /label, and see what a promise takes.
    """
    codes = []
    outs = {"nuclei": Path(out), IMAGENET: Path(out) / IMAGENET, WINDOWS: Path(out) / WINDOWS}
    for name, folder in outs.items():
        images = demo_images(settings().assets_dir, name)
        model_name = "nuclei" if name == WINDOWS else name
        request = request_of(Asked(input=str(images), model=model_name, out=str(folder)), Place(), say)
        click.echo(f"{model_name}: {request.model.card.description}")
        codes.append(show_run(execute(request, inline), as_json=False))
        click.echo("")
    if not no_serve:
        _draw(outs[WINDOWS], place)
        # the latest import stands first in the list: the nuclei
        serve_page(place, host=host, port=port, opens=opens, imports=[str(folder) for folder in reversed(outs.values())])
    return max(codes, default=Exit.DONE)


def _draw(out: Path, place: str) -> None:
    """Draws the label set of the demo, if it is not there yet."""
    from segsvc.cli.errand import do  # these load the ledger: not for `segsvc demo --help`
    from segsvc.ledger import label_sets
    from segsvc.ledger.errands import DrawSample
    from segsvc.ledger.label_records import WhereDiffer
    from segsvc.ledger.opening import open_ledger, there_is_one
    from segsvc.ledger_documents import SampleDocument

    if there_is_one(place):
        with open_ledger(place) as ledger:
            if any(each.name == LABEL_SET for each in label_sets.all_sets(ledger)):
                return
    do(place, DrawSample(source=str(out.absolute()), n=_LABELLED, name=LABEL_SET, seed=0, grouped_by=None, class_names=[],
                         task=None, model=None, readers=1, where_differ=WhereDiffer.EITHER, more=False), SampleDocument)
    say(f"label set {LABEL_SET}: {_LABELLED} images drawn from {out}, to be labelled at /label")
