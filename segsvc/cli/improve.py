"""`segsvc improve`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from segsvc.cli.calibrate import CONFIDENCE, PRECISION, RECALL
from segsvc.cli.dataset_argument import resolve
from segsvc.cli.ledger_flag import ledger_flag
from segsvc.cli.main import Exit, Interrupted
from segsvc.cli.progress import say
from segsvc.documents import printable_path
from segsvc.improvement_documents import ImproveDocument
from segsvc.loaded import available_cores
from segsvc.models.library import find_model
from segsvc.settings import RuntimeChoice, settings
from segsvc.versions import place_of


@click.command("improve")
@click.argument("model_name", metavar="MODEL")
@click.option("--data", required=True, metavar="DATASET", help="Whole images that people labelled; a set that grows.")
@click.option("--from-review", "reviewed", multiple=True, metavar="DIR_OR_RUN",
              help="Decisions of a review to learn from as well; a folder of `datasets from-review`, a run's OUT or its id.")
@click.option("--name", help="The new version's name among the user's models. [default: MODEL's place]")
@click.option("--recall", type=float, default=RECALL, show_default=True, help="That both are calibrated for.")
@click.option("--precision", type=float, help=f"Of what is accepted by rule. [default: {PRECISION}, where it can be shown]")
@click.option("--confidence", type=float, default=CONFIDENCE, show_default=True, help="Of promise and comparison, each.")
@click.option("--margin", type=float, default=0.02, show_default=True, help="By so much the new one may be worse.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the images. [default: by their number]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of parts and training.")
@click.option("--threads", type=click.IntRange(1), help="[default: all cores]")
@click.option("--runtime", type=click.Choice([choice.value for choice in RuntimeChoice]), help="What computes the scores.")
@ledger_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(model_name: str, data: str, reviewed: tuple[str, ...], name: str | None, recall: float, precision: float | None,
            confidence: float, margin: float, epochs: int | None, seed: int, threads: int | None, runtime: str | None,
            place: str, as_json: bool) -> int:
    """Train MODEL on with new labels, and put the new version in its place where it is shown to be no worse.

    Of DATASET some images are learnt from, some calibrated on, and some, for ever, only compared on. The old version is
    kept: `segsvc models restore` puts it back. A new version that is not shown to be as good is kept as a candidate, which
    ends with 0 too.
    """
    from segsvc.calibration.choosing import Targets  # these load what draws and learns: not for --help
    from segsvc.cli.from_review import write_labels
    from segsvc.improving.improver import ImproveRequest, improve

    model, at = find_model(model_name), _place_in_force(model_name, name)
    targets = Targets(recall, PRECISION if precision is None else precision, confidence)
    with tempfile.TemporaryDirectory(prefix="segsvc-reviewed-") as folder:
        places = [each if _is_dataset(each) else write_labels(each, Path(folder, str(number)), place=place,
                                                              by_rule=False).dataset
                  for number, each in enumerate(reviewed)]
        asked = ImproveRequest(
            model=model, at=at, place=resolve(data, place), called=data, reviewed=tuple(places), targets=targets,
            demands_precision=precision is not None, margin=margin, seed=seed, threads=threads or available_cores(),
            epochs=epochs, runtime=RuntimeChoice(runtime) if runtime is not None else settings().runtime)
        try:
            done = improve(asked, say)
        except KeyboardInterrupt as error:
            raise Interrupted("The model in force is untouched. The same command goes on with what was learnt.") from error
    document = ImproveDocument(model=done.model.name, folder=printable_path(done.model.folder),
                               report=printable_path(done.report), improvement=done.improvement)
    click.echo(document.model_dump_json(indent=2) if as_json else _text(document, name or model_name))
    return Exit.DONE


def _place_in_force(model_name: str, name: str | None) -> Path:
    """Where the version in force is: MODEL's own place, or that of the name which is asked for. Raises ConfigError."""
    if name is not None:
        from segsvc.improving.improver import check_name

        check_name(name)
        return settings().models_dir / name
    return place_of(model_name)


def _is_dataset(place: str) -> bool:
    """Whether a place holds labels out of a review rather than a run."""
    return place.lower().endswith((".csv", ".json")) or Path(place, "annotations.json").is_file()


def _text(document: ImproveDocument, known_as: str) -> str:
    from segsvc.improving.report import FIGURES, sentence

    it = document.improvement
    rows = [f"model       {document.folder}", f"counted     {FIGURES[it.figure][1]}",
            f"compared    {sentence(it)}", *(f"note        {note}" for note in it.notes), f"report      {document.report}"]
    rows.append(f"back        segsvc models restore {known_as} {it.old[:12]}" if it.in_force else
                f"anyway      segsvc models restore {known_as} {it.new[:12]}")
    return "\n".join(rows)
