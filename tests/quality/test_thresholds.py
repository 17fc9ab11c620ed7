"""Where flagging begins: what is promised, held to all samples that small laws can give."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from segsvc.quality.bounds import Guess, order_rank, shows_gain
from segsvc.quality.found import NOT_FOUND
from segsvc.quality.thresholds import RecallProof, Tally, set_apart
from segsvc.types import Bound
from tests.drawn_units import candidates, halves, objects


def crowds(n: int, *, seed: int, dark: float = 0.05) -> Tally:
    """n units of 0 to 8 objects; in dark ones all score low, and one object in a hundred is never found."""
    draw = np.random.default_rng(seed)
    units = []
    for _ in range(n):
        scores = draw.beta(5, 2, draw.integers(0, 9)) * (0.3 if draw.random() < dark else 1.0)
        units.append([NOT_FOUND if draw.random() < 0.01 else score for score in scores.round(2)])
    return objects(units)


# -- units ------------------------------------------------------------------------------------------------------------------


def test_wanted_units_are_numbered_anew_and_keep_what_they_hold() -> None:
    tally = candidates([[(0.1, True)], [], [(0.2, False), (0.3, True)]])
    part = tally.of_units(np.array([False, True, True]))
    assert (part.n_units, part.candidate_unit.tolist(), part.object_unit.tolist()) == (2, [1, 1], [1])
    assert (part.candidate_score.tolist(), part.candidate_right.tolist()) == ([0.2, 0.3], [False, True])
    assert (part.objects_a_unit.tolist(), part.candidates_a_unit.tolist(), part.units_with_objects) == ([0, 1], [0, 2], 1)


def test_shuffled_units_hold_what_they_held_in_an_order_of_the_seed() -> None:
    tally = crowds(50, seed=0)
    same, again, other = tally.shuffled(1), tally.shuffled(1), tally.shuffled(2)
    assert sorted(same.objects_a_unit) == sorted(tally.objects_a_unit)
    assert same.object_unit.tolist() == again.object_unit.tolist() != other.object_unit.tolist()


def test_a_share_of_the_units_is_set_apart_by_the_seed() -> None:
    apart = set_apart(50, share=0.2, seed=3)
    assert apart.sum() == 10
    assert (apart == set_apart(50, share=0.2, seed=3)).all()
    assert (apart != set_apart(50, share=0.2, seed=4)).any()
    assert not set_apart(50, share=0.0, seed=3).any()


# -- recall, one object a unit ----------------------------------------------------------------------------------------------


def test_59_found_objects_are_flagged_from_the_lowest_score_on_and_58_show_nothing() -> None:
    scores = np.random.default_rng(0).random(59)
    assert RecallProof(objects([[score] for score in scores]), None, seed=0).flag_at(0.95, delta=0.05) == scores.min()
    assert RecallProof(objects([[score] for score in scores[1:]]), None, seed=0).flag_at(0.95, delta=0.05) is None


def test_units_without_objects_change_no_recall() -> None:
    units = [[0.01 * (i + 1)] for i in range(93)]
    with_empty = objects([*units, *([[]] * 500)])
    assert RecallProof(with_empty, None, seed=0).flag_at(0.95, delta=0.05) == RecallProof(
        objects(units), None, seed=1).flag_at(0.95, delta=0.05) == 0.02


def test_an_object_that_nothing_finds_is_missed_at_every_threshold() -> None:
    for n in (59, 92):
        assert RecallProof(objects([[NOT_FOUND], *([[0.5]] * (n - 1))]), None, seed=0).flag_at(0.95, delta=0.05) is None
    proof = RecallProof(objects([[NOT_FOUND], *([[0.5]] * 92)]), None, seed=0)
    assert (proof.flag_at(0.95, delta=0.05), proof.never_found, proof.bound) == (0.5, 1, Bound.BINOMIAL)


def test_equal_scores_are_flagged_together() -> None:
    proof = RecallProof(objects([[0.2]] * 10 + [[0.6]] * 90), None, seed=0)
    assert order_rank(100, share=0.05, delta=0.05) == 2
    assert proof.flag_at(0.95, delta=0.05) == 0.2
    assert proof.flag_at(0.8, delta=0.05) == 0.6


@pytest.mark.parametrize("law", [{0.2: 0.3, 0.5: 0.3, 0.9: 0.4}, {NOT_FOUND: 0.35, 0.5: 0.65}, {0.1: 0.41, 0.6: 0.59},
                                 {NOT_FOUND: 0.1, 0.3: 0.31, 0.7: 0.59}])
@pytest.mark.parametrize(("n", "recall", "delta"), [(7, 0.6, 0.2), (9, 0.6, 0.3), (9, 0.5, 0.1)])
def test_of_all_samples_of_single_objects_too_few_promise_what_is_not_so(
        law: dict[float, float], n: int, recall: float, delta: float) -> None:
    wrong = 0.0
    for counts in itertools.product(range(n + 1), repeat=len(law)):
        if sum(counts) != n:
            continue
        ways = math.factorial(n) // math.prod(map(math.factorial, counts))
        probability = ways * math.prod(p**k for p, k in zip(law.values(), counts, strict=True))
        drawn = [[score] for score, k in zip(law, counts, strict=True) for _ in range(k)]
        flag_at = RecallProof(objects(drawn), None, seed=0).flag_at(recall, delta=delta)
        if flag_at is not None and sum(p for score, p in law.items() if score >= flag_at) < recall - 1e-12:
            wrong += probability
    assert wrong <= delta + 1e-12


def test_where_no_unit_apart_has_several_objects_a_unit_counts_once_by_its_worst() -> None:
    apart = objects([[0.9]] * 20)
    proof = RecallProof(objects([[0.3, 0.9]] + [[0.5]] * 40 + [[0.6]] * 52), apart, seed=0)
    assert (proof.bound, proof.cap, proof.units_over_cap) == (Bound.BINOMIAL, 1, 1)
    assert proof.flag_at(0.95, delta=0.05) == 0.5  # the second of 93
    assert proof.flag_at(0.95, delta=0.01) == 0.3  # the first
    lost = RecallProof(objects([[NOT_FOUND, 0.9]] + [[0.5]] * 58), apart, seed=0)
    assert lost.flag_at(0.95, delta=0.05) is None


def test_several_objects_without_units_apart_or_no_objects_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one object, got none"):
        RecallProof(objects([[], []]), None, seed=0)
    for apart in (None, objects([[], []])):
        with pytest.raises(ValueError, match="expected units with objects apart"):
            RecallProof(objects([[0.5, 0.5]]), apart, seed=0)


@pytest.mark.parametrize(("found", "lost"), [(10, 0), (58, 0), (59, 1), (60, 1), (300, 12), (290, 13)])
@pytest.mark.parametrize("recall", [0.95, 0.98])
def test_so_many_more_single_objects_are_the_fewest_that_do(found: int, lost: int, recall: float) -> None:
    def shows(n: int) -> bool:
        misses = max(lost, lost * n // (found + lost))
        return order_rank(n, share=1 - recall, delta=0.05) > misses

    proof = RecallProof(objects([[0.5]] * found + [[NOT_FOUND]] * lost), None, seed=0)
    more = proof.more_units(recall, delta=0.05)
    if lost >= (1 - recall) * (found + lost):
        assert more is None
        return
    have = found + lost
    assert more is not None and shows(have + more)
    assert not any(shows(n) for n in range(have + more - 1, have, -max(1, more // 20)))


def test_a_share_that_is_never_found_beyond_what_is_allowed_is_not_healed_by_more() -> None:
    assert RecallProof(objects([[0.5]] * 95 + [[NOT_FOUND]] * 5), None, seed=0).more_units(0.95, delta=0.05) is None
    nearly = RecallProof(objects([[0.5]] * 9_501 + [[NOT_FOUND]] * 499), None, seed=0)
    assert nearly.more_units(0.95, delta=0.05) is None  # so many that none is named


def test_the_best_recall_of_single_objects_is_the_end_of_the_binomial_interval() -> None:
    for found, lost in ((59, 0), (149, 0), (100, 7), (3, 0), (0, 5)):
        best = RecallProof(objects([[0.5]] * found + [[NOT_FOUND]] * lost), None, seed=0).best(delta=0.05)
        n = found + lost
        if best:
            assert order_rank(n, share=1 - best + 1e-12, delta=0.05) > lost
        assert order_rank(n, share=1 - best - (0.001 if best >= 0.9 else 0.01), delta=0.05) <= lost


# -- recall, several objects a unit -----------------------------------------------------------------------------------------


def by_hand(proving: Tally, apart: Tally, recall: float, delta: float, seed: int) -> float | None:
    """The threshold by plain counting: over all scores, from the lowest on, until one is not shown."""
    cap = apart.objects_a_unit.max()

    def gains(tally: Tally, missed: np.ndarray) -> np.ndarray:
        sums = np.zeros(tally.n_units)
        for unit, is_missed in zip(tally.object_unit, missed, strict=True):
            sums[unit] += (1 - recall) - is_missed
        return sums * np.minimum(1, cap / np.maximum(tally.objects_a_unit, 1))

    lowest = np.argsort(apart.object_score, kind="stable")[: max(1, round((1 - recall) / 2 * len(apart.object_score)))]
    guess = Guess(float((gains(apart, np.isin(np.arange(len(apart.object_score)), lowest)) ** 2).mean()))
    drawn, shown = proving.shuffled(seed), None
    for threshold in np.unique(drawn.object_score[drawn.object_score != NOT_FOUND]):
        if not shows_gain(gains(drawn, drawn.object_score < threshold), most_loss=recall * cap, delta=delta, guess=guess):
            break
        shown = float(threshold)
    return shown


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("recall", [0.8, 0.9])
def test_the_walk_is_that_over_all_scores(seed: int, recall: float) -> None:
    proving, apart = halves(crowds(120, seed=seed), seed)
    flag_at = RecallProof(proving, apart, seed=seed).flag_at(recall, delta=0.05)
    assert flag_at == by_hand(proving, apart, recall, 0.05, seed)
    assert flag_at is not None
    assert (proving.object_score >= flag_at).mean() > recall


def test_with_many_objects_the_walk_is_over_scores_of_the_units_apart() -> None:
    draw = np.random.default_rng(1)
    proving, apart = halves(objects(draw.beta(5, 2, (2000, 5)).tolist()), 0)
    proof = RecallProof(proving, apart, seed=0)
    flag_at = proof.flag_at(0.9, delta=0.05)
    assert flag_at in apart.object_score
    assert 0.9 < (proving.object_score >= flag_at).mean() < 0.93


def test_a_unit_of_more_objects_than_any_apart_counts_as_many_as_the_largest_there() -> None:
    apart = objects([[0.5] * 4] * 40)
    small, vast = [[0.5] * 4] * 100, [[0.5] * 400] * 60
    proof = RecallProof(objects([*small, *vast, [0.1] * 400]), apart, seed=0)
    assert (proof.bound, proof.cap, proof.units_over_cap, proof.over_cap) == (Bound.BETTING, 4, 61, 61 * 396)
    as_small = RecallProof(objects([*small, *([[0.5] * 4] * 60), [0.1] * 4]), apart, seed=0)
    for recall in (0.9, 0.95, 0.97):
        assert proof.flag_at(recall, delta=0.05) == as_small.flag_at(recall, delta=0.05)


def test_what_is_tested_decides_neither_the_cap_nor_the_theorem() -> None:
    apart = objects([[0.5] * 3] * 10)
    one, vast = objects([[0.5]] * 100), objects([[0.5] * 50] * 100)
    assert {(proof.bound, proof.cap) for proof in (RecallProof(each, apart, seed=0) for each in (one, vast))} == {
        (Bound.BETTING, 3)}


@pytest.mark.parametrize("delta", [0.3, 0.15])
@pytest.mark.parametrize("kinds", [
    (([0.8, 0.8], 0.3), ([NOT_FOUND, 0.8], 0.4), ([0.2, 0.2], 0.3)),  # 0.5 of all score 0.8
    (([0.8], 0.6), ([NOT_FOUND] * 2, 0.31), ([0.8, 0.2], 0.09)),  # vast ones are lost
    (([0.3], 0.5), ([0.3, 0.1, 0.8], 0.25), ([], 0.1), ([NOT_FOUND] * 2, 0.15)),
])
def test_of_all_samples_of_units_too_few_promise_what_is_not_so(
        kinds: tuple[tuple[list[float], float], ...], delta: float) -> None:
    most = max(len(scores) for scores, _ in kinds)
    apart = objects([[0.8] * most, [0.2] * most, [0.8]])
    total = sum(p * len(scores) for scores, p in kinds)

    def recall_at(threshold: float) -> float:
        return sum(p * sum(score >= threshold for score in scores) for scores, p in kinds) / total

    targets = sorted({recall_at(threshold) + 1e-9 for threshold in (0.1, 0.2, 0.3, 0.8)})  # just above what is so
    wrong = dict.fromkeys(targets, 0.0)
    n = 5
    for path in itertools.product(kinds, repeat=n):
        drawn = [scores for scores, _ in path]
        if not any(drawn):
            continue
        proof = RecallProof(objects(drawn), apart, seed=0)
        for target in targets:
            flag_at = proof.flag_at(target, delta=delta) if target < 1 else None
            if flag_at is not None and recall_at(flag_at) < target:
                wrong[target] += math.prod(p for _, p in path)
    assert max(wrong.values()) <= delta + 1e-12


def test_the_best_recall_of_units_is_shown_and_none_lower_is_not() -> None:
    proving, apart = halves(crowds(150, seed=4, dark=0.0), 4)
    proof = RecallProof(proving, apart, seed=4)
    best = proof.best(delta=0.05)
    assert 0.9 < best < 0.99
    assert proof.flag_at(best, delta=0.05) is not None
    assert proof.flag_at(best + 0.001, delta=0.05) is None


@pytest.mark.parametrize("recall", [0.96, 0.97])
def test_so_many_more_units_do_when_they_come_and_far_fewer_do_not(recall: float) -> None:
    units: list[list[float]] = [[0.5] * 3] * 59 + [[NOT_FOUND, 0.5, 0.5]]
    apart = objects(units[::4])
    proof = RecallProof(objects(units), apart, seed=0)
    assert proof.flag_at(recall, delta=0.05) is None
    more = proof.more_units(recall, delta=0.05)
    assert more is not None
    for share, shown in ((1.4, True), (0.6, False)):
        n = 60 + round(share * more)
        drawn = [units[59]] * round(n / 60) + [units[0]] * (n - round(n / 60))
        assert (RecallProof(objects(drawn), apart, seed=0).flag_at(recall, delta=0.05) is not None) == shown
    assert RecallProof(objects([[NOT_FOUND, 0.5]] * 80), apart, seed=0).more_units(0.95, delta=0.05) is None


def test_the_same_units_and_seed_give_the_same_recall_to_the_last_digit() -> None:
    proving, apart = halves(crowds(200, seed=9), 9)
    one, two = (RecallProof(proving, apart, seed=9) for _ in range(2))
    assert [one.flag_at(0.9, delta=0.05), one.best(delta=0.05), one.more_units(0.99, delta=0.05)] == [
        two.flag_at(0.9, delta=0.05), two.best(delta=0.05), two.more_units(0.99, delta=0.05)]


def test_simulated_calibrations_of_dark_units_keep_the_recall() -> None:
    """Objects of a unit share its light, and crowded ones are darker: recall at t is known from the law."""
    sizes, step = np.arange(1, 13), 0.03

    def recall_at(threshold: float) -> float:  # the light is uniform in [0, 1], less so much for each object
        return float((sizes * np.clip(1 - step * sizes - threshold, 0, 1)).sum() / sizes.sum())

    wrong, times = 0, 250
    draw = np.random.default_rng(8)
    for seed in range(times):
        drawn = [[max(draw.random() - step * size, 0.0)] * size for size in draw.integers(1, 13, 100)]
        flag_at = RecallProof(*halves(objects(drawn), seed), seed=seed).flag_at(0.7, delta=0.1)
        wrong += flag_at is not None and recall_at(flag_at) < 0.7
    assert wrong <= 0.1 * times + 3.1 * math.sqrt(0.09 * times)
