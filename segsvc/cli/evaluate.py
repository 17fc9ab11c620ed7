"""`segsvc evaluate`."""

from __future__ import annotations

import click

from segsvc.cli.dataset_argument import called, resolve
from segsvc.cli.ledger_flag import labels_flag
from segsvc.cli.main import Exit, Interrupted
from segsvc.cli.progress import ProgressDisplay, say
from segsvc.loaded import available_cores
from segsvc.metrics_document import MetricsDocument
from segsvc.models.library import find_model
from segsvc.quality.figures import Figure
from segsvc.settings import RuntimeChoice, settings

# figure: how it is called in a table
LABELS = {"dice": "Dice at 0.5", "iou": "IoU at 0.5", "ap50": "AP50", "ap": "AP50:95", "ar": "AR50:95",
          "object_recall": "objects found", "object_precision": "candidates right", "accuracy": "accuracy",
          "f1": "F1 at 0.5", "average_precision": "average precision", "roc_area": "area below ROC"}


@click.command("evaluate")
@click.argument("model_name", metavar="MODEL")
@click.option("--data", "place", required=True, metavar="DATASET", help="Labelled images.")
@click.option("--split", help="A split of the set. [default: test if the set names it, else all images]")
@click.option("--out", required=True, help="A folder for metrics.json and report.html.")
@click.option("--slice", "slices", multiple=True, metavar="COLUMN",
              help="Figures by the values of a column; may be repeated. [default: all columns with 2 to 20 values]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the intervals' resamples.")
@click.option("--threads", type=click.IntRange(1), help="[default: all cores]")
@click.option("--runtime", type=click.Choice([choice.value for choice in RuntimeChoice]),
              help="What computes the scores. [default: CUDA where there is a GPU, else OpenVINO]")
@labels_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: what metrics.json holds.")
def command(model_name: str, place: str, split: str | None, out: str, slices: tuple[str, ...], seed: int,
            threads: int | None, runtime: str | None, ledger: str, as_json: bool) -> int:
    """Measure MODEL on labelled images: metrics.json, and a report that says how sure the figures are."""
    from segsvc.converting import ready_runtime  # these load what draws: not for `segsvc evaluate --help`
    from segsvc.evaluation.evaluating import evaluate, request

    asked = request(find_model(model_name), resolve(place, ledger), split=split, slices=slices, out=out,
                    called=called(place))
    choice = RuntimeChoice(runtime) if runtime is not None else settings().runtime
    display = ProgressDisplay()
    try:
        document = evaluate(asked, ready_runtime(asked.model, choice, say), threads=threads or available_cores(), seed=seed,
                            progress=display)
    except KeyboardInterrupt as error:
        raise Interrupted(f"Nothing was written to {out}.") from error
    finally:
        display.close()
    click.echo(document.to_json() if as_json else _text(document, out), nl=not as_json)
    return Exit.SOME_FAILED if document.failed else Exit.DONE


def _text(document: MetricsDocument, out: str) -> str:
    rows = [f"{LABELS.get(name, name):18}{shown(figure)}" for name, figure in document.figures.items()]
    of = f"{document.images} images" + (f" of the split {document.data.split}" if document.data.split else "")
    sure = document.sureness
    by = f", intervals of {sure.confidence:.0%} by {sure.units} {sure.unit}s" if sure.resamples else ""
    return "\n".join([f"{document.model.name} on {of}{by}", *rows, *(f"note: {note}" for note in document.notes),
                      f"{out.rstrip('/')}/report.html"])


def shown(figure: Figure) -> str:
    """A figure with its interval, in words where it is undefined."""
    if figure.value is None:
        return "undefined on these images"
    interval = f"  ({figure.low:.3f} to {figure.high:.3f})" if figure.low is not None and figure.high is not None else ""
    return f"{figure.value:.3f}{interval}"
