"""Whether the images of a run look to a model as those of its calibration did: a two-sample test of their traits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segsvc.quality.profile import UNDEFINED, Floats, Ints, Trait, traits_of

BoolArray = npt.NDArray[np.bool_]

LEVEL = 0.01  # so many comparisons of like images are false alarms
FEWEST_IMAGES, FEWEST_UNITS = 20, 5  # of either side; with fewer, hardly anything would be noticed
_DEALS = 999  # so that LEVEL of them and the sample itself is a whole number
_MOST_TOLD = 3
_BLOCK = 1 << 20  # units that are dealt at once


@dataclass(frozen=True, slots=True)
class Sample:
    """Images that are compared: the unit (n,) and the traits (n, traits) of each."""

    unit: Ints
    traits: Ints

    @property
    def images(self) -> int:
        return len(self.unit)

    @property
    def units(self) -> int:
        return len(np.unique(self.unit))

    @property
    def is_enough(self) -> bool:
        """Whether there are enough images, of enough units, to be compared."""
        return self.images >= FEWEST_IMAGES and self.units >= FEWEST_UNITS


@dataclass(frozen=True, slots=True)
class Difference:
    """A trait that differs: its mean here and at the calibration, None where nothing defines it."""

    trait: Trait
    here: float | None
    there: float | None

    def __str__(self) -> str:
        return f"{self.trait.words}: {_number(self.here)} here, {_number(self.there)} there"


@dataclass(frozen=True, slots=True)
class Drift:
    """What a comparison says: the largest standardised difference, and from where on it would be an alarm.

    `differences` are those beyond the threshold, the largest first.
    """

    statistic: float
    threshold: float
    p_value: float
    differences: tuple[Difference, ...]

    @property
    def in_doubt(self) -> bool:
        return self.p_value <= LEVEL


def compare(there: Sample, here: Sample, classes: tuple[str, ...], *, seed: int = 0) -> Drift:
    """Whether the images here may be fresh ones like those there, the calibration's.

    Each trait is compared by two rank statistics: F. Wilcoxon's (1945) for its height and A. M. Mood's (1954) for its
    spread, each as the mean over the images here less that over the images there, in standard deviations. The largest is the
    statistic. It is held against what it becomes when units are dealt out anew, so many here and so many there as
    there are (P. H. Westfall and S. S. Young, "Resampling-based multiple testing", 1993): whatever the distributions, and
    however traits depend on each other and images of a unit on each other, like units give an alarm with a probability of at
    most LEVEL, by the draw of the calibration, the run and the deals (B. Phipson and G. K. Smyth, "Permutation p-values
    should never be zero", 2010). That univariate tests of what a model says notice most shifts of images was measured by S.
    Rabanser, S. Guennemann and Z. Lipton, "Failing loudly" (2019).

    Raises ValueError for samples without images, or of other traits.
    """
    wanted = len(traits_of(classes))
    if not (here.images and there.images) or here.traits.shape[1] != wanted or there.traits.shape[1] != wanted:
        raise ValueError(f"expected images with {wanted} traits on both sides, got {here.traits.shape} and "
                         f"{there.traits.shape}")
    differences = _Units(there, here).differences(seed)
    deviations = differences.std(axis=0)
    heights = np.abs(np.divide(differences, deviations, out=np.zeros_like(differences), where=deviations > 0))
    largest = heights.max(axis=1)
    reached = int((largest >= largest[0]).sum())
    alarms = round(LEVEL * len(largest))
    threshold = float(np.sort(largest[1:])[-alarms])
    of_trait = heights[0].reshape(2, wanted).max(axis=0)
    told = [place for place in np.argsort(-of_trait, kind="stable").tolist() if of_trait[place] > threshold]
    traits = traits_of(classes)
    return Drift(float(largest[0]), threshold, reached / len(largest), tuple(
        _difference(traits[place], here.traits[:, place], there.traits[:, place]) for place in told[:_MOST_TOLD]))


class _Units:
    """The units of both sides, and what each adds to the statistics: whole numbers, so that no order changes their sums."""

    def __init__(self, there: Sample, here: Sample) -> None:
        traits = np.concatenate([here.traits, there.traits])
        defined = traits != UNDEFINED
        ranks = np.stack([_ranks(column, known) for column, known in zip(traits.T, defined.T, strict=True)], axis=1)
        own, unit_here = np.unique(here.unit, return_inverse=True)
        others, unit_there = np.unique(there.unit, return_inverse=True)
        unit = np.concatenate([unit_here, unit_there + len(own)])
        self._is_here = np.arange(len(own) + len(others)) < len(own)
        self._sums = _by_unit(np.concatenate([ranks, ranks**2], axis=1), unit)  # (units, 2 traits)
        self._counts = _by_unit(np.concatenate([defined, defined], axis=1).astype(np.int64), unit)

    def differences(self, seed: int) -> Floats:
        """(1 + deals, 2 traits) the mean over the images here less that over those there: as is, then as dealt out anew."""
        random = np.random.default_rng(seed)
        rows = max(1, _BLOCK // len(self._is_here))
        found = [self._of(self._is_here[None])]
        for start in range(0, _DEALS, rows):
            dealt = np.tile(self._is_here, (min(rows, _DEALS - start), 1))
            found.append(self._of(random.permuted(dealt, axis=1)))
        return np.concatenate(found)

    def _of(self, is_here: BoolArray) -> Floats:
        """Of each row (deals, units); 0 where one side has no image that defines the trait."""
        dealt = is_here.astype(np.float64)
        sums, counts = dealt @ self._sums, dealt @ self._counts
        other_sums, other_counts = self._sums.sum(axis=0) - sums, self._counts.sum(axis=0) - counts
        means = sums / np.maximum(counts, 1) - other_sums / np.maximum(other_counts, 1)
        found: Floats = np.where((counts > 0) & (other_counts > 0), means, 0.0)
        return found


def _ranks(values: Ints, known: BoolArray) -> Ints:
    """(n,) twice the distance of each known value's rank from the middle one, equal values sharing theirs; else 0."""
    ranks = np.zeros(len(values), np.int64)
    _, of_value, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    ranks[known] = (2 * below + counts - len(of_value))[of_value]
    return ranks


def _by_unit(values: Ints, unit: Ints) -> Floats:
    sums = np.zeros((int(unit.max()) + 1, values.shape[1]))
    np.add.at(sums, unit, values)
    return sums


def _difference(trait: Trait, here: Ints, there: Ints) -> Difference:
    means = [float(side[side != UNDEFINED].mean()) / trait.scale if (side != UNDEFINED).any() else None
             for side in (here, there)]
    return Difference(trait, means[0], means[1])


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
