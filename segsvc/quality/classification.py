"""Figures of a classifier: accuracy and confusion where one class holds, and curves, F1 and areas label by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from segsvc.quality.bootstrap import Floats, Resamples, figure, mean_of_defined, share
from segsvc.quality.calibration_error import calibration_error, reliability, tallies_of
from segsvc.quality.curves import NO_CURVE, ranked_areas, score_curve
from segsvc.quality.figures import UNDEFINED, ClassificationFigures, Confusion, LabelAt, LabelFigures
from segsvc.quality.observations import RELIABILITY_BINS, ClassScores
from segsvc.types import SCORE_ONE

Scores = npt.NDArray[np.uint16]  # in 1/65535
BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]

HALF = 0.5
_LEAST = 1e-7  # a score of 0 has no logarithm


def classification_figures(tallies: Sequence[ClassScores], class_names: Sequence[str], flag_at: Sequence[float | None],
                           resamples: Resamples, *, exclusive: bool, curves: bool = True) -> ClassificationFigures:
    """The figures of images, one tally each. Without `curves` the curves and what belongs to calibration are left out."""
    scores = np.stack([each.scores for each in tallies])
    truth = np.stack([each.truth for each in tallies])
    n = len(resamples.weights)
    f1, precision, below, error = (np.full((n, len(class_names)), np.nan) for _ in range(4))
    labels = []
    for number, name in enumerate(class_names):
        own, is_true = scores[:, number], truth[:, number]
        half, f1[:, number] = _at(own, is_true, HALF, resamples)
        flag = flag_at[number]
        at_flag = None if flag is None else _at(own, is_true, flag, resamples)[0]
        precision[:, number], below[:, number] = ranked_areas(own.astype(np.float64), is_true, resamples.of_image,
                                                              resamples.weights)
        bins: Floats = np.zeros((n, RELIABILITY_BINS, 3))
        shown = NO_CURVE
        if curves:
            bins = _reliabilities(own, is_true, resamples)
            error[:, number] = calibration_error(bins)
            shown = score_curve(own / SCORE_ONE, is_true)
        labels.append(LabelFigures(name, int(is_true.sum()), half, at_flag, figure(precision[:, number]),
                                   figure(below[:, number]), figure(error[:, number]), shown, reliability(bins[0])))
    is_shown = truth.any(axis=0)
    means = [figure(mean_of_defined(values[:, is_shown], axis=1)) for values in (f1, precision, below, error)]
    every = ClassificationFigures(
        labels=tuple(labels), mean_f1=means[0], mean_average_precision=means[1], mean_roc_area=means[2],
        mean_calibration_error=means[3], accuracy=UNDEFINED, top_calibration_error=UNDEFINED, confusion=None,
        top_reliability=())
    return _with_accuracy(every, tallies, class_names, resamples) if exclusive else every


def _with_accuracy(every: ClassificationFigures, tallies: Sequence[ClassScores], class_names: Sequence[str],
                   resamples: Resamples) -> ClassificationFigures:
    """With what there is where each image has exactly one class."""
    top, true = (np.array([getattr(each, which) for each in tallies]) for which in ("top", "true"))
    right = (top == true) & (true >= 0)
    accuracy = share(resamples.totals(right.astype(np.int64)), resamples.totals(np.ones(len(right), np.int64)))
    best = np.array([each.top_score for each in tallies], np.uint16)
    bins = _reliabilities(best, right, resamples)
    return replace(every, accuracy=figure(accuracy), top_calibration_error=figure(calibration_error(bins)),
                   confusion=_confusion(top, true, class_names), top_reliability=reliability(bins[0]))


def image_loss(scores: ClassScores) -> float:
    """How wrong the scores of an image are: the mean cross-entropy of its labels, each judged by itself."""
    own = scores.scores / SCORE_ONE
    given = np.where(scores.truth, own, 1 - own)
    return float(-np.log(np.maximum(given, _LEAST)).mean())


def _at(scores: Scores, truth: BoolArray, threshold: float, resamples: Resamples) -> tuple[LabelAt, Floats]:
    """A label at a threshold, and F1 (n + 1,)."""
    said = scores / SCORE_ONE >= threshold
    true, false, missed = resamples.totals(np.stack([said & truth, said & ~truth, ~said & truth], axis=1).astype(np.int64)).T
    f1 = share(2 * true, 2 * true + false + missed)
    return LabelAt(threshold, int(true[0]), int(false[0]), int(missed[0]), figure(share(true, true + false)),
                   figure(share(true, true + missed)), figure(f1)), f1


def _reliabilities(scores: Scores, right: BoolArray, resamples: Resamples) -> Floats:
    """(n + 1, RELIABILITY_BINS, 3) the tallies of scored images."""
    return resamples.totals(tallies_of(scores, right))


def _confusion(top: Int64Array, true: Int64Array, class_names: Sequence[str]) -> Confusion:
    n = len(class_names)
    counts = np.zeros((n, n + 1), np.int64)
    is_known = true >= 0
    np.add.at(counts, (true[is_known], np.where(top >= 0, top, n)[is_known]), 1)
    return Confusion(tuple(class_names), tuple(tuple(row) for row in counts.tolist()), int((~is_known).sum()))
