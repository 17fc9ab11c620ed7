"""Generated classes whose objects depend on each other within units, and what is true of them in closed form.

The normal score of an object in a unit of n objects is ease - crowding (n - mean n) + sqrt(alike) e + sqrt(1 - alike) x:
e is the unit's own and x the object's, both standard normal. So objects of a unit are found or missed together, and those of
crowded units are harder. Beside them a unit has a Poisson number of candidates that find nothing, whose normal scores are
OTHERS + e / 2 + sqrt(3) x / 2. The score is Phi of the normal score. Units are independent of each other; of several
classes, a unit's numbers of objects and its e depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from segsvc.quality.thresholds import Tally

Floats = npt.NDArray[np.float64]

OTHERS = -1.2  # the mean normal score of what finds nothing
_SHARED = 0.5  # of the variance of what is a unit's own, among classes
_NODES = 96  # of the integral over a unit's e
_LOWEST, _HIGHEST = -8.0, 8.0  # normal scores between which thresholds are looked for


@dataclass(frozen=True, slots=True)
class Crowd:
    """One class: `fewest` to `most` objects a unit, each number as likely, and `others` candidates that find nothing."""

    fewest: int = 1
    most: int = 20
    ease: float = 1.2
    crowding: float = 0.06
    alike: float = 0.6
    others: float = 12.0

    @property
    def objects(self) -> float:
        """The mean number of objects a unit."""
        return (self.fewest + self.most) / 2

    def missed(self, scores: Floats | float) -> Floats:
        """The share of all objects whose score is below each of (n,)."""
        counts, means = self._numbers()
        each = ndtr(np.atleast_1d(ndtri(scores))[:, None] - means)
        missed: Floats = each @ counts / counts.sum()
        return missed

    def flagged(self, scores: Floats | float) -> Floats:
        """The mean number of candidates a unit whose score is at least each of (n,)."""
        flagged: Floats = self.objects * (1 - self.missed(scores)) + self._wrong(scores)
        return flagged

    def precision(self, scores: Floats | float) -> Floats:
        """The share of the candidates with at least each of the scores (n,) that find an object."""
        right = self.objects * (1 - self.missed(scores))
        precision: Floats = right / (right + self._wrong(scores))
        return precision

    def flag_at(self, recall: float) -> float:
        """The oracle's: the highest score from which that recall is reached."""
        return float(ndtr(brentq(lambda z: float(self.missed(ndtr(z))[0]) - (1 - recall), _LOWEST, _HIGHEST)))

    def accept_at(self, precision: float) -> float:
        """The oracle's: the lowest score from which that precision is reached; it rises with the score here."""
        return float(ndtr(brentq(lambda z: float(self.precision(ndtr(z))[0]) - precision, _LOWEST, 4.0)))

    def deviation(self, scores: Floats, *, missing: float) -> Floats:
        """The standard deviation of missing x objects - missed over units, at each of the scores (n,).

        Given n and e, the number of missed ones is binomial; over e by Gauss-Hermite quadrature.
        """
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        counts, means = self._numbers()
        away = ndtri(scores)[:, None, None] - means[:, None] - math.sqrt(self.alike) * nodes
        each = ndtr(away / math.sqrt(1 - self.alike))
        number = counts[:, None]
        square = number * each * (1 - each) + (number * (missing - each)) ** 2
        mean_square = (square @ weights).mean(axis=1) / weights.sum()
        mean = self.objects * (missing - self.missed(scores))
        deviation: Floats = np.sqrt(mean_square - mean**2)
        return deviation

    def _wrong(self, scores: Floats | float) -> Floats:
        wrong: Floats = self.others * ndtr(OTHERS - np.atleast_1d(ndtri(scores)))
        return wrong

    def _numbers(self) -> tuple[Floats, Floats]:
        """The numbers of objects that a unit may have, and the mean normal score in such a unit."""
        counts = np.arange(self.fewest, self.most + 1, dtype=np.float64)
        return counts, self.ease - self.crowding * (counts - self.objects)


def drawn(crowds: Sequence[Crowd], n_units: int, *, seed: tuple[int, ...]) -> list[Tally]:
    """The same units seen by each class."""
    random = np.random.default_rng(seed)
    crowded, hard = random.normal(size=n_units), random.normal(size=n_units)
    return [_drawn(crowd, crowded, hard, random) for crowd in crowds]


def _drawn(crowd: Crowd, crowded: Floats, hard: Floats, random: np.random.Generator) -> Tally:
    n_units = len(crowded)
    levels = ndtr(_own(crowded, random)) * (crowd.most - crowd.fewest + 1)
    count = crowd.fewest + np.minimum(levels.astype(np.int64), crowd.most - crowd.fewest)
    effect = _own(hard, random)
    unit, other_unit = (np.repeat(np.arange(n_units), number) for number in (count, random.poisson(crowd.others, n_units)))
    normal = (crowd.ease - crowd.crowding * (count[unit] - crowd.objects) + math.sqrt(crowd.alike) * effect[unit]
              + math.sqrt(1 - crowd.alike) * random.normal(size=len(unit)))
    others = OTHERS + 0.5 * effect[other_unit] + math.sqrt(0.75) * random.normal(size=len(other_unit))
    return Tally(n_units, unit, ndtr(normal), np.concatenate([unit, other_unit]),
                 ndtr(np.concatenate([normal, others])), np.arange(len(unit) + len(other_unit)) < len(unit))


def _own(shared: Floats, random: np.random.Generator) -> Floats:
    """(n_units,) standard normal, of which a part is shared among classes."""
    own: Floats = math.sqrt(_SHARED) * shared + math.sqrt(1 - _SHARED) * random.normal(size=len(shared))
    return own
