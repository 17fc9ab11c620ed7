"""`segsvc datasets from-review`."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from segsvc.cli.ledger_flag import ledger_flag
from segsvc.cli.main import Exit
from segsvc.documents import printable_path
from segsvc.errors import ConfigError
from segsvc.improvement_documents import VerdictLabelsDocument
from segsvc.results import RunFolder
from segsvc.stores import store_of
from segsvc.summary import left_document
from segsvc.views import OpenRun


@click.command("from-review")
@click.argument("run", metavar="OUT_OR_RUN")
@click.option("--to", required=True, help="A new or empty folder for the labels.")
@click.option("--by-rule", is_flag=True, help="Take what rules accepted as accepted; by default people's decisions alone.")
@ledger_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def from_review(run: str, to: str, by_rule: bool, place: str, as_json: bool) -> int:
    """Write what people decided in a review as labels to train on: OUT of a run, or its id in the ledger.

    What was accepted or corrected is an object, what was rejected is none, and all the rest of an image is not known and is
    ignored. Such a set is for training alone: nobody looked where the model saw nothing, so `segsvc calibrate` refuses it.
    """
    document = write_labels(run, Path(to), place=place, by_rule=by_rule)
    if as_json:
        click.echo(document.model_dump_json(indent=2))
        return Exit.DONE
    rows = [f"dataset     {document.dataset}", f"labels      {document.images} images, {document.objects} objects, "
            f"{document.rejected} that are none", f"decided by  {', '.join(document.decided_by)}"]
    rows += [f"left out    {count} images {why}" for why, count in document.left_out.items()]
    click.echo("\n".join([*rows, f"next        segsvc train {document.dataset} --task TASK --out OUT"]))
    return Exit.DONE


def write_labels(run: str, to: Path, *, place: str, by_rule: bool) -> VerdictLabelsDocument:
    """Writes the labels of a run into a folder. Raises ConfigError for whatever is wrong before anything is written."""
    from segsvc.labels.verdicts import verdict_labels
    from segsvc.ledger import effective, run_labels, runs  # these load SQL and numba: not for --help
    from segsvc.ledger.opening import open_ledger, there_is_one
    from segsvc.models.checkpoint import write_whole

    if not there_is_one(place):
        raise ConfigError(f"--ledger: expected a ledger with decisions, there is none at {place!r}. Take the run in by "
                          "`segsvc review import OUT` and review it.")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"--to {to}: expected a new or empty folder, got one with files in it")
    as_of = datetime.now(UTC)
    with open_ledger(place) as ledger:
        opened, run_id = _opened(run, {each.run_id: each.out for each in runs.all_runs(ledger)}, place)
        made = verdict_labels(opened, partial(effective.of, ledger, run_id, as_of=as_of), run_labels.of_run(ledger, run_id),
                              run_id=run_id, as_of=as_of, by_rule=by_rule)
    name, data = made.file()
    write_whole(to / name, data)
    return VerdictLabelsDocument(
        run_id=run_id, dataset=printable_path(to / name if made.of_whole_images else to), as_of=as_of.isoformat(),
        decided_by=list(made.origin.by), images=len(made.images), objects=made.objects, rejected=made.rejected,
        left_out=dict(sorted(made.left_out.items())))


def _opened(run: str, outs: dict[str, str], place: str) -> tuple[OpenRun, str]:
    """A run of the ledger by its id or its OUT."""
    out = outs.get(run, run)
    folder = RunFolder(store_of(out).folder(out))
    document = left_document(folder)
    if document is None or document.id not in outs:
        known = ", ".join(list(outs)[:5]) or "it has none"
        raise ConfigError(f"expected a run of the ledger at {place}, by its OUT or its id ({known}); got {run!r}. "
                          "`segsvc review import OUT` takes one in.")
    return OpenRun(folder), document.id
