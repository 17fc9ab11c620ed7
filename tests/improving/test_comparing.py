"""Comparisons of two models: what counts of an image, and bounds that hold."""

from __future__ import annotations

import numpy as np
import pytest

from segsvc.improving.comparing import FigureKind, compare, image_figure, lower_bound, unit_means
from segsvc.quality.observations import FoundTally


def tally(objects: list[tuple[int, float]], candidates: list[tuple[int, float, bool]]) -> FoundTally:
    return FoundTally(
        np.array([each[0] for each in objects], np.int64), np.array([each[1] for each in objects], np.float64),
        np.array([each[0] for each in candidates], np.int64), np.array([each[1] for each in candidates], np.float64),
        np.array([each[2] for each in candidates], np.bool_))


def test_missed_objects_and_wrong_candidates_count_alike() -> None:
    two = [(0, 0.9), (0, 0.4)]
    assert image_figure(tally(two, [(0, 0.9, True), (0, 0.4, True)]), [0.3], FigureKind.OBJECT_DICE) == 1.0
    missed = image_figure(tally(two, [(0, 0.9, True), (0, 0.4, True)]), [0.5], FigureKind.OBJECT_DICE)
    wrong = image_figure(tally([(0, 0.9)], [(0, 0.9, True), (0, 0.8, False)]), [0.5], FigureKind.OBJECT_DICE)
    assert missed == wrong == pytest.approx(2 / 3)


def test_an_image_of_which_nothing_is_true_and_nothing_said_is_right() -> None:
    assert image_figure(tally([], []), [0.5], FigureKind.OBJECT_DICE) == 1.0
    assert image_figure(tally([], [(0, 0.6, False)]), [0.5], FigureKind.OBJECT_DICE) == 0.0


def test_the_class_of_an_image_is_right_where_its_score_is_the_highest() -> None:
    scores = [(0, 0.3, False), (1, 0.6, True), (2, 0.1, False)]
    assert image_figure(tally([(1, 0.6)], scores), [0.9] * 3, FigureKind.ACCURACY) == 1.0
    assert image_figure(tally([(0, 0.3)], scores), [0.9] * 3, FigureKind.ACCURACY) == 0.0


def test_a_unit_counts_once_whatever_its_images_and_their_order() -> None:
    one = unit_means([1.0, 0.0, 0.5], ["a", "a", "b"])
    other = unit_means([0.5, 0.0, 1.0], ["b", "a", "a"])
    assert one.tolist() == other.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("n", [1, 5, 40])
def test_a_few_units_without_a_difference_show_little(n: int) -> None:
    """The mean may be -m and yet all of n units be 0, with probability (1 - m)**n: no bound may say more."""
    bound = lower_bound(np.zeros(n), anchor=-0.02, confidence=0.95, guess=0.0)
    assert bound <= -(1 - 0.05 ** (1 / n)) + 1e-9
    assert bound < -0.02


def test_the_bound_holds_as_often_as_it_says_also_for_rare_losses() -> None:
    random = np.random.default_rng(0)
    for law, mean in ((lambda: random.choice([-1.0, 0.0, 0.05], 60, p=[0.03, 0.37, 0.6]), 0.0),
                      (lambda: np.clip(random.normal(-0.05, 0.2, 60), -1, 1), -0.05)):
        wrong = sum(lower_bound(law(), anchor=-0.02, confidence=0.95, guess=0.03) > mean for _ in range(400))
        assert wrong <= 400 * 0.05


def test_one_that_is_plainly_better_is_not_worse_and_one_that_is_plainly_worse_is() -> None:
    random = np.random.default_rng(1)
    old = random.uniform(0.5, 0.8, 60)
    up, down = (compare(old, old + shift + random.normal(0, 0.03, 60), kind=FigureKind.OBJECT_DICE, unit="image", images=60,
                        margin=0.02, confidence=0.95, guess=0.01) for shift in (0.1, -0.1))
    assert (up.not_worse, down.not_worse) == (True, False)
    assert 0.02 < up.lower < up.difference
    assert down.lower < down.difference < -0.05
    assert up.better_units > 55
