"""`segsvc report`."""

from __future__ import annotations

import click
from pydantic import ValidationError

from segsvc.cli.ledger_flag import ledger_flag
from segsvc.cli.main import Exit
from segsvc.cli.progress import say
from segsvc.documents import ReportDocument, printable_path
from segsvc.errors import ConfigError, UnknownName
from segsvc.ledger.opening import open_ledger, there_is_one
from segsvc.ledger.pace import pace_at
from segsvc.ledger.reviewed import Reviewed
from segsvc.ledger.runs import all_runs
from segsvc.metrics_document import MetricsDocument
from segsvc.models.library import Model, find_model
from segsvc.results import RunFolder
from segsvc.stores import store_of
from segsvc.summary import left_document

_REPORT, _METRICS = "report.html", "metrics.json"


@click.command("report")
@click.argument("out", metavar="OUT_OR_MODEL")
@ledger_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(out: str, place: str, as_json: bool) -> int:
    """Write report.html of the run in OUT anew, or of a model: its figures, and what its calibration promises."""
    folder = RunFolder(store_of(out).folder(out))
    report, size_bytes = _of_run(folder, out, place) if folder.read_json("spec.json") is not None else _of_model(out, place)
    if as_json:
        click.echo(ReportDocument(report=printable_path(report), size_bytes=size_bytes).model_dump_json(indent=2))
    else:
        click.echo(report)
    return Exit.DONE


def _of_run(folder: RunFolder, place: str, ledger: str) -> tuple[str, int]:
    from segsvc.run_report import refresh  # loads what draws: not for `segsvc report --help`

    before = left_document(folder)
    if before is None:
        raise ConfigError(f"OUT: expected a run that was begun, got {place!r} without a run.json of this version. "
                          "Run the same `segsvc run` again.")
    try:
        _, size_bytes = refresh(folder, before, _reviewed(ledger, before.id))
    except OSError as error:
        raise ConfigError(f"OUT: expected a folder that can be written, got {place!r}: {error.strerror}") from error
    return f"{place.rstrip('/')}/report.html", size_bytes


def _reviewed(place: str, run_id: str) -> Reviewed | None:
    """What the ledger knows of the run; None where no ledger holds it."""
    if not there_is_one(place):
        return None
    from segsvc.ledger.review_of_run import review_of  # loads what bounds are computed by: not for --help

    with open_ledger(place) as ledger:
        return review_of(ledger, run_id) if any(run.run_id == run_id for run in all_runs(ledger)) else None


def _of_model(place: str, ledger: str) -> tuple[str, int]:
    try:
        model = find_model(place)
    except (UnknownName, ConfigError) as error:
        raise ConfigError(f"expected a run's folder or a model, got {place!r}: no spec.json there, and {error}") from error
    folder = store_of(model.place).folder(model.place)
    promises = model.operating_point is not None and model.operating_point.promise is not None
    if folder.tag(_REPORT) is None and ((model.folder / _METRICS).is_file() or not promises):
        page = _made_report(model)
        try:
            folder.put(_REPORT, page)
        except OSError as error:
            raise ConfigError(f"model {model.name}: expected a place that can be written for its report, got {model.place}: "
                              f"{error.strerror or error}") from error
    if promises:
        from segsvc.calibration.report import write_report  # loads what draws

        write_report(model, pace_at(ledger, say, model_digest=model.digest))
    return f"{model.place}/{_REPORT}", len(folder.read(_REPORT) or b"")


def _made_report(model: Model) -> bytes:
    """The report of the model's metrics.json, without pictures."""
    from segsvc.evaluation.report import render_evaluation  # loads what draws

    metrics, nothing = model.folder / _METRICS, f"model {model.name}: there is no {_REPORT} in {model.place}, and"
    if not metrics.is_file():
        raise ConfigError(f"{nothing} no metrics.json to make it of. `segsvc evaluate` makes both.")
    try:
        document = MetricsDocument.model_validate_json(metrics.read_bytes())
    except (ValidationError, OSError) as error:
        raise ConfigError(f"{nothing} its metrics.json is not what `segsvc evaluate` writes. Measure the model by it."
                          ) from error
    return render_evaluation(document).encode("utf-8", "replace")
