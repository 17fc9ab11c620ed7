"""Curves, the areas below them, and calibration error, against plain counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsvc.quality.bootstrap import Resamples
from segsvc.quality.calibration_error import bin_of, calibration_error, reliability, tallies_of
from segsvc.quality.curves import histogram_areas, histogram_curve, ranked_areas, score_curve
from segsvc.types import SCORE_ONE


def counted_areas(scores: list[int], truth: list[bool]) -> tuple[float, float]:
    """Average precision by falling thresholds, and the share of pairs in the right order (equal ones are half)."""
    own = [score for score, true in zip(scores, truth, strict=True) if true]
    others = [score for score, true in zip(scores, truth, strict=True) if not true]
    average, before = 0.0, 0
    for cut in sorted(set(scores), reverse=True):
        true, false = sum(score >= cut for score in own), sum(score >= cut for score in others)
        average += (true - before) / len(own) * true / (true + false)
        before = true
    pairs = sum((one > other) + (one == other) / 2 for one in own for other in others)
    return average, pairs / (len(own) * len(others))


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)  # the first call compiles
def test_areas_are_those_of_plain_counting(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(2, 40))
    scores, truth = random.integers(0, 12, n), random.random(n) < 0.4
    truth[:2] = True, False
    expected = counted_areas(scores.tolist(), truth.tolist())
    average, below = ranked_areas(scores.astype(float), truth, np.arange(n), np.ones((1, n), np.uint16))
    assert (average[0], below[0]) == pytest.approx(expected)
    counts = np.stack([np.bincount(scores[~truth], minlength=12), np.bincount(scores[truth], minlength=12)])[None]
    assert [area[0] for area in histogram_areas(counts.astype(float))] == pytest.approx(expected)


def test_a_weighed_example_counts_as_that_many() -> None:
    random = np.random.default_rng(3)
    scores, truth = random.random(30), random.random(30) < 0.5
    drawn = Resamples([str(number) for number in range(30)], n=4, seed=1)
    average, below = ranked_areas(scores, truth, drawn.of_image, drawn.weights)
    for row, weights in enumerate(drawn.weights):
        of_image = weights[drawn.of_image]
        copied = ranked_areas(np.repeat(scores, of_image), np.repeat(truth, of_image), np.zeros(30, np.int64),
                              np.ones((1, 1), np.uint16))
        assert (average[row], below[row]) == pytest.approx((copied[0][0], copied[1][0]))


def test_areas_without_the_class_or_without_others_are_undefined() -> None:
    ones = np.ones((1, 2), np.uint16)
    never = ranked_areas(np.array([0.1, 0.9]), np.array([False, False]), np.arange(2), ones)
    always = ranked_areas(np.array([0.1, 0.9]), np.array([True, True]), np.arange(2), ones)
    assert math.isnan(never[0][0])
    assert math.isnan(never[1][0])
    assert always[0][0] == 1.0
    assert math.isnan(always[1][0])
    assert math.isnan(histogram_areas(np.zeros((1, 2, 1001)))[0][0])


def test_a_curve_of_a_histogram_is_that_of_its_scores() -> None:
    random = np.random.default_rng(5)
    scores, truth = random.integers(0, SCORE_ONE + 1, 500), random.random(500) < 0.3
    bins = scores.astype(np.int64) * 1000 // SCORE_ONE
    histogram = np.stack([np.bincount(bins[~truth], minlength=1001), np.bincount(bins[truth], minlength=1001)])
    shown = histogram_curve(histogram.astype(float))
    assert list(shown.threshold) == sorted(set(shown.threshold))
    for threshold, recall, precision, alarms in zip(shown.threshold, shown.recall, shown.precision, shown.false_alarms,
                                                    strict=True):
        said = scores / SCORE_ONE >= threshold
        assert recall == pytest.approx((said & truth).sum() / truth.sum(), abs=1e-6)
        assert alarms == pytest.approx((said & ~truth).sum() / (~truth).sum(), abs=1e-6)
        assert precision is None if not said.any() else precision == pytest.approx(truth[said].mean(), abs=1e-6)


def test_a_curve_of_scores_begins_where_all_are_said() -> None:
    shown = score_curve(np.array([0.2, 0.8]), np.array([False, True]))
    assert (shown.threshold[0], shown.recall[0], shown.precision[0], shown.false_alarms[0]) == (0.0, 1.0, 0.5, 1.0)
    assert (shown.threshold[-1], shown.recall[-1], shown.precision[-1]) == (1.0, 0.0, None)


def test_a_curve_of_scores_that_lie_close_together_has_a_point_for_each() -> None:
    scores, truth = np.array([0.999, 0.9991, 0.9992, 0.9993]), np.array([False, True, False, True])
    shown = score_curve(scores, truth)
    assert shown.threshold == (0.0, *scores.tolist(), 1.0)
    assert shown.recall == (1.0, 1.0, 1.0, 0.5, 0.5, 0.0)
    assert shown.false_alarms == (1.0, 1.0, 0.5, 0.5, 0.0, 0.0)


def test_a_curve_of_many_scores_has_about_a_hundred_points_from_the_least_to_the_highest() -> None:
    random = np.random.default_rng(6)
    scores, truth = random.beta(0.05, 0.05, 3000), random.random(3000) < 0.5
    shown = score_curve(scores, truth)
    assert 90 < len(shown.threshold) <= 102
    assert {scores.min(), scores.max()} <= set(shown.threshold)
    steps = np.diff(np.array(shown.recall, np.float64))
    assert float(np.abs(steps).max()) < 0.03


def test_the_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    scores = np.array([0.9, 0.9, 0.9, 0.9, 0.1, 0.1])
    truth = np.array([True, True, True, False, False, False])
    tallies = tallies_of(np.rint(scores * SCORE_ONE).astype(np.uint16), truth)
    error = calibration_error(tallies.sum(axis=0)[None].astype(float))
    assert error[0] == pytest.approx((4 * abs(0.9 - 0.75) + 2 * 0.1) / 6, abs=1e-5)
    bins = reliability(tallies.sum(axis=0).astype(float))
    assert [(one.n, one.true_share) for one in bins] == [(2, 0.0), (4, 0.75)]
    assert math.isnan(calibration_error(np.zeros((1, 15, 3)))[0])


def test_a_score_of_one_is_in_the_last_bin_and_one_on_a_border_in_the_upper() -> None:
    assert bin_of(np.array([0, SCORE_ONE // 15, SCORE_ONE // 15 - 1, SCORE_ONE])).tolist() == [0, 1, 0, 14]
