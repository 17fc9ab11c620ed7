"""How many objects are fetched at once: fewer when the store is too busy, more again while it answers."""

from __future__ import annotations

import threading
import time

from segsvc.stores.s3.gate import Gate


def test_no_more_than_the_limit_are_let_through_at_once() -> None:
    gate = Gate(3)
    within, most, lock = [0], [0], threading.Lock()
    met = threading.Barrier(3)

    def work() -> None:
        for _ in range(20):
            with gate.passed():
                with lock:
                    within[0] += 1
                    most[0] = max(most[0], within[0])
                met.wait(30)  # three are within together, or this breaks
                with lock:
                    within[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [3]


def test_a_busy_store_halves_it_once_for_all_that_were_under_way() -> None:
    gate = Gate(64)
    begun = time.monotonic()
    for _ in range(10):
        gate.slow_down(begun)
    assert gate.limit == 32
    with gate.passed() as later:
        gate.slow_down(later)
    assert gate.limit == 16
    for _ in range(20):
        with gate.passed() as later:
            gate.slow_down(later)
    assert gate.limit == 1


def test_answers_let_it_grow_again_to_what_it_was_and_no_further() -> None:
    gate = Gate(8)
    with gate.passed() as begun:
        gate.slow_down(begun)
    assert gate.limit == 4
    for _ in range(5):
        gate.went_well()
    assert gate.limit == 5
    for _ in range(100):
        gate.went_well()
    assert gate.limit == 8


def test_one_that_waits_is_let_through_when_another_leaves() -> None:
    gate = Gate(1)
    through = threading.Event()

    def wait() -> None:
        with gate.passed():
            through.set()

    with gate.passed():
        thread = threading.Thread(target=wait)
        thread.start()
        assert not through.is_set()
    thread.join(30)
    assert through.is_set()
