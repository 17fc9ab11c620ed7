"""Intervals by a bootstrap over units."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segsvc.quality.bootstrap import Resamples, figure, has_no_width, mean_of_defined, share, span_coverage


def test_the_first_total_is_the_samples_own_and_the_others_are_of_whole_units() -> None:
    drawn = Resamples(["a", "b", "a", "c"], n=50, seed=1)
    totals = drawn.totals(np.array([1, 10, 2, 100]))
    assert totals[0] == 113
    assert drawn.weights[1:].sum(axis=1).tolist() == [3] * 50
    of_units = np.array([3, 10, 100])
    assert totals[1:].tolist() == (drawn.weights[1:].astype(int) @ of_units).tolist()


def test_the_same_seed_draws_the_same_and_another_seed_another_sample() -> None:
    units = [str(number) for number in range(30)]
    assert (Resamples(units, n=5, seed=3).weights == Resamples(units, n=5, seed=3).weights).all()
    assert (Resamples(units, n=5, seed=3).weights != Resamples(units, n=5, seed=4).weights).any()


def test_totals_of_several_columns_keep_their_shape() -> None:
    counted = np.arange(24).reshape(4, 3, 2)
    totals = Resamples(["a", "b", "c", "d"], n=130, seed=0).totals(counted)
    assert totals.shape == (131, 3, 2)
    assert totals[0].tolist() == counted.sum(axis=0).tolist()


def test_one_unit_gives_no_interval() -> None:
    drawn = Resamples(["a", "a"], n=1000, seed=0)
    assert drawn.n == 0
    found = figure(share(drawn.totals(np.array([1, 1])), drawn.totals(np.array([2, 2]))))
    assert (found.value, found.low, found.high) == (0.5, None, None)


def test_few_units_span_the_median_of_their_kind_as_seldom_as_is_said() -> None:
    random = np.random.default_rng(4)
    for n_units in (2, 3, 5):
        drawn = random.exponential(size=(4000, n_units))
        covered = (drawn.min(axis=1) < math.log(2)) & (drawn.max(axis=1) > math.log(2))
        assert abs(covered.mean() - span_coverage(n_units)) < 0.03


def test_an_interval_has_no_width_where_one_unit_holds_all_that_is_counted() -> None:
    drawn = Resamples(list("abcdefgh"), n=200, seed=0)
    found, all_of_them = np.array([0, 0, 7, 0, 0, 0, 0, 0]), np.array([0, 0, 10, 0, 0, 0, 0, 0])
    assert has_no_width(figure(share(drawn.totals(found), drawn.totals(all_of_them))))
    assert not has_no_width(figure(share(drawn.totals(found), drawn.totals(np.ones(8, np.int64)))))


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(11)
    covered = 0
    for seed in range(200):
        right = (random.random(80) < 0.7).astype(np.int64)
        drawn = Resamples([str(number) for number in range(80)], n=300, seed=seed)
        found = figure(share(drawn.totals(right), drawn.totals(np.ones(80, np.int64))))
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.7 <= found.high
    assert 178 <= covered <= 200  # of 95 %


def test_groups_that_are_alike_within_make_the_interval_wider() -> None:
    random = np.random.default_rng(2)
    right = np.repeat((random.random(20) < 0.6).astype(np.int64), 10)
    ones = np.ones(200, np.int64)

    def width(units: list[str]) -> float:
        drawn = Resamples(units, n=500, seed=0)
        found = figure(share(drawn.totals(right), drawn.totals(ones)))
        return (found.high or 0.0) - (found.low or 0.0)

    assert width([str(number // 10) for number in range(200)]) > 2 * width([str(number) for number in range(200)])


def test_what_is_undefined_stays_so_and_its_resamples_are_left_out() -> None:
    nan = math.nan
    assert figure(np.array([nan, 1.0, 1.0])).value is None
    assert figure(np.array([0.5, nan, 0.4, 0.6])).low == pytest.approx(0.405)
    assert figure(np.array([0.5, nan, nan, 0.6])).low is None  # most resamples say nothing
    assert mean_of_defined(np.array([[1.0, nan], [nan, nan]]), axis=1).tolist()[0] == 1.0
    assert math.isnan(mean_of_defined(np.array([[nan, nan]]), axis=1)[0])
