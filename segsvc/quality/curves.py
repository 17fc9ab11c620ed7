"""Precision, recall and false alarms over all thresholds, and the areas below their curves.

Average precision is the sum of (R_k - R_k-1) * P_k over falling thresholds, without interpolation. The area below the
ROC curve is by trapezia, so that equal scores count half (the Mann-Whitney statistic).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segsvc.imaging.compiled import compiled
from segsvc.quality.bootstrap import Floats, share
from segsvc.quality.figures import Curve

NO_CURVE = Curve((), (), (), ())
_PLACES = 6  # digits of a curve's points
_MOST_POINTS = 100
_ENDS = range(1, 10)  # thousandths from each end that are shown one by one: most px lie there


def histogram_areas(counts: Floats) -> tuple[Floats, Floats]:
    """Average precision and ROC area, (n,) each, of histograms (n, 2, bins): others, and those of the class.

    NaN where there are none of the class, and for the ROC area where there are no others.
    """
    false, true = np.moveaxis(np.cumsum(counts[:, :, ::-1], axis=2), 1, 0)
    n_true, n_false = true[:, -1:], false[:, -1:]
    gained = np.diff(true, axis=1, prepend=0.0)
    average = (gained * share(true, true + false)).sum(axis=1, where=gained > 0)
    below = (np.diff(false, axis=1, prepend=0.0) * (true - gained / 2)).sum(axis=1)
    return share(average, n_true[:, 0]), share(below, n_true[:, 0] * n_false[:, 0])


def histogram_curve(counts: Floats) -> Curve:
    """The curve of one histogram (2, 1001): points at hundredths, and at each thousandth near both ends."""
    bins = counts.shape[1]
    shown = sorted({*range(0, bins, 10), *_ENDS, *(bins - 1 - step for step in _ENDS)})
    false, true = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
    return curve(np.array(shown) / (bins - 1), true=true[shown], false=false[shown], n_true=true[0], n_false=false[0])


def score_curve(scores: Floats, truth: npt.NDArray[np.bool_]) -> Curve:
    """The curve of scores (n,) with their truth (n,): at each of them, or where there are many, at every so-manieth.

    Scores may lie as close together as they will: a saturated network's are all near the ends.
    """
    at = np.unique(scores)
    if len(at) > _MOST_POINTS:
        at = at[np.linspace(0, len(at) - 1, _MOST_POINTS).round().astype(np.int64)]
    thresholds = np.unique(np.concatenate([[0.0], at, [1.0]]))
    reached = scores[None, :] >= thresholds[:, None]
    return curve(thresholds, true=(reached & truth).sum(axis=1).astype(np.float64),
                 false=(reached & ~truth).sum(axis=1).astype(np.float64), n_true=truth.sum(), n_false=(~truth).sum())


def curve(thresholds: Floats, *, true: Floats, false: Floats, n_true: float, n_false: float) -> Curve:
    """The curve through counts (n,) of those of the class and of others that reach each threshold."""
    return Curve(tuple(float(value) for value in thresholds), _listed(share(true, np.asarray(float(n_true)))),
                 _listed(share(true, true + false)), _listed(share(false, np.asarray(float(n_false)))))


def ranked_areas(scores: Floats, truth: npt.NDArray[np.bool_], units: npt.NDArray[np.int64],
                 weights: npt.NDArray[np.uint16]) -> tuple[Floats, Floats]:
    """Average precision and ROC area, (n,) each, of scored examples under the weights (n, units) of their units.

    scores, truth, units: (examples,). NaN where there are none of the class, and for the ROC area where all are.
    """
    order = np.argsort(-scores, kind="stable")
    found = _ranked_areas(scores[order], truth[order], units[order], weights)
    return found[:, 0], found[:, 1]


@compiled
def _ranked_areas(scores: Floats, truth: npt.NDArray[np.bool_], units: npt.NDArray[np.int64],
                  weights: npt.NDArray[np.uint16]) -> Floats:
    found = np.empty((weights.shape[0], 2))
    for row in range(weights.shape[0]):
        true = false = average = below = 0.0
        start = 0
        while start < scores.size:
            gained = alarms = 0.0
            stop = start
            while stop < scores.size and scores[stop] == scores[start]:
                weight = float(weights[row, units[stop]])
                if truth[stop]:
                    gained += weight
                else:
                    alarms += weight
                stop += 1
            below += alarms * (true + gained / 2)
            true += gained
            false += alarms
            if gained > 0:
                average += gained * true / (true + false)
            start = stop
        found[row, 0] = average / true if true > 0 else np.nan
        found[row, 1] = below / (true * false) if true > 0 and false > 0 else np.nan
    return found


def _listed(values: Floats) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else round(float(value), _PLACES) for value in values)
