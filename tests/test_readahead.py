"""Work ahead of the one who takes its results: in order, in bounds, and the first exception ends it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from segsvc.readahead import in_order


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
def test_results_come_in_the_order_of_the_items_however_long_each_takes(at_once: int) -> None:
    late = threading.Event()

    def double(item: int) -> int:
        if item == 0 and at_once > 1:  # the first one ends last
            late.wait(10)
        if item == min(at_once - 1, 19):
            late.set()
        return 2 * item

    assert list(in_order(double, range(20), at_once=at_once)) == [2 * item for item in range(20)]


def test_no_more_items_are_asked_for_than_may_be_under_way() -> None:
    asked: list[int] = []
    go = threading.Event()

    def items() -> Iterator[int]:
        for item in range(10):
            asked.append(item)
            yield item

    def wait(item: int) -> int:
        if item:
            go.wait(10)
        return item

    results = in_order(wait, items(), at_once=3)
    assert next(results) == 0
    assert len(asked) <= 3
    go.set()
    assert list(results) == list(range(1, 10))


def test_what_is_ready_is_given_before_all_that_may_be_under_way_is_asked_for() -> None:
    done = threading.Event()
    asked: list[int] = []

    def items() -> Iterator[int]:
        for item in range(2000):
            asked.append(item)
            yield item
            assert done.wait(10)

    def work(item: int) -> int:
        done.set()
        return item

    results = in_order(work, items(), at_once=2000)
    assert next(results) == 0
    assert len(asked) < 2000


def test_an_exception_comes_in_its_turn_and_ends_it() -> None:
    def invert(item: int) -> float:
        return 1 / item

    results = in_order(invert, [2, 0, 1], at_once=3)
    assert next(results) == 0.5
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []
