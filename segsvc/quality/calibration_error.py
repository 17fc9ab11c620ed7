"""Whether scores are probabilities: the reliability diagram and the expected calibration error.

Guo et al., "On Calibration of Modern Neural Networks" (2017): 15 bins of equal width; the error is the mean over all
examples of the distance, in their bin, between the mean score and the share that is true. Bins of equal mass would all
lie at the ends of the scale, where nearly all px are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segsvc.quality.bootstrap import Floats, share
from segsvc.quality.figures import ReliabilityBin
from segsvc.quality.observations import RELIABILITY_BINS
from segsvc.types import SCORE_ONE

Int64Array = npt.NDArray[np.int64]


def bin_of(scores: npt.NDArray[np.integer]) -> Int64Array:
    """The bin of each score, given in 1/65535."""
    bins: Int64Array = np.minimum(scores.astype(np.int64) * RELIABILITY_BINS // SCORE_ONE, RELIABILITY_BINS - 1)
    return bins


def tallies_of(scores: npt.NDArray[np.uint16], truth: npt.NDArray[np.bool_]) -> Int64Array:
    """(n, RELIABILITY_BINS, 3) the number, the sum of scores in 1/65535 and the number of true ones of each example (n,)."""
    tallies = np.zeros((len(scores), RELIABILITY_BINS, 3), np.int64)
    tallies[np.arange(len(scores)), bin_of(scores)] = np.stack([np.ones_like(truth, np.int64), scores, truth], axis=1)
    return tallies


def tally_of_all(scores: npt.NDArray[np.uint16], truth: npt.NDArray[np.bool_]) -> Int64Array:
    """(RELIABILITY_BINS, 3) the sum of `tallies_of` over all examples (n,)."""
    bins = bin_of(scores)
    sums = (np.bincount(bins, weights=weights, minlength=RELIABILITY_BINS) for weights in (
        np.ones(len(bins)), scores.astype(np.float64), truth.astype(np.float64)))
    return np.stack(list(sums), axis=1).astype(np.int64)


def calibration_error(tallies: Floats) -> Floats:
    """(n,) the expected calibration error of tallies (n, RELIABILITY_BINS, 3); NaN without examples."""
    gaps = np.abs(tallies[:, :, 1] / SCORE_ONE - tallies[:, :, 2]).sum(axis=1)
    return share(gaps, tallies[:, :, 0].sum(axis=1))


def reliability(tally: Floats) -> tuple[ReliabilityBin, ...]:
    """The bins (RELIABILITY_BINS, 3) that hold examples."""
    return tuple(
        ReliabilityBin(number / RELIABILITY_BINS, (number + 1) / RELIABILITY_BINS, int(n), round(total / SCORE_ONE / n, 6),
                       round(true / n, 6))
        for number, (n, total, true) in enumerate(tally.tolist()) if n > 0)
