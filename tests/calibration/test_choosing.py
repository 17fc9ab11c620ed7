"""Thresholds of all classes jointly, out of tallies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from segsvc.calibration.choosing import RECALLS, Targets, choose
from segsvc.quality.bounds import fewest_draws
from segsvc.quality.found import NOT_FOUND
from segsvc.quality.thresholds import Tally
from segsvc.types import Bound

TARGETS = Targets(recall=0.95, precision=0.95, confidence=0.95)


def single(n: int, *, never_found: int = 0, wrong: int = 0, seed: int = 0) -> Tally:
    """n units with an object and its candidate each, and as many others with a wrong candidate of a low score."""
    draw = np.random.default_rng(seed)
    scores = draw.uniform(0.5, 1.0, n)
    units = np.arange(n + wrong)
    objects = scores.copy()
    objects[:never_found] = NOT_FOUND
    return Tally(n + wrong, units[:n], objects, np.concatenate([units[never_found:n], units[n:]]),
                 np.concatenate([scores[never_found:], draw.uniform(0.0, 0.3, wrong)]),
                 np.arange(n - never_found + wrong) < n - never_found)


def several(n: int, *, seed: int = 0) -> Tally:
    """n units of 1 to 6 objects, all found, with two wrong candidates each."""
    draw = np.random.default_rng(seed)
    objects = np.repeat(np.arange(n), draw.integers(1, 7, n))
    scores, wrong = draw.uniform(0.4, 1.0, len(objects)), draw.uniform(0.1, 0.5, 2 * n)
    return Tally(n, objects, scores, np.concatenate([objects, np.repeat(np.arange(n), 2)]),
                 np.concatenate([scores, wrong]), np.arange(len(objects) + 2 * n) < len(objects))


def test_59_objects_of_59_images_are_just_enough_and_all_of_them_serve_the_recall() -> None:
    choice = choose(["cat"], [single(59)], TARGETS, images=1000, seed=0, demands_precision=False)
    assert not choice.shortfalls
    proof = choice.proofs["cat"]
    assert (proof.bound, proof.objects, proof.precision_delta) == (Bound.BINOMIAL, 59, 0)
    assert proof.recall_delta == pytest.approx(0.05)
    assert choice.thresholds["cat"].flag_at == single(59).object_score.min()
    assert (choice.thresholds["cat"].accept_at, choice.units_apart, choice.without_acceptance) == (None, 0, ("cat",))


@pytest.mark.parametrize(("objects", "never_found"), [(58, 0), (40, 0), (59, 1), (300, 20)])
def test_fewer_say_how_many_more_would_do_and_then_they_do(objects: int, never_found: int) -> None:
    choice = choose(["cat"], [single(objects, never_found=never_found)], TARGETS, images=1000, seed=0,
                    demands_precision=False)
    [short] = choice.shortfalls
    assert not choice.thresholds
    assert short.best < 0.95
    if never_found / objects >= 0.05:
        assert short.more_units is None
        return
    assert short.more_units is not None
    enough = objects + short.more_units
    more = choose(["cat"], [single(enough, never_found=never_found * enough // objects)], TARGETS, images=1000, seed=0,
                  demands_precision=False)
    assert not more.shortfalls


def test_with_spare_units_a_fifth_is_set_apart_for_acceptance_and_probabilities() -> None:
    tally = single(400, wrong=400)
    choice = choose(["cat"], [tally], TARGETS, images=1000, seed=0, demands_precision=False)
    proof, bands = choice.proofs["cat"], choice.thresholds["cat"]
    assert choice.units_apart == 160
    assert proof.objects + 80 == pytest.approx(400, abs=40)
    assert (proof.recall_delta, proof.precision_delta) == (pytest.approx(0.04), pytest.approx(0.01))
    assert bands.accept_at is not None and bands.accept_at >= bands.flag_at
    assert all(row.precision_measured >= row.precision for row in proof.precisions)
    assert choice.probabilities["cat"].of(np.array([0.1, 0.9]))[0] < 0.1
    assert proof.reliability is not None
    assert proof.reliability.error_of_probabilities < proof.reliability.error_of_scores


def test_units_with_several_objects_are_proven_by_bets_with_the_cap_of_the_units_apart() -> None:
    choice = choose(["cat"], [several(500)], TARGETS, images=1000, seed=0, demands_precision=False)
    proof = choice.proofs["cat"]
    assert (proof.bound, proof.cap_objects, choice.units_apart) == (Bound.BETTING, 6, 100)
    strict = [row.flag_at for row in sorted(proof.recalls, key=lambda row: -row.recall)]
    assert strict == sorted(strict)
    assert all(row.recall_measured >= row.recall for row in proof.recalls)
    assert proof.best_recall >= 0.95


def test_the_confidence_is_divided_among_the_classes() -> None:
    need = fewest_draws(1, share=0.05, delta=0.05 / 2)
    assert need > 59
    short = choose(["cat", "dog"], [single(need - 1), single(need)], TARGETS, images=1000, seed=0, demands_precision=False)
    assert [each.class_name for each in short.shortfalls] == ["cat"]
    assert short.shortfalls[0].more_units == 1
    enough = choose(["cat", "dog"], [single(need), single(need)], TARGETS, images=1000, seed=0, demands_precision=False)
    assert set(enough.thresholds) == {"cat", "dog"}


def test_a_class_without_objects_is_told_with_how_many_it_takes() -> None:
    empty = Tally(100, np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_))
    [short] = choose(["cat"], [empty], TARGETS, images=1000, seed=0, demands_precision=False).shortfalls
    assert (short.objects, short.best, short.more_units) == (0, 0.0, 59)


def test_the_same_tallies_and_seed_give_the_same_and_another_seed_sets_others_apart() -> None:
    one, two, other = (choose(["cat"], [several(300)], TARGETS, images=1000, seed=seed, demands_precision=False)
                       for seed in (3, 3, 4))
    assert one == two
    assert one.proofs["cat"].objects != other.proofs["cat"].objects


def test_other_targets_take_the_next_stricter_row() -> None:
    proof = choose(["cat"], [several(500)], TARGETS, images=1000, seed=0, demands_precision=False).proofs["cat"]
    rows = {row.recall: row.flag_at for row in proof.recalls}
    assert proof.bands("cat", 0.87, None).flag_at == rows[0.9]
    assert proof.bands("cat", 0.9, None).flag_at == rows[0.9]
    with pytest.raises(ValueError, match="expected a recall that the calibration shows for cat, up to"):
        proof.bands("cat", 0.9999, None)
    with pytest.raises(ValueError, match="expected a precision that the calibration shows for cat"):
        proof.bands("cat", 0.9, 0.9999)


@pytest.mark.parametrize("tally", [single, several])
def test_recalls_that_are_not_shown_stand_beside_those_that_are_and_so_many_more_units_show_them(
        tally: Callable[[int], Tally]) -> None:
    wanted = Targets(recall=0.8, precision=0.95, confidence=0.95)
    proof = choose(["cat"], [tally(120)], wanted, images=240, seed=0, demands_precision=False).proofs["cat"]
    assert proof.beyond
    assert sorted({row.recall for row in (*proof.recalls, *proof.beyond)}) == sorted(RECALLS)
    more = [row.more_units for row in proof.beyond]
    assert more == sorted(more, key=lambda units: float("inf") if units is None else units)
    first = proof.beyond[0]
    assert first.more_units is not None
    again = choose(["cat"], [tally(120 + first.more_units)], wanted, images=240, seed=0, demands_precision=False)
    assert again.proofs["cat"].recall_at(first.recall) is not None
    assert proof.stored_per_1000_images == pytest.approx(1000 * len(tally(120).candidate_unit) / 240, abs=0.001)


def test_what_no_number_of_units_shows_none_is_said_to_show_of_higher_recalls() -> None:
    proof = choose(["cat"], [single(300, never_found=20)], Targets(0.8, 0.95, 0.95), images=300, seed=0,
                   demands_precision=False).proofs["cat"]
    assert [row.recall for row in proof.beyond if row.more_units is None] == [0.95, 0.96, 0.97, 0.98, 0.99, 0.995]


@pytest.mark.parametrize(("tally", "n"), [(single, 120), (several, 60)])
def test_a_precision_that_was_demanded_says_how_many_more_would_show_it_and_then_they_do(
        tally: Callable[[int], Tally], n: int) -> None:
    wanted = Targets(recall=0.8, precision=0.98, confidence=0.95)
    choice = choose(["cat"], [tally(n)], wanted, images=n, seed=0, demands_precision=True)
    [missing] = choice.unaccepted
    assert choice.without_acceptance == (missing.class_name,) == ("cat",)
    assert missing.best is not None and missing.best < 0.98
    assert missing.more_units is not None
    assert n < missing.more_units < 20 * n
    more = choose(["cat"], [tally(n + missing.more_units)], wanted, images=n, seed=0, demands_precision=True)
    assert (more.unaccepted, more.without_acceptance) == ((), ())


def test_a_precision_that_the_model_does_not_have_takes_no_number() -> None:
    flat = single(200, wrong=0)
    half = replace(flat, candidate_right=np.arange(200) % 2 == 0)
    choice = choose(["cat"], [half], Targets(0.8, 0.95, 0.95), images=200, seed=0, demands_precision=True)
    assert [(each.best, each.more_units) for each in choice.unaccepted] == [(None, None)]
