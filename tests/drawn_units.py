"""Units as a calibration sees them, written as the scores of what they hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segsvc.quality.thresholds import Tally, set_apart

Scored = Sequence[Sequence[float]]  # the scores of each unit's objects
Judged = Sequence[Sequence[tuple[float, bool]]]  # of each unit's candidates, and whether they are right


def objects(units: Scored) -> Tally:
    unit = np.repeat(np.arange(len(units)), [len(each) for each in units])
    scores = np.array([score for each in units for score in each], np.float64)
    return Tally(len(units), unit, scores, np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_))


def candidates(units: Judged) -> Tally:
    unit = np.repeat(np.arange(len(units)), [len(each) for each in units])
    scores = np.array([score for each in units for score, _ in each], np.float64)
    right = np.array([is_right for each in units for _, is_right in each], np.bool_)
    return Tally(len(units), unit[right], scores[right], unit, scores, right)


def halves(tally: Tally, seed: int) -> tuple[Tally, Tally]:
    """What proves and what is apart."""
    apart = set_apart(tally.n_units, share=0.2, seed=seed)
    return tally.of_units(~apart), tally.of_units(apart)
