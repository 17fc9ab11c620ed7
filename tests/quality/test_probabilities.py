from __future__ import annotations

import numpy as np
import pytest

from segsvc.quality.probabilities import FEWEST, fitted, isotonic, platt


def drawn(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, whether each is right, and the true probability of that: the square of the score."""
    draw = np.random.default_rng(seed)
    scores = np.rint(draw.beta(2, 2, n) * 65535) / 65535
    return scores, draw.random(n) < scores**2, scores**2


@pytest.mark.parametrize(("n", "method", "off"), [(60, "platt", 0.12), (5_000, "isotonic", 0.03)])
def test_the_map_comes_near_the_true_probabilities_and_never_falls(n: int, method: str, off: float) -> None:
    scores, right, _ = drawn(n)
    found = fitted(scores, right)
    assert found is not None and found[0] == method
    fresh, _, truth = drawn(20_000, seed=1)
    assert np.abs(np.interp(fresh, found[1], found[2]) - truth).mean() < off
    assert (np.diff(found[1]) >= 0).all() and (np.diff(found[2]) >= 0).all()
    assert len(found[1]) <= 64


def test_the_isotonic_fit_is_the_best_rising_one_of_a_small_example() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    right = np.array([False, False, True, False, True, True])
    points, values = isotonic(scores, right)
    assert np.interp(scores, points, values) == pytest.approx([1 / 4, 1 / 4, 0.5, 0.5, 3 / 4, 3 / 4])  # ends are smoothed


def test_nothing_is_called_certain() -> None:
    scores = np.linspace(0, 1, 400)
    for points, values in (isotonic(scores, scores > 0.5), platt(scores, scores > 0.5)):
        assert ((values > 0) & (values < 1)).all()
        assert len(points) == len(values)


def test_scores_that_part_right_from_wrong_make_a_curve_and_no_cliff() -> None:
    """Scores as a detector has them: right ones crowd at 1, a few wrong ones lie far below."""
    draw = np.random.default_rng(0)
    scores = np.concatenate([1 - draw.uniform(0, 0.002, 55), [0.05, 0.06, 0.1, 0.12]])
    points, values = platt(scores, np.arange(59) < 55)
    lowest, middle, highest = np.interp([0.06, 0.7, 0.999], points, values)
    assert lowest < 0.25 < middle < highest
    assert np.interp([0.05, 0.9985], points, values) == pytest.approx([1 / 6, 56 / 57], abs=0.05)
    assert np.diff(values).max() < 0.12


def test_the_curve_is_the_one_of_most_likelihood() -> None:
    """Held against a general minimiser."""
    from scipy.optimize import minimize
    from scipy.special import expit, logit

    scores, right, _ = drawn(100)
    odds = logit(np.clip(scores, 1e-5, 1 - 1e-5))
    targets = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))
    best = minimize(lambda curve: (np.logaddexp(0, curve[0] * odds + curve[1]) - targets * (
        curve[0] * odds + curve[1])).sum(), np.zeros(2)).x
    points, values = platt(scores, right)
    inside = (values > 1 / 102) & (values < 1 - 1 / 102)
    assert values[inside] == pytest.approx(expit(best[0] * logit(points[inside]) + best[1]), abs=1e-3)


def test_scores_that_say_the_contrary_are_held_level() -> None:
    scores = np.linspace(0.05, 0.95, 60)
    _, values = platt(scores, scores < 0.5)
    assert np.ptp(values) == 0
    assert values[0] == pytest.approx(0.5, abs=0.02)


def test_of_too_few_candidates_or_of_one_kind_nothing_is_said() -> None:
    scores, right, _ = drawn(FEWEST - 1)
    assert fitted(scores, right) is None
    scores, _, _ = drawn(100)
    assert fitted(scores, np.ones(100, np.bool_)) is None
    assert fitted(scores, np.zeros(100, np.bool_)) is None
