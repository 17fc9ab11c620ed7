"""Who may try which shard, and what becomes of a shard whose worker died; by a place in memory and a clock in hand."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

import pytest

from segsvc.claims import Desk, Task
from segsvc.errors import RunError
from segsvc.types import ImageStatus

DONE = ImageStatus.DONE
KILLED = -signal.SIGKILL
CRASHED = -signal.SIGSEGV


@dataclass
class Place:
    """Shards in memory: which are published, which are claimed here, which are held by another run."""

    done: set[int] = field(default_factory=set)
    held: set[int] = field(default_factory=set)
    elsewhere: set[int] = field(default_factory=set)

    def is_published(self, number: int) -> bool:
        return number in self.done

    def claim(self, number: int) -> bool:
        if number in self.elsewhere or number in self.held:
            return False
        self.held.add(number)
        return True

    def release(self, number: int) -> None:
        self.held.discard(number)


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def desk_of(*shards: int, place: Place | None = None, clock: Clock | None = None) -> Desk:
    desk = Desk(place or Place(), image_timeout_s=60, clock=clock or Clock())
    for shard in shards:
        desk.planned(shard)
    desk.complete()
    return desk


def taken(desk: Desk, worker: int) -> Task:
    task = desk.next_task(worker)
    assert task is not None
    return task


def test_shards_are_handed_out_in_order_each_once_and_the_desk_is_done_when_all_are_published() -> None:
    place = Place()
    desk = desk_of(3, 5, place=place)
    assert (taken(desk, 1), taken(desk, 2)) == (Task(3), Task(5))
    assert place.held == {3, 5}
    assert desk.next_task(3) is None
    desk.started(1, 30)
    desk.finished(1, 30, DONE)
    desk.finished(1, 31, ImageStatus.FAILED)
    assert desk.ended == 2
    assert not desk.counted
    for worker in (1, 2):
        assert not desk.is_done
        desk.published(worker)
    assert desk.is_done
    assert desk.counted == {DONE: 1, ImageStatus.FAILED: 1}
    assert desk.ended == 2
    assert place.held == set()


def test_a_desk_is_not_done_before_the_plan_is_complete() -> None:
    desk = Desk(Place(), image_timeout_s=60, clock=Clock())
    assert not desk.is_done
    desk.planned(0)
    desk.complete()
    assert not desk.is_done
    assert taken(desk, 1).shard == 0
    desk.published(1)
    assert desk.is_done


def test_a_published_shard_is_left_alone_unless_its_failed_images_are_asked_for_again() -> None:
    place = Place(done={0, 1})
    desk = desk_of(0, place=place)
    desk.planned(1, replace=True)
    assert taken(desk, 1) == Task(1, replace=True)
    assert place.held == {1}


def test_a_shard_whose_worker_died_is_taken_up_next_alone_and_the_images_in_work_first() -> None:
    place = Place()
    desk = desk_of(0, 1, place=place)
    taken(desk, 1)
    for ordinal in (4, 5, 6):
        desk.started(1, ordinal)
    desk.finished(1, 5, DONE)
    desk.died(1, CRASHED)
    assert place.held == set()
    assert desk.ended == 0
    assert taken(desk, 2) == Task(0, alone=True, suspects=frozenset({4, 6}))


@pytest.mark.parametrize(("exit_code", "deaths", "how"), [
    (CRASHED, 2, "signal SIGSEGV"), (7, 2, "exit code 7"), (KILLED, 3, "signal SIGKILL"), (-200, 2, "signal 200")])
def test_the_image_that_kills_again_while_it_is_alone_is_quarantined(exit_code: int, deaths: int, how: str) -> None:
    desk = desk_of(0)
    for death in range(1, deaths + 1):
        task = taken(desk, death)
        assert not task.quarantined
        assert task.alone == (death > 1)
        desk.started(death, 8)
        if not task.alone:
            desk.started(death, 9)
        desk.died(death, exit_code)
    task = taken(desk, 9)
    assert set(task.quarantined) == {8}
    assert how in task.quarantined[8]
    assert "each time it was tried" in task.quarantined[8]
    assert task.suspects == {9}


def test_a_neighbour_of_a_killer_is_not_quarantined_with_it() -> None:
    desk = desk_of(0)
    taken(desk, 1)
    for ordinal in (1, 2, 3):
        desk.started(1, ordinal)
    desk.died(1, CRASHED)
    assert taken(desk, 2).suspects == {1, 2, 3}
    desk.started(2, 1)
    desk.finished(2, 1, DONE)
    desk.started(2, 2)
    desk.died(2, CRASHED)
    task = taken(desk, 3)
    assert set(task.quarantined) == {2}
    assert task.suspects == {1, 3}
    desk.started(3, 1)
    desk.finished(3, 1, DONE)
    desk.started(3, 3)
    desk.finished(3, 3, DONE)
    desk.finished(3, 2, ImageStatus.QUARANTINED)
    desk.published(3)
    assert desk.is_done
    assert desk.counted == {DONE: 2, ImageStatus.QUARANTINED: 1}


def test_two_killers_in_one_shard_are_both_quarantined() -> None:
    desk = desk_of(0)
    for worker, started in ((1, (1, 2)), (2, (1,)), (3, (2,))):
        taken(desk, worker)
        for ordinal in started:
            desk.started(worker, ordinal)
        desk.died(worker, CRASHED)
    assert set(taken(desk, 4).quarantined) == {1, 2}


def test_a_first_death_never_quarantines_even_an_image_that_was_by_itself() -> None:
    desk = desk_of(0)
    taken(desk, 1)
    desk.started(1, 0)
    desk.died(1, CRASHED)
    assert taken(desk, 2) == Task(0, alone=True, suspects=frozenset({0}))


def test_an_image_that_takes_too_long_is_noticed_and_quarantined_at_the_second_time() -> None:
    clock = Clock()
    desk = desk_of(0, clock=clock)
    assert not desk.overdue(1)
    for worker in (1, 2):
        taken(desk, worker)
        desk.started(worker, 5)
        clock.now += 60
        assert not desk.overdue(worker)
        clock.now += 1
        assert desk.overdue(worker)
        desk.died(worker, KILLED, overdue=True)
    assert "took longer than 60 s" in taken(desk, 3).quarantined[5]


def test_an_image_that_has_ended_is_no_longer_timed() -> None:
    clock = Clock()
    desk = desk_of(0, clock=clock)
    taken(desk, 1)
    desk.started(1, 5)
    desk.finished(1, 5, DONE)
    clock.now += 1000
    assert not desk.overdue(1)
    desk.started(1, 6)
    assert not desk.overdue(1)


def test_a_retried_shard_that_dies_is_still_a_retried_one() -> None:
    desk = Desk(Place(done={0}), image_timeout_s=60, clock=Clock())
    desk.planned(0, replace=True)
    taken(desk, 1)
    desk.started(1, 0)
    desk.died(1, CRASHED)
    assert taken(desk, 2) == Task(0, alone=True, suspects=frozenset({0}), replace=True)


def test_workers_that_die_before_their_first_image_again_and_again_end_the_run() -> None:
    desk = desk_of(0, 1)
    desk.died(1, 1)
    taken(desk, 2)
    desk.died(2, 1)
    assert taken(desk, 3) == Task(0)  # nothing was begun: nothing is suspected
    with pytest.raises(RunError, match="3 in a row that ended with exit code 1 before their first image"):
        desk.died(3, 1)


def test_an_image_that_is_begun_forgives_the_starts_that_failed_before() -> None:
    desk = desk_of(0, 1)
    desk.died(1, 1)
    desk.died(2, 1)
    taken(desk, 3)
    desk.started(3, 0)
    desk.died(3, CRASHED)
    desk.died(4, 1)
    desk.died(5, 1)


def test_a_worker_that_dies_while_it_waits_takes_no_shard_with_it() -> None:
    desk = desk_of(0)
    taken(desk, 1)
    desk.died(2, KILLED)
    desk.published(1)
    assert desk.is_done


def test_a_shard_that_another_run_holds_is_looked_at_again_until_it_is_published_or_free() -> None:
    place, clock = Place(elsewhere={0, 1}), Clock()
    desk = desk_of(0, 1, 2, place=place, clock=clock)
    assert taken(desk, 1).shard == 2
    assert desk.next_task(2) is None
    desk.published(1)
    assert not desk.is_done
    place.elsewhere, place.done = {1}, {0, 2}
    assert desk.next_task(1) is None  # it is not yet time to look again
    clock.now += 1
    assert desk.next_task(1) is None
    assert not desk.is_done  # 1 is still held
    place.elsewhere = set()  # that run died
    clock.now += 1
    assert taken(desk, 1) == Task(1)
    desk.published(1)
    assert desk.is_done
