"""The flags that set bands, the same for `run` and `band`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from segsvc.card import Basis, OperatingPoint
from segsvc.errors import ConfigError
from segsvc.models.library import Model
from segsvc.runner import by_hand

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class BandFlags:
    """What was asked of the bands on the command line."""

    recall: float | None
    precision: float | None
    flag_at: float | None
    accept_at: float | None

    @property
    def is_empty(self) -> bool:
        return (self.recall, self.precision, self.flag_at, self.accept_at) == (None, None, None, None)


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


def operating_point(flags: BandFlags, model: Model | None) -> OperatingPoint | None:
    """The operating point that was asked for; without flags the model's own, None where it has none.

    model: None where the model of a run is not here any more; bands by hand need none.

    Raises ConfigError where the flags contradict each other or ask for a calibration that the model does not have.
    """
    if flags.recall is not None or flags.precision is not None:
        if flags.flag_at is not None or flags.accept_at is not None:
            raise ConfigError("bands: expected --recall/--precision or --flag-at/--accept-at, got both")
        if model is None:
            raise ConfigError("--recall: expected the run's model with its calibration, it is not here or was changed. "
                              "Set the bands by hand: --flag-at S [--accept-at S].")
        basis = model.operating_point.basis if model.operating_point is not None else None
        if basis is not Basis.CALIBRATED:
            came = "an operating point that was measured, not guaranteed" if basis is Basis.MEASURED else "none"
            raise ConfigError(f"--recall: expected a model with its own calibration, {model.name} has {came}. "
                              "Set the bands by hand: --flag-at S [--accept-at S].")
        raise ConfigError("--recall: this version cannot choose bands out of a calibration. "
                          "Set them by hand: --flag-at S [--accept-at S].")
    if flags.flag_at is None:
        if flags.accept_at is not None:
            raise ConfigError("--accept-at: expected --flag-at with it, got --accept-at alone")
        return model.operating_point if model is not None else None
    if model is not None and flags.flag_at < (floor := model.card.extraction.floor):
        click.echo(f"note: {model.name} stores candidates from score {floor:g} on; nothing below is there to be flagged",
                   err=True)
    return by_hand(flags.flag_at, flags.accept_at, now=datetime.now(UTC))
