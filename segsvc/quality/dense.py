"""Figures of dense scores: Dice, IoU, precision and recall over all px, curves, and whether scores are probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from segsvc.quality.bootstrap import Floats, Resamples, figure, mean_of_defined, share
from segsvc.quality.calibration_error import calibration_error, reliability
from segsvc.quality.curves import NO_CURVE, histogram_areas, histogram_curve
from segsvc.quality.figures import UNDEFINED, DenseClass, DenseFigures, Overlap
from segsvc.quality.observations import RELIABILITY_BINS, SCORE_BINS, DenseTally
from segsvc.types import SCORE_ONE, ScoreArray

HALF = 0.5


class DenseCounter:
    """Counts the px of an image by class, score and truth as its rows come."""

    def __init__(self, n_classes: int) -> None:
        self._counts = np.zeros((n_classes, 2, SCORE_ONE + 1), np.int64)

    def add(self, number: int, scores: ScoreArray, truth: npt.NDArray[np.bool_], counted: npt.NDArray[np.bool_]) -> None:
        """Takes in px of a class: scores, whether they are of the class, and whether they count, all of one shape."""
        coded = scores[counted].astype(np.int64) + truth[counted] * np.int64(SCORE_ONE + 1)
        self._counts[number] += np.bincount(coded, minlength=2 * (SCORE_ONE + 1)).reshape(2, -1)

    def tally(self, thresholds: Sequence[int]) -> DenseTally:
        """What was counted; thresholds: for each class the least score in 1/65535 that is said at its `flag_at`."""
        levels = np.arange(SCORE_ONE + 1)
        starts = np.searchsorted(levels * (SCORE_BINS - 1) // SCORE_ONE, np.arange(SCORE_BINS))
        histogram = np.add.reduceat(self._counts, starts, axis=2)
        bin_starts = np.searchsorted(np.minimum(levels * RELIABILITY_BINS // SCORE_ONE, RELIABILITY_BINS - 1),
                                     np.arange(RELIABILITY_BINS))
        both = self._counts.sum(axis=1)
        tallies = [np.add.reduceat(each, bin_starts, axis=1) for each in (both, both * levels, self._counts[:, 1])]
        at = np.stack([np.stack([_said(of_class, SCORE_ONE // 2 + 1), _said(of_class, threshold)])
                       for of_class, threshold in zip(self._counts, thresholds, strict=True)])
        return DenseTally(histogram.astype(np.uint32), np.stack(tallies, axis=2), at)


def _said(counts: npt.NDArray[np.int64], from_score: int) -> npt.NDArray[np.int64]:
    """(3,) said and true, said, true px of a class's counts (2, 65536)."""
    others, own = counts[:, from_score:].sum(axis=1)
    return np.array([own, own + others, counts[1].sum()])


def dense_figures(tallies: Sequence[DenseTally], class_names: Sequence[str], flag_at: Sequence[float | None],
                  resamples: Resamples, *, curves: bool = True) -> DenseFigures:
    """The figures of images, one tally each. Without `curves` the areas, curves and reliability are left out (undefined)."""
    at = np.stack([tally.at for tally in tallies])  # (images, classes, 2, 3)
    totals = resamples.totals(at)
    an_image = _dice_an_image(at, resamples)
    classes = []
    for number, name in enumerate(class_names):
        half = _overlap(HALF, totals[:, number, 0], an_image[:, number, 0])
        flag = flag_at[number]
        at_flag = None if flag is None else _overlap(flag, totals[:, number, 1], an_image[:, number, 1])
        plain = DenseClass(class_name=name, true_px=int(totals[0, number, 0, 2]),
                           images=int((at[:, number, 0, 2] > 0).sum()), at_half=half, at_flag=at_flag,
                           average_precision=UNDEFINED, roc_area=UNDEFINED, calibration_error=UNDEFINED,
                           curve=NO_CURVE, reliability=())
        classes.append(_with_curves(plain, tallies, number, resamples) if curves else plain)
    dice, iou = _dice(totals), _iou(totals)  # (n + 1, classes, 2)
    dice[totals[..., 2] == 0] = iou[totals[..., 2] == 0] = np.nan  # a class that is nowhere is in no mean
    has_flags = all(flag is not None for flag in flag_at)
    means = [figure(mean_of_defined(values[:, :, which], axis=1)) if which == 0 or has_flags else UNDEFINED
             for which in (0, 1) for values in (dice, iou)]
    return DenseFigures(tuple(classes), means[0], means[1], means[2], means[3])


def image_dice(tally: DenseTally) -> float | None:
    """The mean Dice of an image at 0.5, over classes that it holds or is said to hold; None without any."""
    both, said, true = tally.at[:, 0].T
    is_there = said + true > 0
    return float((2 * both[is_there] / (said + true)[is_there]).mean()) if is_there.any() else None


def _dice(counts: Floats) -> Floats:
    return share(2 * counts[..., 0], counts[..., 1] + counts[..., 2])


def _iou(counts: Floats) -> Floats:
    return share(counts[..., 0], counts[..., 1] + counts[..., 2] - counts[..., 0])


def _dice_an_image(at: npt.NDArray[np.int64], resamples: Resamples) -> Floats:
    """(n + 1, classes, 2) the mean over images that hold the class of each one's Dice, in steps of 1e-9 for exact sums."""
    holds = at[..., 2] > 0
    dice = np.where(holds, _dice(at.astype(np.float64)), 0.0)
    steps = resamples.totals(np.rint(np.nan_to_num(dice) * 1e9).astype(np.int64))
    return share(steps / 1e9, resamples.totals(holds.astype(np.int64)))


def _overlap(threshold: float, counts: Floats, an_image: Floats) -> Overlap:
    both, said, true = counts.T
    return Overlap(threshold, figure(_dice(counts)), figure(_iou(counts)), figure(share(both, said)),
                   figure(share(both, true)), figure(an_image))


def _with_curves(plain: DenseClass, tallies: Sequence[DenseTally], number: int, resamples: Resamples) -> DenseClass:
    histograms = resamples.totals(np.stack([tally.histogram[number] for tally in tallies]))
    average, below = histogram_areas(histograms)
    reliabilities = resamples.totals(np.stack([tally.reliability[number] for tally in tallies]))
    return replace(plain, average_precision=figure(average), roc_area=figure(below),
                   calibration_error=figure(calibration_error(reliabilities)), curve=histogram_curve(histograms[0]),
                   reliability=reliability(reliabilities[0]))
