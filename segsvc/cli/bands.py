"""The flags that set bands, the same for `run` and `band`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def band_flags(command: _Command) -> _Command:
    """Adds --recall --precision --flag-at --accept-at to a command."""
    share = click.FloatRange(0, 1, min_open=True, max_open=True)
    score = click.FloatRange(0, 1)
    for name, kind, text in reversed((
        ("--recall", share, "Bands out of the model's calibration: at least this share of objects is flagged."),
        ("--precision", share, "With --recall: at least this share of what is accepted by rule is right."),
        ("--flag-at", score, "Bands by hand: a candidate with a lower score is rejected by rule."),
        ("--accept-at", score, "With --flag-at: from this score on a candidate is accepted by rule."),
    )):
        command = click.option(name, type=kind, help=text)(command)
    return command
