"""How many of a population are of a kind, at the most, after some were drawn: held to exact fractions, and to every draw."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest

from segsvc.quality.bounds import most_members, most_share
from segsvc.quality.missed import Audited, bound_missed


def at_most(events: int, population: int, kind: int, drawn: int) -> Fraction:
    """P(Hyp(population, kind, drawn) <= events), exactly."""
    ways = sum(math.comb(kind, k) * math.comb(population - kind, drawn - k) for k in range(events + 1))
    return Fraction(ways, math.comb(population, drawn))


@pytest.mark.parametrize("population", [1, 7, 34])
@pytest.mark.parametrize("delta", [0.05, 0.4])
def test_the_bound_is_that_of_exact_fractions(population: int, delta: float) -> None:
    for drawn in range(0, population + 1, 4):
        for events in range(drawn + 1):
            exact = max(kind for kind in range(events, population - drawn + events + 1)
                        if at_most(events, population, kind, drawn) > Fraction(delta))
            assert most_members(events, drawn, population, delta=delta) == exact, (events, drawn)


@pytest.mark.parametrize(("population", "drawn"), [(9, 3), (10, 5), (12, 4)])
def test_over_all_draws_that_there_are_it_is_exceeded_in_no_more_than_is_allowed(population: int, drawn: int) -> None:
    delta = 0.1
    draws = list(itertools.combinations(range(population), drawn))
    for kind in range(population + 1):
        wrong = sum(most_members(sum(one < kind for one in draw), drawn, population, delta=delta) < kind for draw in draws)
        assert wrong <= delta * len(draws), kind


def test_with_all_drawn_it_is_the_count_and_with_none_everything() -> None:
    assert most_members(4, 50, 50, delta=0.05) == 4
    assert most_members(0, 0, 50, delta=0.05) == 50
    assert most_members(0, 0, 0, delta=0.05) == 0


def test_of_a_vast_population_it_is_that_of_independent_draws_and_of_a_smaller_one_sharper() -> None:
    vast = most_members(2, 1000, 10**8, delta=0.05) / 10**8
    assert vast == pytest.approx(most_share(2, 1000, delta=0.05), rel=1e-3)
    assert most_members(2, 1000, 2000, delta=0.05) / 2000 < vast


@pytest.mark.parametrize(("events", "drawn", "population", "delta"), [
    (-1, 2, 3, 0.1), (3, 2, 3, 0.1), (1, 4, 3, 0.1), (1, 2, 3, 0.0), (1, 2, 3, 1.0)])
def test_numbers_that_do_not_fit_are_refused(events: int, drawn: int, population: int, delta: float) -> None:
    with pytest.raises(ValueError, match="expected 0 <= events <= drawn <= population"):
        most_members(events, drawn, population, delta=delta)


def test_what_is_not_read_yet_and_what_was_unsure_count_as_objects_so_that_reading_on_only_lowers_the_bound() -> None:
    before, bounds = 10**9, []
    for read in range(0, 101, 10):
        one = Audited("cell", 5000, 100, objects=read // 50, nothing=read - read // 50 - read // 25, unsure=read // 25)
        assert one.left == 100 - read
        [bound] = bound_missed([one], confidence=0.95).classes
        assert bound.at_most <= before
        before = bound.at_most
        bounds.append(bound.at_most)
    assert bounds[0] == 5000
    assert bounds[-1] == most_members(6, 100, 5000, delta=0.05)  # 2 objects and 4 unsure


def test_classes_share_what_may_go_wrong_with_what_is_said_of_all_together() -> None:
    cell, fibre = Audited("cell", 900, 90, 0, 90, 0), Audited("fibre", 100, 10, 1, 9, 0)
    missed = bound_missed([cell, fibre], confidence=0.94)
    assert [each.at_most for each in missed.classes] == [most_members(0, 90, 900, delta=0.02),
                                                         most_members(1, 10, 100, delta=0.02)]
    assert missed.all_classes is not None
    assert missed.whole == missed.all_classes
    assert missed.all_classes.at_most == most_members(1, 100, 1000, delta=0.02)
    [alone] = bound_missed([cell], confidence=0.95).rows
    assert alone.at_most == most_members(0, 90, 900, delta=0.05)


def test_where_nothing_was_rejected_nothing_is_said() -> None:
    missed = bound_missed([], confidence=0.95)
    assert (missed.rows, missed.whole) == ((), None)
