"""`segsvc export`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from segsvc import plugins
from segsvc.cli.ledger_flag import ledger_flag
from segsvc.cli.main import Exit
from segsvc.datasets import LABEL_SET
from segsvc.documents import ExportDocument, RunState, printable_path
from segsvc.errors import ConfigError
from segsvc.exporting import Decided, Verdict, export_run
from segsvc.ledger import effective, runs
from segsvc.ledger.opening import open_ledger, there_is_one
from segsvc.results import RunFolder
from segsvc.stores import store_of
from segsvc.summary import left_document
from segsvc.views import OpenRun


@click.command("export")
@click.argument("out")
@click.option("--format", "format_name", required=True, help="coco, png, geojson, cutout, csv or parquet.")
@click.option("--to", required=True, help="The file or folder that is written.")
@click.option("--verdict", type=click.Choice([each.value for each in Verdict]), default=Verdict.ACCEPTED.value,
              show_default=True, help="accepted: by a person, or by rule where nobody decided otherwise; all: every one. "
                                      "Both with masks and texts as people corrected them.")
@click.option("--as-of", help="Bands and decisions as they were at that time (ISO 8601; UTC where no zone is given).")
@ledger_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(out: str, format_name: str, to: str, verdict: str, as_of: str | None, place: str,
            as_json: bool) -> int:
    """Write what the run in OUT found in a form that other tools read.

    OUT may be label:SET, a set that people labelled here: as coco, or csv where whole images were labelled.
    """
    if out.startswith(LABEL_SET):
        return _export_labels(out, format_name, Path(to), place, as_json=as_json)
    run = OpenRun(RunFolder(store_of(out).folder(out)))
    writer = plugins.load(plugins.PluginKind.WRITER, format_name)
    when = _time(as_of)
    with _decided(place, run, when) as decided:
        count = export_run(run, writer, to=Path(to), verdict=Verdict(verdict), as_of=when, decided=decided)
    document = ExportDocument(format=format_name, to=printable_path(Path(to)), images=count.images,
                              candidates=count.candidates, files=count.files, unreadable_images=count.unreadable_images)
    if as_json:
        click.echo(document.model_dump_json(indent=2))
    else:
        click.echo(f"{_number(count.candidates, 'candidate')} of {_number(count.images, 'image')} in "
                   f"{_number(count.files, 'file')}: {to}")
    state = (run.folder.read_json("run.json") or {}).get("state")
    if state != RunState.SUCCEEDED:
        click.echo("note: the run is not finished; this is what is published so far. The same `segsvc run` goes on",
                   err=True)
    if count.unreadable_images:
        click.echo(f"note: {_number(count.unreadable_images, 'image')} could not be opened and left out", err=True)
    if count.candidates == 0 and verdict == Verdict.ACCEPTED.value:
        click.echo("note: no candidate is accepted by the bands in force, nor by a person; --verdict all exports every "
                   "stored one", err=True)
    return Exit.SOME_FAILED if count.unreadable_images else Exit.DONE


def _export_labels(dataset: str, format_name: str, to: Path, place: str, *, as_json: bool) -> int:
    from segsvc.labels.writing import write_set  # it loads what draws shapes: not for `segsvc export --help`

    if not there_is_one(place):
        raise ConfigError(f"{dataset}: expected a ledger at {place}, there is none. --ledger says where it is.")
    with open_ledger(place) as ledger:
        written = write_set(ledger, dataset, to, format_name=format_name,
                            say=lambda text: click.echo(f"note: {text}", err=True))
    document = ExportDocument(format=format_name, to=printable_path(to), images=written.images, candidates=written.labels,
                              files=1, unreadable_images=written.left_out)
    click.echo(document.model_dump_json(indent=2) if as_json else
               f"{_number(written.labels, 'label')} on {_number(written.images, 'image')} in 1 file: {to}")
    return Exit.SOME_FAILED if written.left_out else Exit.DONE


@contextmanager
def _decided(place: str, run: OpenRun, as_of: datetime | None) -> Iterator[Decided | None]:
    """What people decided of the run's candidates; None where no ledger holds it."""
    if not there_is_one(place):
        yield None
        return
    document = left_document(run.folder)
    with open_ledger(place) as ledger:
        known = document is not None and any(each.run_id == document.id for each in runs.all_runs(ledger))
        yield partial(effective.of, ledger, document.id, as_of=as_of) if document is not None and known else None


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--as-of: expected a time such as 2026-05-01T12:00:00Z, got {text!r}") from error
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
