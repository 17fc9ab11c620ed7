"""Where acceptance begins: what is promised, held to all samples that small laws can give."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from segsvc.quality.bounds import Guess, fewest_draws, order_rank, shows_gain
from segsvc.quality.thresholds import PrecisionProof, Tally
from segsvc.types import Bound
from tests.drawn_units import candidates, halves


def test_single_candidates_are_accepted_from_the_score_on_that_the_binomial_distribution_shows() -> None:
    right = [[(0.5 + 0.001 * i, True)] for i in range(300)]
    wrong = [[(0.1 + 0.001 * i, False)] for i in range(100)]
    proof = PrecisionProof(candidates(right + wrong), candidates(right[::5] + wrong[::5]), 0.95, seed=0)
    assert (proof.bound, proof.cap_at(0.0)) == (Bound.BINOMIAL, 1)
    accept_at = proof.accept_at(delta=0.05)
    assert accept_at is not None
    accepted = [is_right for [(score, is_right)] in right + wrong if score >= accept_at]
    assert order_rank(len(accepted), share=0.05, delta=0.05) == accepted.count(False) + 1  # one wrong one more is too many
    assert proof.start is not None and accept_at <= proof.start


def test_acceptance_needs_units_that_speak_for_it_and_candidates_above_the_start() -> None:
    wrong, right = candidates([[(0.9, False)]] * 100), candidates([[(0.9, True)]] * 100)
    none = candidates([[]] * 100)
    assert PrecisionProof(right, wrong, 0.95, seed=0).start is None
    assert PrecisionProof(right, wrong, 0.95, seed=0).accept_at(delta=0.05) is None
    assert PrecisionProof(right, none, 0.95, seed=0).accept_at(delta=0.05) is None
    assert PrecisionProof(none, right, 0.95, seed=0).accept_at(delta=0.05) is None
    assert PrecisionProof(right, right, 0.95, seed=0).accept_at(delta=0.05) == 0.9
    assert PrecisionProof(wrong, right, 0.95, seed=0).accept_at(delta=0.05) is None


@pytest.mark.parametrize("a_unit", [1, 3])
def test_a_pocket_of_wrong_candidates_is_not_walked_across(a_unit: int) -> None:
    draw = np.random.default_rng(0)
    top = [(score, True) for score in draw.uniform(0.8, 1.0, 150)]
    pocket = [(score, False) for score in draw.uniform(0.7, 0.8, 30)]
    low = [(score, True) for score in draw.uniform(0.1, 0.7, 300)]
    units = [kind[i:i + a_unit] for kind in (top, pocket, low) for i in range(0, len(kind), a_unit)]
    apart = candidates(units[: 150 // a_unit: 3])  # they know the top alone
    accept_at = PrecisionProof(candidates(units), apart, 0.85, seed=0).accept_at(delta=0.05)
    assert accept_at is not None
    assert 0.7 < accept_at < 0.8
    assert np.mean([is_right for each in units for _, is_right in each]) > 0.93  # all in all; the walk ended before


def accepted_by_hand(proving: Tally, apart: Tally, proof: PrecisionProof, precision: float, delta: float) -> float | None:
    """The threshold by plain counting: from the start down over all scores, until one is not shown."""
    assert proof.start is not None

    def gains(tally: Tally, threshold: float) -> np.ndarray:
        accepted = [np.flatnonzero((tally.candidate_unit == unit) & (tally.candidate_score >= threshold))
                    for unit in range(tally.n_units)]
        return np.array([sum(tally.candidate_right[each] - precision) * min(1, proof.cap_at(threshold) / max(len(each), 1))
                         for each in accepted])

    guess = Guess((float((gains(apart, proof.start) ** 2).sum()) + precision**2) / (apart.n_units + 1))
    drawn, shown = proving.shuffled(0), None
    below = np.unique(np.concatenate([drawn.candidate_score, apart.candidate_score]))
    for threshold in (proof.start, *below[below < proof.start][::-1]):
        if not shows_gain(gains(drawn, threshold), most_loss=precision * proof.cap_at(threshold), delta=delta, guess=guess):
            break
        shown = threshold
    return shown


@pytest.mark.parametrize("seed", range(3))
def test_the_walk_of_acceptance_is_that_over_all_scores(seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores = [draw.random(draw.choice([0, 1, 2, 3, 8], p=[0.1, 0.3, 0.3, 0.2, 0.1])).round(2) for _ in range(250)]
    units = [[(score, draw.random() < 0.55 + 0.5 * score - 0.2 * (len(each) > 3)) for score in each] for each in scores]
    proving, apart = candidates(units[50:]), candidates([each[:3] for each in units[:50]])  # so that some are over the cap
    proof = PrecisionProof(proving, apart, 0.75, seed=0)
    accept_at = proof.accept_at(delta=0.1)
    assert proof.bound is Bound.BETTING and accept_at is not None and proof.over_cap(accept_at)
    assert accept_at == accepted_by_hand(proving, apart, proof, 0.75, 0.1)


def test_where_no_unit_apart_has_several_candidates_a_unit_is_right_if_all_that_is_accepted_is() -> None:
    apart = candidates([[(0.9, True)]] * 30)
    units: list[list[tuple[float, bool]]] = [[(0.9, True)]] * 58
    mixed = [(0.9, True), (0.95, True), (0.5, False)]
    proof = PrecisionProof(candidates([*units, mixed]), apart, 0.95, seed=0)
    assert proof.bound is Bound.BINOMIAL
    assert proof.accept_at(delta=0.05) == 0.9
    assert PrecisionProof(candidates([*units, [*mixed, (0.92, False)]]), apart, 0.95, seed=0).accept_at(delta=0.05) is None


def test_the_cap_of_acceptance_is_that_of_the_threshold_where_it_begins() -> None:
    apart = candidates([[(0.9, True), (0.5, True), (0.5, True)], [(0.8, True), (0.8, True)], []])
    proof = PrecisionProof(apart, apart, 0.5, seed=0)
    assert [proof.cap_at(threshold) for threshold in (0.95, 0.9, 0.85, 0.8, 0.6, 0.5, 0.0)] == [1, 1, 1, 2, 2, 3, 3]


def test_crowded_units_with_many_wrong_candidates_weigh_in_acceptance_with_all_of_them() -> None:
    draw = np.random.default_rng(2)

    def unit() -> list[tuple[float, bool]]:
        if draw.random() < 0.9:
            return [(draw.uniform(0.8, 1.0), draw.random() < 0.995)]
        return [(draw.uniform(0.5, 0.8), draw.random() < 0.7) for _ in range(30)]

    tally = candidates([unit() for _ in range(800)])
    proof = PrecisionProof(*halves(tally, 0), 0.95, seed=0)
    accept_at = proof.accept_at(delta=0.05)
    assert accept_at is not None
    assert tally.candidate_right[tally.candidate_score >= accept_at].mean() > 0.95
    assert tally.candidate_right.mean() < 0.8  # so it would be, did each of them count as one


@pytest.mark.parametrize("delta", [0.3, 0.15])
@pytest.mark.parametrize("several", [False, True])
def test_of_all_samples_too_few_accept_what_is_wrong_too_often(several: bool, delta: float) -> None:
    high, low = (0.9, True), (0.6, True)
    kinds: list[tuple[list[tuple[float, bool]], float]] = [
        ([high], 0.45), ([(0.9, False)], 0.15), ([low], 0.2), ([(0.6, False)], 0.1), ([], 0.1)]
    apart = candidates([[high]] * 3 + [[(0.9, False)]] + [[low]])
    if several:
        kinds = [([high, low], 0.4), ([high, (0.6, False)], 0.25), ([(0.9, False)] * 2, 0.2), ([low], 0.15)]
        apart = candidates([[high, low]] * 4 + [[(0.6, False)]] + [[high] * 2])

    def precision_at(threshold: float) -> float:
        accepted = [(p, is_right) for unit, p in kinds for score, is_right in unit if score >= threshold]
        return sum(p * is_right for p, is_right in accepted) / sum(p for p, _ in accepted)

    for target in (precision_at(0.9) + 1e-9, precision_at(0.6) + 1e-9):
        wrong = 0.0
        for path in itertools.product(kinds, repeat=4):
            accept_at = PrecisionProof(candidates([unit for unit, _ in path]), apart, target, seed=0).accept_at(delta=delta)
            if accept_at is not None and precision_at(accept_at) < target:
                wrong += math.prod(p for _, p in path)
        assert wrong <= delta + 1e-12


def test_nothing_is_accepted_where_most_of_it_is_more_than_units_count() -> None:
    apart = candidates([[(0.9, True)]] * 30)  # by chance none of them is crowded
    units: list[list[tuple[float, bool]]] = [[(0.9, True)]] * 190 + [[(0.8, True)] * 10] * 10
    proof = PrecisionProof(candidates(units), apart, 0.9, seed=0)
    assert [proof.over_cap(threshold) for threshold in (0.9, 0.8)] == [0, 90]
    assert proof.accept_at(delta=0.05) == 0.9
    crowded = PrecisionProof(candidates([[(0.9, True)] * 10] * 10 + units[:190]), apart, 0.9, seed=0)
    assert crowded.accept_at(delta=0.05) is None


def test_fewest_units_for_a_precision_are_those_for_a_recall() -> None:
    n = fewest_draws(1, share=0.1, delta=0.05)
    apart = candidates([[(0.9, True)]] * 10)
    for units, shown in ((n, 0.9), (n - 1, None)):
        assert PrecisionProof(candidates([[(0.9, True)]] * units), apart, 0.9, seed=0).accept_at(delta=0.05) == shown
