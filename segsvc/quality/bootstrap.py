"""How sure a figure is: percentile intervals of a bootstrap over the units that were drawn together.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), ch. 13: units are drawn with replacement, as many as
there are, the figure is computed anew, and the interval holds the middle 95 % of what came. Px or objects of one image,
and images of one patient or street, are not independent: the unit is the group where the data names one, else the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segsvc.quality.figures import UNDEFINED, Figure

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

CONFIDENCE = 0.95
FEWEST_UNITS = 2  # below, nothing is known of how figures vary
_MOST_UNDEFINED = 0.5  # of the resamples; beyond, an interval of the others would say too much
_ROUNDING = 1e-9
_BLOCK = 1 << 21  # weights that are multiplied at once


class Resamples:
    """The sample as it is, and `n` resamples of its units: what is counted an image becomes `n + 1` totals.

    With fewer than 2 units there is the sample alone, and figures come without an interval.
    """

    def __init__(self, units: Sequence[str], *, n: int, seed: int) -> None:
        """units: the unit of each image."""
        names, of_image = np.unique(np.asarray(units, dtype=np.str_), return_inverse=True)
        self.of_image: npt.NDArray[np.int64] = of_image.astype(np.int64).reshape(-1)
        self.n_units = len(names)
        self._order = np.argsort(self.of_image, kind="stable")
        self._starts = np.searchsorted(self.of_image[self._order], np.arange(self.n_units))
        drawn = n if self.n_units >= FEWEST_UNITS else 0
        self.weights: npt.NDArray[np.uint16] = np.ones((drawn + 1, self.n_units), np.uint16)
        random = np.random.default_rng(seed)
        for row in range(1, drawn + 1):
            of_units = np.bincount(random.integers(0, self.n_units, self.n_units), minlength=self.n_units)
            self.weights[row] = np.minimum(of_units, np.iinfo(np.uint16).max)

    @property
    def n(self) -> int:
        """How many resamples there are besides the sample itself."""
        return len(self.weights) - 1

    def totals(self, counted: Ints) -> Floats:
        """(n + 1, ...) the totals of what was counted an image (images, ...): the sample's own, then the resamples'.

        Whole numbers up to 2**53 are exact, so that the totals do not depend on the order of adding.
        """
        of_units = np.add.reduceat(counted[self._order].astype(np.float64), self._starts, axis=0)
        flat = of_units.reshape(self.n_units, -1)
        found = np.empty((len(self.weights), flat.shape[1]))
        block = max(1, _BLOCK // max(1, self.n_units))
        for start in range(0, len(self.weights), block):
            found[start: start + block] = self.weights[start: start + block].astype(np.float64) @ flat
        return found.reshape(-1, *counted.shape[1:])


def figure(values: Floats) -> Figure:
    """The figure of the sample (values[0]) with the interval of the resamples (values[1:]); NaN is undefined."""
    value = float(values[0])
    if math.isnan(value):
        return UNDEFINED
    drawn = values[1:][~np.isnan(values[1:])]
    if not len(drawn) or len(drawn) < (1 - _MOST_UNDEFINED) * (len(values) - 1):
        return Figure(value)
    low, high = np.quantile(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Figure(value, float(low), float(high))


def has_no_width(of: Figure) -> bool:
    """Whether all resamples gave the same, but for rounding: which is no certainty."""
    return of.low is not None and of.high is not None and of.high - of.low < _ROUNDING


def span_coverage(n_units: int) -> float:
    """How often so many units, drawn from any continuous distribution, have its median between the least and the greatest.

    Both lie on one side of it with probability 2 / 2**n. An interval of resamples stays within them.
    """
    return 1 - 2.0 ** (1 - n_units)


def share(part: Floats, whole: Floats) -> Floats:
    """part / whole, NaN where the whole is 0."""
    shares: Floats = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    return np.divide(part, whole, out=shares, where=whole > 0)


def mean_of_defined(values: Floats, *, axis: int) -> Floats:
    """The mean along an axis of what is not NaN; NaN where nothing is."""
    is_there = ~np.isnan(values)
    return share(np.where(is_there, values, 0.0).sum(axis=axis), is_there.sum(axis=axis).astype(np.float64))
