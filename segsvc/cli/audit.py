"""`segsvc audit`."""

from __future__ import annotations

import click

from segsvc.cli.ledger_flag import ledger_flag
from segsvc.cli.main import CommandGroup, Exit
from segsvc.documents import printable_path
from segsvc.errors import ConfigError
from segsvc.ledger.opening import open_ledger, there_is_one
from segsvc.ledger.verifying import MOST_FAULTS, verify
from segsvc.ledger_documents import AuditDocument, FaultDocument

_SHOWN = 20


@click.group("audit", cls=CommandGroup)
def command() -> None:
    """Check the record of decisions."""


@command.command("verify")
@ledger_flag
@click.option("--anchors", metavar="FILE_OR_URI", help="Where the chain's heads are noted; by default as in the settings.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def verify_(place: str, anchors: str | None, as_json: bool) -> int:
    """Say whether any decision was changed, cut, swapped or put in since it was made. Exit 1 if so."""
    if not there_is_one(place):
        raise ConfigError(f"ledger: expected a ledger to check, got {place!r}, where there is none")
    with open_ledger(place) as ledger:
        found = verify(ledger, anchors)
        document = AuditDocument(
            ok=not found.faults, ledger=printable_path(ledger.shown),
            anchors_in=printable_path(anchors if anchors is not None else ledger.anchors.place),
            decisions=found.decisions, batches=found.batches, anchors=found.anchors, head=found.head,
            faults=[FaultDocument(kind=each.kind.value, where=each.where, says=each.says) for each in found.faults])
    click.echo(document.model_dump_json(indent=2) if as_json else "\n".join(_lines(document)))
    if document.decisions and not document.anchors:
        click.echo("note: no anchor is noted yet, so that an end that was cut off would not be found", err=True)
    return Exit.DONE if document.ok else Exit.FAILED


def _lines(document: AuditDocument) -> list[str]:
    lines = [f"{fault.kind:9} {fault.where}: {fault.says}" for fault in document.faults[:_SHOWN]]
    if len(document.faults) > _SHOWN:
        more = "at least " if len(document.faults) == MOST_FAULTS else ""
        lines.append(f"... and {more}{len(document.faults) - _SHOWN} more (--json lists them)")
    return [*lines, f"{document.decisions} decisions in {document.batches} batches against {document.anchors} anchors: "
                    + ("whole" if document.ok else "NOT whole")]
