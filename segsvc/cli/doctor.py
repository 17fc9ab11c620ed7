"""`segsvc doctor`."""

from __future__ import annotations

import shutil
import textwrap

import click

from segsvc.cli.main import Exit
from segsvc.diagnosis import diagnose
from segsvc.documents import DoctorDocument


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_json: bool) -> int:
    """Look at versions, runtimes, GPU, SQLite, models and rights; exit 1 where something must be mended."""
    checks = diagnose()
    document = DoctorDocument(ok=all(check.ok for check in checks), checks=checks)
    if as_json:
        click.echo(document.model_dump_json(indent=2))
    else:
        for check in checks:
            lines = _lines(check.found) + (_lines(check.advice) if check.advice is not None else [])
            click.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:18}  {lines[0]}")
            for line in lines[1:]:
                click.echo(f"{'':26}{line}")
    return Exit.DONE if document.ok else Exit.FAILED


def _lines(text: str) -> list[str]:
    width = max(40, shutil.get_terminal_size((120, 24)).columns - 26)
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
