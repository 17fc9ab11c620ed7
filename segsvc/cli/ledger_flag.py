"""`--ledger`, for every command that needs one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from segsvc.settings import settings

Command = Callable[..., int]


def ledger_flag(command: Command) -> Command:
    """Adds `--ledger`; the command is given the `place` as the flag or the settings say."""
    return click.option("--ledger", "place", metavar="DIR_OR_URL", callback=_as_set,
                        help="Where the ledger is: a folder, or postgresql://... By default SEGSVC_LEDGER or ./segsvc-data."
                        )(command)


def labels_flag(command: Command) -> Command:
    """The same for commands that take a DATASET, which may be a label set; they are given it as `ledger`."""
    return click.option("--ledger", "ledger", metavar="DIR_OR_URL", callback=_as_set,
                        help="Where the ledger is, for a DATASET label:SET. By default SEGSVC_LEDGER or ./segsvc-data."
                        )(command)


def _as_set(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str:
    return value if value is not None else settings().ledger


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Rows of cells in columns."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
