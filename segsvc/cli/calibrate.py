"""`segsvc calibrate`."""

from __future__ import annotations

import click

from segsvc.cli.dataset_argument import called, resolve
from segsvc.cli.ledger_flag import labels_flag
from segsvc.cli.main import Exit, Interrupted
from segsvc.cli.progress import ProgressDisplay, say
from segsvc.documents import CalibrationDocument, CalibrationFailure, printable_path
from segsvc.loaded import available_cores
from segsvc.models.library import find_model
from segsvc.operating_point import Promise
from segsvc.settings import RuntimeChoice, settings

RECALL = PRECISION = CONFIDENCE = 0.95


@click.command("calibrate")
@click.argument("model_name", metavar="MODEL")
@click.option("--data", "place", required=True, metavar="DATASET", help="Labelled images that MODEL was not trained on.")
@click.option("--split", help="A split of the set. [default: calibration if the set names it, else all images]")
@click.option("--recall", type=float, default=RECALL, show_default=True, help="Of the objects, flagged at the least.")
@click.option("--precision", type=float, help="Of the candidates accepted by rule, right at the least. Given, it must be "
                                              f"shown. [default: {PRECISION}, where it can be shown]")
@click.option("--confidence", type=float, default=CONFIDENCE, show_default=True, help="That all of it holds.")
@click.option("--class", "classes", multiple=True, metavar="NAME",
              help="A class to calibrate; may be repeated. [default: all]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of all that is drawn.")
@click.option("--threads", type=click.IntRange(1), help="[default: all cores]")
@click.option("--runtime", type=click.Choice([choice.value for choice in RuntimeChoice]),
              help="What computes the scores; the promise holds for it alone. [default: CUDA where there is a GPU, else "
                   "OpenVINO]")
@labels_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(model_name: str, place: str, split: str | None, recall: float, precision: float | None, confidence: float,
            classes: tuple[str, ...], seed: int, threads: int | None, runtime: str | None, ledger: str,
            as_json: bool) -> int:
    """Choose MODEL's thresholds so that a recall is promised, and write them beside it with what shows them.

    Candidates are flagged from a score on from which at least --recall of the objects are found, with --confidence over
    the draw of the labelled images, and accepted by rule from where --precision of them are right. Data that cannot show
    the recall are told what they can show, and how much more would do.
    """
    from segsvc.calibration.calibrating import calibrate, request  # these load what draws: not for --help
    from segsvc.calibration.choosing import Targets
    from segsvc.calibration.report import sentence
    from segsvc.converting import ready_runtime
    from segsvc.ledger.pace import pace_at

    targets = Targets(recall, PRECISION if precision is None else precision, confidence)
    asked = request(find_model(model_name), resolve(place, ledger), split=split, classes=classes, targets=targets,
                    demands_precision=precision is not None, seed=seed, called=called(place))
    for note in asked.notes:
        say(f"note: {note}")
    choice = RuntimeChoice(runtime) if runtime is not None else settings().runtime
    display = ProgressDisplay()
    try:
        done = calibrate(asked, ready_runtime(asked.model, choice, say), threads=threads or available_cores(),
                         pace=pace_at(ledger, say, model_digest=asked.model.digest), progress=display)
    except KeyboardInterrupt as error:
        raise Interrupted("Nothing was written.") from error
    finally:
        display.close()
    says = sentence(done.point, done.promise, done.model.card.class_names)
    document = CalibrationDocument(
        model=done.model.name, digest=done.model.digest, folder=printable_path(done.model.place),
        operating_point=done.point, says=says, notes=list(done.notes),
        failed=[CalibrationFailure(image_uri=uri, error=error) for uri, error in done.failed],
        report=printable_path(done.report))
    click.echo(document.model_dump_json(indent=2) if as_json else _text(document, done.promise))
    return Exit.SOME_FAILED if done.failed else Exit.DONE


def _text(document: CalibrationDocument, promise: Promise) -> str:
    point = document.operating_point
    rows = [f"model       {document.folder}", f"promise     {document.says}"]
    for name, proof in point.proofs.items():
        at = point.classes[name]
        rows.append(f"{name[:10]:10}  flag at {at.flag_at:.4g}, "
                    + (f"accept at {at.accept_at:.4g}" if at.accept_at is not None else "accept none by rule")
                    + f"; {proof.objects} objects in {proof.units_with_objects} {promise.unit}s, "
                      f"{proof.flagged_per_1000_images(at):,.0f} candidates flagged a thousand images")
    rows += [f"note        {note}" for note in document.notes]
    return "\n".join([*rows, f"report      {document.report}"])
