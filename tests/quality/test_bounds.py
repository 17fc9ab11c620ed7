"""What is said of a distribution after some draws: held to exact computation, path by path where paths can be counted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import pytest

from segsvc.quality.bounds import (
    _TABLE_STEP,
    Guess,
    _hazards,
    fewest_draws,
    most_share,
    order_confidence,
    order_rank,
    shown_steps,
    shows_gain,
)

NONE = np.zeros(0, np.int64)


def below(rank: int, n: int, share: Fraction) -> Fraction:
    """P(Bin(n, share) < rank), exactly."""
    return sum((math.comb(n, j) * share**j * (1 - share) ** (n - j) for j in range(rank)), Fraction(0))


# -- order statistics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [59, 100, 300, 1000])
def test_the_rank_is_the_largest_whose_exact_confidence_is_enough(n: int) -> None:
    share, delta = Fraction(1, 20), Fraction(1, 20)
    rank = order_rank(n, share=1 - 0.95, delta=1 - 0.95)
    assert 1 - below(rank, n, share) >= 1 - delta
    assert 1 - below(rank + 1, n, share) < 1 - delta
    assert order_confidence(n, rank, share=0.05) == pytest.approx(float(1 - below(rank, n, share)), abs=1e-12)


def test_58_draws_show_nothing_of_a_twentieth_at_95_percent() -> None:
    assert order_rank(58, share=0.05, delta=0.05) == 0
    assert order_rank(0, share=0.05, delta=0.05) == 0


@pytest.mark.parametrize(("recall", "n"), [(0.95, 59), (0.98, 149), (0.99, 299)])
def test_the_fewest_draws_are_those_of_the_tables(recall: float, n: int) -> None:
    assert fewest_draws(1, share=1 - recall, delta=0.05) == n


@pytest.mark.parametrize("recall", ["0.5", "0.75", "0.9", "0.95", "0.99"])
@pytest.mark.parametrize("confidence", ["0.75", "0.9", "0.95"])
def test_ranks_of_decimals_are_those_of_exact_fractions(recall: str, confidence: str) -> None:
    share, delta = 1 - Fraction(recall), 1 - Fraction(confidence)
    for n in (1, 2, 13, 14, 28, 29, 59, 90, 140):
        exact = max((rank for rank in range(n + 1) if below(rank, n, share) <= delta), default=0)
        assert order_rank(n, share=1 - float(recall), delta=1 - float(confidence)) == exact, n


def test_the_fewest_draws_for_a_rank_are_enough_and_one_less_is_not() -> None:
    for rank in (1, 2, 5, 40):
        n = fewest_draws(rank, share=0.1, delta=0.02)
        assert order_rank(n, share=0.1, delta=0.02) >= rank > order_rank(n - 1, share=0.1, delta=0.02)


@pytest.mark.parametrize("atoms", [(Fraction(1, 4), Fraction(3, 4)), (Fraction(3, 10), Fraction(3, 10), Fraction(2, 5)),
                                   (Fraction(1, 5), Fraction(1, 5), Fraction(1, 5), Fraction(2, 5))])
@pytest.mark.parametrize("share", [0.25, 0.35, 0.5])
def test_ties_make_an_order_statistic_safer_and_never_less_safe(atoms: Sequence[Fraction], share: float) -> None:
    n, delta = 12, 0.2
    rank = order_rank(n, share=share, delta=delta)
    wrong = Fraction(0)
    for value, under in enumerate(itertools.accumulate(atoms, initial=Fraction(0))):  # S_(k) is at least `value` ...
        if float(under) > share:  # ... which has more than the share below it
            wrong = below(rank, n, under)
            assert value > 0
            break
    assert wrong <= Fraction(delta)


@pytest.mark.parametrize(("share", "delta"), [(0.0, 0.05), (1.0, 0.05), (0.05, 0.0), (0.05, 1.0), (-0.1, 0.5)])
def test_a_share_or_a_confidence_of_nothing_or_all_is_refused(share: float, delta: float) -> None:
    with pytest.raises(ValueError, match="share and delta must lie between 0 and 1"):
        order_rank(10, share=share, delta=delta)


# -- the binomial bound -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("events", "n"), [(0, 1), (0, 59), (3, 20), (19, 20), (7, 300)])
@pytest.mark.parametrize("delta", [0.2, 0.05, 0.001])
def test_the_upper_bound_is_the_probability_with_which_so_few_events_are_rare(events: int, n: int, delta: float) -> None:
    bound = most_share(events, n, delta=delta)
    so_few = sum(math.comb(n, j) * bound**j * (1 - bound) ** (n - j) for j in range(events + 1))
    assert so_few == pytest.approx(delta, rel=1e-9)


def test_the_upper_bound_is_exceeded_as_seldom_as_it_says_whatever_the_probability() -> None:
    n, delta = 15, 0.1
    bounds = [most_share(events, n, delta=delta) for events in range(n + 1)]
    for share in (Fraction(k, 40) for k in range(1, 40)):
        exceeded = sum(math.comb(n, j) * share**j * (1 - share) ** (n - j) for j in range(n + 1) if float(share) > bounds[j])
        assert exceeded <= delta


def test_where_all_trials_or_none_were_made_of_it_anything_may_be() -> None:
    assert most_share(5, 5, delta=0.05) == most_share(0, 0, delta=0.05) == 1.0
    with pytest.raises(ValueError, match=r"events must lie between 0 and n \(5\), got 6"):
        most_share(6, 5, delta=0.05)


# -- bets -------------------------------------------------------------------------------------------------------------------

FAIR = {
    "a coin": ((1.0, 0.5), (-1.0, 0.5)),
    "a miss now and then": ((0.25, 0.8), (-1.0, 0.2)),
    "rare gains": ((3.0, 0.25), (-1.0, 0.75)),
    "small and large units": ((0.1, 0.6), (1.0, 0.25), (-0.9, 0.1), (-2.2, 0.1 / 2.2 + 0.05 / 11)),
    "mostly nothing": ((0.0, 0.5), (2.0, 0.2), (-4 / 3, 0.3)),
}


def paths(gains: Sequence[tuple[float, float]], n: int) -> Iterator[tuple[np.ndarray, float]]:
    for path in itertools.product(gains, repeat=n):
        yield np.array([gain for gain, _ in path]), math.prod(probability for _, probability in path)


@pytest.mark.parametrize("name", FAIR)
@pytest.mark.parametrize("delta", [0.3, 0.1])
@pytest.mark.parametrize("square", [None, 1e-4, 50.0])
def test_of_all_paths_of_a_fair_game_too_few_are_taken_for_a_gain(name: str, delta: float, square: float | None) -> None:
    gains = FAIR[name]
    total = sum(probability for _, probability in gains)
    gains = tuple((gain, probability / total) for gain, probability in gains)
    mean = sum(gain * probability for gain, probability in gains)
    gains = tuple((gain - mean, probability) for gain, probability in gains)
    guess = Guess(square if square is not None else sum(gain**2 * probability for gain, probability in gains))
    most_loss = -min(gain for gain, _ in gains)
    taken = 0.0
    for drawn, probability in paths(gains, {2: 10, 3: 6, 4: 5}[len(gains)]):
        if shows_gain(drawn, most_loss=most_loss, delta=delta, guess=guess):
            taken += probability
    assert taken <= delta + 1e-12
    if square is None and delta == 0.3 and name == "a coin":
        assert taken > 0.5 * delta  # little is given away


@pytest.mark.parametrize("delta", [0.3, 0.1])
def test_of_all_paths_few_lead_a_fixed_sequence_past_its_first_untrue_step(delta: float) -> None:
    # a unit's gain at the three steps; the mean is above 0 at the first, exactly 0 at the second, and above 0 at the third
    kinds = (((0.5, 0.5, 0.5), 0.6), ((0.5, -0.5, 0.5), 0.2), ((-0.5, -1.0, 0.5), 0.2))
    assert sum(steps[1] * probability for steps, probability in kinds) == pytest.approx(0)
    places, ends = np.tile(np.arange(6), 3), np.array([6, 12, 18])
    wrong = beyond_first = 0.0
    for path in itertools.product(kinds, repeat=6):
        at = np.array([steps for steps, _ in path]).T
        changes = np.concatenate([at[0], at[1] - at[0], at[2] - at[1]])
        shown = shown_steps(np.zeros(6), np.ones(6, np.int64), places=places, changes=changes, joining=False, ends=ends,
                            caps=np.ones(3, np.int64), loss=1.0, delta=delta, guess=Guess(0.3))
        probability = math.prod(each for _, each in path)
        beyond_first += probability * (shown >= 1)
        wrong += probability * (shown >= 2)
    assert wrong <= delta + 1e-12
    assert beyond_first > wrong


def test_a_walk_ends_at_the_first_step_that_is_not_shown_though_later_ones_would_be() -> None:
    gains = np.full(200, 0.5)
    changes = np.concatenate([np.full(200, -0.5), np.full(200, 0.5)])
    places, caps = np.tile(np.arange(200), 2), np.ones(3, np.int64)

    def walk(ends: list[int]) -> int:
        return shown_steps(gains, np.ones(200, np.int64), places=places, changes=changes, joining=False, ends=np.array(ends),
                           caps=caps, loss=1.0, delta=0.05, guess=Guess(0.25))

    assert walk([0, 200, 400]) == 1
    assert walk([0, 0, 400]) == 3
    assert walk([200, 400, 400]) == 0
    assert (gains == 0.5).all()


def test_a_unit_of_more_members_than_the_cap_counts_as_the_cap() -> None:
    draw = np.random.default_rng(3)
    members = draw.integers(1, 30, 150)
    sums = members * 0.05 - draw.binomial(members, 0.01)
    for cap in (1, 5, 12):
        capped = sums * np.minimum(1, cap / members)
        for delta in (0.5, 0.2, 0.05):
            steps = shown_steps(sums, members, places=NONE, changes=np.zeros(0), joining=False, ends=np.zeros(1, np.int64),
                                caps=np.array([cap]), loss=0.95, delta=delta, guess=Guess(1.0))
            assert (steps == 1) == shows_gain(capped, most_loss=0.95 * cap, delta=delta, guess=Guess(1.0))


def test_members_that_join_make_their_unit_larger() -> None:
    units = np.repeat(np.arange(40), 3)
    joined = shown_steps(np.zeros(40), np.zeros(40, np.int64), places=units, changes=np.full(120, 0.1), joining=True,
                         ends=np.array([120]), caps=np.array([2]), loss=1.0, delta=0.3, guess=Guess(1.0))
    assert (joined == 1) == shows_gain(np.full(40, 0.2), most_loss=2.0, delta=0.3, guess=Guess(1.0))


def test_nothing_drawn_nothing_gained_and_too_much_lost_show_nothing() -> None:
    guess = Guess(1.0)
    assert not shows_gain(np.zeros(0), most_loss=1.0, delta=0.5, guess=guess)
    assert not shows_gain(np.zeros(1000), most_loss=1.0, delta=0.5, guess=guess)
    assert not shows_gain(np.array([1.0]), most_loss=1.0, delta=0.05, guess=guess)
    assert not shows_gain(np.array([-5.0, 100.0, 100.0]), most_loss=1.0, delta=0.5, guess=guess)
    assert not shows_gain(np.array([np.nan, 100.0]), most_loss=1.0, delta=0.5, guess=guess)


def test_one_draw_shows_a_gain_where_the_largest_bet_on_it_reaches_the_goal() -> None:
    sure = Guess(1e-9)  # so small a guess stakes as much as can be: 0.99 of what may be lost
    assert shows_gain(np.array([1.02]), most_loss=1.0, delta=0.5, guess=sure)
    assert not shows_gain(np.array([1.0]), most_loss=1.0, delta=0.5, guess=sure)


def test_gains_of_any_size_are_taken_alike_in_their_own_unit() -> None:
    draw = np.random.default_rng(0)
    gains = draw.normal(0.2, 1.0, 300).clip(-2)
    for delta in (0.3, 0.1, 0.01):
        plain = shows_gain(gains, most_loss=2.0, delta=delta, guess=Guess(1.0))
        for unit in (1e-9, 1e9):
            assert shows_gain(gains * unit, most_loss=2.0 * unit, delta=delta, guess=Guess(unit * unit)) == plain


@pytest.mark.parametrize(("square", "weight"), [(0.0, 10.0), (-1.0, 10.0), (float("nan"), 10.0), (1.0, 0.0)])
def test_a_guess_of_nothing_is_refused(square: float, weight: float) -> None:
    with pytest.raises(ValueError, match="square and weight must be above 0"):
        Guess(square, weight)


@pytest.mark.parametrize(("most_loss", "delta"), [(0.0, 0.05), (1.0, 0.0), (1.0, 1.0)])
def test_a_game_without_loss_or_goal_is_refused(most_loss: float, delta: float) -> None:
    with pytest.raises(ValueError, match="expected delta between 0 and 1 and a loss above 0"):
        shows_gain(np.ones(3), most_loss=most_loss, delta=delta, guess=Guess(1.0))


def test_the_table_of_hazards_is_that_of_the_normal_distribution() -> None:
    from scipy.stats import norm

    table = _hazards()
    heights = np.arange(1, len(table)) * _TABLE_STEP
    z = norm.isf(np.exp(-heights))
    assert table[1:] == pytest.approx(np.exp(norm.logpdf(z) - norm.logsf(z)), rel=1e-9)
    z = norm.isf(np.exp(-heights[8:-1] - _TABLE_STEP / 2))  # between two
    assert (table[9:-1] + table[10:]) / 2 == pytest.approx(np.exp(norm.logpdf(z) - norm.logsf(z)), rel=1e-3)
    assert (np.diff(table) > 0).all()
    assert table[0] > 0


def test_a_fair_game_is_taken_for_a_gain_about_as_often_as_allowed_and_a_gain_nearly_as_often_as_can_be() -> None:
    draw = np.random.default_rng(5)
    n, times = 1000, 2000

    def share_taken(mean: float) -> float:
        gains = np.where(draw.random((times, n)) < (1 + mean) / 2, 1.0, -1.0)
        return sum(shows_gain(each, most_loss=1.0, delta=0.05, guess=Guess(1.0)) for each in gains) / times

    assert 0.025 < share_taken(0.0) < 0.065  # of 0.05, drawn 2,000 times
    assert share_taken((1.645 + 1.282) / math.sqrt(n)) > 0.8  # where a test that knows the variance has 0.9
