"""Who may try which shard, and what becomes of a shard whose worker died; by a clock in hand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from segsvc.claims import Death, Desk, Fatal, Finished, Next, Published, Started, Task
from segsvc.errors import RunError
from segsvc.types import ImageStatus

DONE = ImageStatus.DONE
KILLED = Death("ended with signal SIGKILL", blames_image=False)
CRASHED = Death("ended with signal SIGSEGV", blames_image=True)
LOST = Death("was lost with its node", blames_image=False, heard_all=False)
FAILED_TO_START = Death("ended with exit code 1", blames_image=True)


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def desk_of(*shards: int, clock: Clock | None = None) -> Desk:
    desk = Desk(image_timeout_s=60, clock=clock or Clock())
    for shard in shards:
        desk.planned(shard)
    desk.complete()
    return desk


def taken(desk: Desk, worker: int) -> Task:
    """What the desk gives a worker that asks."""
    desk.hear(worker, Next())
    ((answered, task),) = desk.replies()
    assert answered == worker
    return task


def test_shards_are_handed_out_in_order_each_once_and_the_desk_is_done_when_all_are_published() -> None:
    desk = desk_of(3, 5)
    assert (taken(desk, 1), taken(desk, 2)) == (Task(3), Task(5))
    desk.hear(3, Next())
    assert list(desk.replies()) == []
    desk.hear(1, Started(3, 30))
    desk.hear(1, Finished(3, 30, DONE))
    desk.hear(1, Finished(3, 31, ImageStatus.FAILED))
    assert desk.ended == 2
    assert not desk.counted
    for worker, shard in ((1, 3), (2, 5)):
        assert not desk.is_done
        desk.hear(worker, Published(shard))
    assert desk.is_done
    assert desk.counted == {DONE: 1, ImageStatus.FAILED: 1}
    assert desk.ended == 2


def test_a_desk_is_not_done_before_the_plan_is_complete() -> None:
    desk = Desk(image_timeout_s=60, clock=Clock())
    assert not desk.is_done
    desk.planned(0)
    assert desk.backlog == 1
    desk.complete()
    assert not desk.is_done
    assert taken(desk, 1).shard == 0
    assert desk.backlog == 0
    desk.hear(1, Published(0))
    assert desk.is_done


def test_a_worker_that_asks_ahead_has_two_shards_in_hand_and_both_are_counted() -> None:
    desk = desk_of(0, 1)
    assert (taken(desk, 1).shard, taken(desk, 1).shard) == (0, 1)
    desk.hear(1, Started(1, 64))
    desk.hear(1, Finished(0, 63, DONE))
    desk.hear(1, Published(0))
    assert not desk.is_done
    desk.hear(1, Finished(1, 64, DONE))
    assert desk.ended == 2
    desk.hear(1, Published(1))
    assert desk.is_done


def test_of_the_workers_that_wait_one_with_nothing_in_hand_comes_first() -> None:
    desk = desk_of(0)
    taken(desk, 1)
    for worker in (1, 2):
        desk.hear(worker, Next())
    desk.planned(1)
    desk.planned(2)
    assert list(desk.replies()) == [(2, Task(1)), (1, Task(2))]


def test_what_a_worker_had_in_hand_comes_back_and_only_what_was_begun_is_taken_up_alone() -> None:
    desk = desk_of(0, 1, 2)
    taken(desk, 1)
    taken(desk, 1)
    desk.hear(1, Started(0, 5))
    desk.died(1, CRASHED)
    assert [taken(desk, 2) for _ in range(3)] == [Task(0, alone=True, suspects=frozenset({5})), Task(1), Task(2)]


def test_where_not_all_was_heard_all_in_hand_is_taken_up_alone_and_then_blame_falls_as_ever() -> None:
    desk = desk_of(0, 1)
    taken(desk, 1)
    taken(desk, 1)
    desk.died(1, LOST)
    assert taken(desk, 2) == Task(0, alone=True)
    assert taken(desk, 3) == Task(1, alone=True)
    for worker in (2, 4, 6):
        desk.hear(worker, Started(0, 7))
        desk.died(worker, LOST)
        task = taken(desk, worker + 2)
    assert set(task.quarantined) == {7}


def test_a_shard_that_was_alone_does_not_hide_that_the_next_one_may_have_been_begun_unheard() -> None:
    desk = desk_of(0, 1)
    taken(desk, 1)
    desk.hear(1, Started(0, 3))
    desk.died(1, LOST)
    assert taken(desk, 2) == Task(0, alone=True, suspects=frozenset({3}))
    assert taken(desk, 2) == Task(1)  # asked for while the first was being published
    desk.died(2, LOST)
    assert [taken(desk, 3).alone, taken(desk, 3).alone] == [True, True]


def test_a_worker_that_cannot_go_on_ends_the_run_in_its_own_words() -> None:
    desk = desk_of(0)
    taken(desk, 1)
    with pytest.raises(RunError, match="the disk is full"):
        desk.hear(1, Fatal("the disk is full"))


def test_a_shard_whose_worker_died_is_taken_up_next_alone_and_the_images_in_work_first() -> None:
    desk = desk_of(0, 1)
    taken(desk, 1)
    for ordinal in (4, 5, 6):
        desk.hear(1, Started(0, ordinal))
    desk.hear(1, Finished(0, 5, DONE))
    desk.died(1, CRASHED)
    assert desk.ended == 0
    assert taken(desk, 2) == Task(0, alone=True, suspects=frozenset({4, 6}))


@pytest.mark.parametrize(("how", "deaths", "words"), [
    (CRASHED, 2, "ended with signal SIGSEGV"), (KILLED, 3, "ended with signal SIGKILL"), (LOST, 3, "lost with its node")])
def test_the_image_that_kills_again_while_it_is_alone_is_quarantined(how: Death, deaths: int, words: str) -> None:
    desk = desk_of(0)
    for death in range(1, deaths + 1):
        task = taken(desk, death)
        assert not task.quarantined
        assert task.alone == (death > 1)
        desk.hear(death, Started(0, 8))
        if not task.alone:
            desk.hear(death, Started(0, 9))
        desk.died(death, how)
    task = taken(desk, 9)
    assert set(task.quarantined) == {8}
    assert words in task.quarantined[8]
    assert "each time it was tried" in task.quarantined[8]
    assert task.suspects == {9}


def test_a_neighbour_of_a_killer_is_not_quarantined_with_it() -> None:
    desk = desk_of(0)
    taken(desk, 1)
    for ordinal in (1, 2, 3):
        desk.hear(1, Started(0, ordinal))
    desk.died(1, CRASHED)
    assert taken(desk, 2).suspects == {1, 2, 3}
    desk.hear(2, Started(0, 1))
    desk.hear(2, Finished(0, 1, DONE))
    desk.hear(2, Started(0, 2))
    desk.died(2, CRASHED)
    task = taken(desk, 3)
    assert set(task.quarantined) == {2}
    assert task.suspects == {1, 3}
    desk.hear(3, Started(0, 1))
    desk.hear(3, Finished(0, 1, DONE))
    desk.hear(3, Started(0, 3))
    desk.hear(3, Finished(0, 3, DONE))
    desk.hear(3, Finished(0, 2, ImageStatus.QUARANTINED))
    desk.hear(3, Published(0))
    assert desk.is_done
    assert desk.counted == {DONE: 2, ImageStatus.QUARANTINED: 1}


def test_two_killers_in_one_shard_are_both_quarantined() -> None:
    desk = desk_of(0)
    for worker, started in ((1, (1, 2)), (2, (1,)), (3, (2,))):
        taken(desk, worker)
        for ordinal in started:
            desk.hear(worker, Started(0, ordinal))
        desk.died(worker, CRASHED)
    assert set(taken(desk, 4).quarantined) == {1, 2}


def test_a_first_death_never_quarantines_even_an_image_that_was_by_itself() -> None:
    desk = desk_of(0)
    taken(desk, 1)
    desk.hear(1, Started(0, 0))
    desk.died(1, CRASHED)
    assert taken(desk, 2) == Task(0, alone=True, suspects=frozenset({0}))


def test_an_image_that_takes_too_long_is_noticed_and_quarantined_at_the_second_time() -> None:
    clock = Clock()
    desk = desk_of(0, clock=clock)
    assert not desk.overdue(1)
    for worker in (1, 2):
        taken(desk, worker)
        desk.hear(worker, Started(0, 5))
        clock.now += 60
        assert not desk.overdue(worker)
        clock.now += 1
        assert desk.overdue(worker)
        desk.died(worker, desk.overdue_death)
    assert "took longer than 60 s" in taken(desk, 3).quarantined[5]


def test_an_image_that_has_ended_is_no_longer_timed() -> None:
    clock = Clock()
    desk = desk_of(0, clock=clock)
    taken(desk, 1)
    desk.hear(1, Started(0, 5))
    desk.hear(1, Finished(0, 5, DONE))
    clock.now += 1000
    assert not desk.overdue(1)
    desk.hear(1, Started(0, 6))
    assert not desk.overdue(1)


def test_a_retried_shard_that_dies_is_still_a_retried_one() -> None:
    desk = Desk(image_timeout_s=60, clock=Clock())
    desk.planned(0, replace=True)
    taken(desk, 1)
    desk.hear(1, Started(0, 0))
    desk.died(1, CRASHED)
    assert taken(desk, 2) == Task(0, alone=True, suspects=frozenset({0}), replace=True)


def test_workers_that_die_before_their_first_image_again_and_again_end_the_run() -> None:
    desk = desk_of(0, 1)
    desk.died(1, FAILED_TO_START)
    taken(desk, 2)
    desk.died(2, FAILED_TO_START)
    assert taken(desk, 3) == Task(0)  # nothing was begun: nothing is suspected
    with pytest.raises(RunError, match="3 in a row that ended with exit code 1 before their first image"):
        desk.died(3, FAILED_TO_START)


def test_an_image_that_is_begun_forgives_the_starts_that_failed_before() -> None:
    desk = desk_of(0, 1)
    desk.died(1, FAILED_TO_START)
    desk.died(2, FAILED_TO_START)
    taken(desk, 3)
    desk.hear(3, Started(0, 0))
    desk.died(3, CRASHED)
    desk.died(4, FAILED_TO_START)
    desk.died(5, FAILED_TO_START)


def test_a_worker_that_dies_while_it_waits_takes_no_shard_with_it() -> None:
    desk = desk_of(0)
    taken(desk, 1)
    desk.died(2, KILLED)
    desk.hear(1, Published(0))
    assert desk.is_done
