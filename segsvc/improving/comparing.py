"""Two models on the same images: how much better or worse the new one is, unit by unit, and what can be said of others.

The figure of an image lies between 0 and 1. Of objects, and of several classes of an image, it is Dice's, counted in objects
at the score from which candidates are flagged: (objects found + candidates right) / (objects + candidates), 1 where there
are neither; so missed objects and wrong candidates, which cost people time, count alike. Where an image has exactly one
class, it is whether the highest score is that class's. A unit's figure is the mean of its images'.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from segsvc.quality.bounds import Guess, shows_gain
from segsvc.quality.observations import FoundTally

Floats = npt.NDArray[np.float64]

_STEP = 0.005  # of the bound
_LEAST_SQUARE = 1e-4


class FigureKind(StrEnum):
    """What is counted of an image."""

    OBJECT_DICE = "object_dice"
    ACCURACY = "accuracy"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The old and the new model on a test set: their means over units, the mean difference, and its lower bound.

    With `confidence` over the draw of the units, the new one is better than the old by `lower` at the least, which is below
    0 where it may be worse. It is `not_worse` where that is no more than `margin` below 0.
    """

    kind: FigureKind
    unit: str
    units: int
    images: int
    old: float
    new: float
    lower: float
    margin: float
    confidence: float
    better_units: int
    worse_units: int

    @property
    def difference(self) -> float:
        return self.new - self.old

    @property
    def not_worse(self) -> bool:
        return self.lower >= -self.margin - _STEP / 1e3


def image_figure(found: FoundTally, flag_at: Sequence[float], kind: FigureKind) -> float:
    """The figure of an image. flag_at: of each class, by its number."""
    if kind is FigureKind.ACCURACY:
        if not found.candidate_score.size or not found.object_class.size:
            return 0.0
        return float(found.candidate_class[found.candidate_score.argmax()] in found.object_class)
    at = np.asarray(flag_at, np.float64)
    is_found = found.object_score >= at[found.object_class]
    is_said = found.candidate_score >= at[found.candidate_class]
    whole = is_found.size + int(is_said.sum())
    return float(int(is_found.sum()) + int((is_said & found.candidate_right).sum())) / whole if whole else 1.0


def unit_means(figures: Sequence[float], units: Sequence[str]) -> Floats:
    """The mean of each unit, in an order that their names alone decide."""
    of_unit: dict[str, list[float]] = {}
    for figure, unit in zip(figures, units, strict=True):
        of_unit.setdefault(unit, []).append(figure)
    order = sorted(of_unit, key=lambda unit: hashlib.sha256(unit.encode("utf-8", "surrogatepass")).digest())
    return np.array([np.mean(of_unit[unit]) for unit in order], np.float64)


def lower_bound(differences: Floats, *, anchor: float, confidence: float, guess: float) -> float:
    """A lower bound for the mean of differences (n,), each between -1 and 1, of units that were drawn independently.

    Hypotheses "the mean is at most m", with m rising from -1 on by steps one of which is `anchor`, are tested one by one by
    bets (`quality.bounds.shows_gain`) until one is not refuted; the last m that was is the bound, -1 where none was. The
    probability that it lies above the mean is at most 1 - confidence, for any n and any distribution (fixed sequence: the
    first true hypothesis must be refuted for that). guess: the mean square of differences that is expected, from other
    units.
    """
    bound = -1.0
    for step in range(1 - round((anchor + 1) / _STEP), round((1 - anchor) / _STEP)):
        tested = anchor + step * _STEP
        if not shows_gain(differences - tested, most_loss=1 + tested, delta=1 - confidence,
                          guess=Guess(max(_LEAST_SQUARE, guess + tested * tested))):
            break
        bound = tested
    return bound


def compare(old: Floats, new: Floats, *, kind: FigureKind, unit: str, images: int, margin: float, confidence: float,
            guess: float) -> Comparison:
    """The comparison of two models by their figures of the same units, in the order of `unit_means`.

    guess: the mean square of the differences that is expected, from other units.
    """
    differences = new - old
    lower = lower_bound(differences, anchor=-margin, confidence=confidence, guess=guess)
    return Comparison(kind=kind, unit=unit, units=len(old), images=images, old=float(old.mean()), new=float(new.mean()),
                      lower=round(lower, 6), margin=margin, confidence=confidence,
                      better_units=int((differences > 0).sum()), worse_units=int((differences < 0).sum()))
