"""`segsvc ledger`."""

from __future__ import annotations

from pathlib import Path

import click

from segsvc.cli.ledger_flag import ledger_flag
from segsvc.cli.main import CommandGroup, Exit
from segsvc.documents import printable_path
from segsvc.errors import ConfigError
from segsvc.ledger import backup
from segsvc.ledger.engine import shown
from segsvc.ledger.opening import open_ledger, there_is_one
from segsvc.ledger_documents import LedgerFileDocument


@click.group("ledger", cls=CommandGroup)
def command() -> None:
    """Back the ledger up while it runs, and restore it."""


@command.command("backup")
@click.argument("to", type=click.Path(path_type=Path))
@ledger_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def backup_(to: Path, place: str, as_json: bool) -> int:
    """Write all of the ledger into the file TO, as it is at one moment; a server may go on."""
    if not there_is_one(place):
        raise ConfigError(f"ledger: expected a ledger to back up, got {place!r}, where there is none")
    with open_ledger(place) as ledger:
        size_bytes = backup.backup(ledger, to)
    return _say(place, to, size_bytes, as_json)


@command.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@ledger_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def restore_(file: Path, place: str, as_json: bool) -> int:
    """Make a ledger of a backup, where there is none yet: in a folder, or in a PostgreSQL, whatever it came from."""
    backup.restore(file, place)
    return _say(place, file, file.stat().st_size, as_json)


def _say(place: str, file: Path, size_bytes: int, as_json: bool) -> int:
    document = LedgerFileDocument(ledger=printable_path(shown(place)), file=printable_path(file), size_bytes=size_bytes)
    click.echo(document.model_dump_json(indent=2) if as_json else f"{document.ledger}: {size_bytes} bytes, {document.file}")
    return Exit.DONE
