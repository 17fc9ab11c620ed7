"""Runs in the ledger: asked for once, held by one, and never stuck with somebody who is gone."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from segsvc.asking import Asked
from segsvc.documents import ImageCounts, RunState
from segsvc.ledger import intake, job_work, jobs
from segsvc.ledger.errors import Conflict, Lost, Refused, Unknown
from segsvc.ledger.heartbeats import Heartbeats
from segsvc.ledger.job_records import AttemptState, Lease, NewJob
from segsvc.ledger.opening import Ledger
from segsvc.ledger.service_counts import Counted, service_counts
from segsvc.results import RunFolder
from segsvc.stores import store_of
from segsvc.summary import left_document
from tests.ledger.conftest import TakeIn
from tests.ledger.runs import review

A_MINUTE = 60.0


def new_job(name: str = "a") -> NewJob:
    asked = Asked(input="/data", model="m", out=f"/out/{name}")
    return NewJob(run_id=name * 8, asked=asked.model_dump_json(), out=f"file:///out/{name}", input="file:///data", model="m",
                  model_digest="0" * 64, asked_by="ann")


def taken(ledger: Ledger, lease_s: float = A_MINUTE) -> Lease:
    lease = job_work.take(ledger, "here", lease_s=lease_s)
    assert lease is not None
    return lease


def states(ledger: Ledger, name: str = "a") -> list[tuple[int, AttemptState]]:
    return [(move.attempt, move.state) for move in jobs.moves(ledger, name * 8)]


def images(done: int, listed: int = 9) -> ImageCounts:
    return ImageCounts(listed=listed, done=done, empty=0, failed=0, quarantined=0)


def test_a_run_waits_is_taken_told_of_and_ends(ledger: Ledger, take_in: TakeIn, tmp_path: Path) -> None:
    job = jobs.submit(ledger, new_job())
    assert (job.state, job.attempt, job.started_at, job.is_open) == (RunState.QUEUED, 1, None, True)
    lease = taken(ledger)
    assert job_work.take(ledger, "there", lease_s=A_MINUTE) is None
    running = jobs.find(ledger, job.run_id)
    assert (running.state, running.changed > job.changed) == (RunState.RUNNING, True)
    assert not job_work.beat(ledger, lease, lease_s=A_MINUTE, images=images(3), eta_s=4.5)
    told = jobs.find(ledger, job.run_id)
    assert (told.images.done, told.images.listed, told.eta_s) == (3, 9, 4.5)
    assert not job_work.beat(ledger, lease, lease_s=A_MINUTE, images=images(3), eta_s=4.5)
    assert jobs.find(ledger, job.run_id).changed == told.changed  # a sign of life alone is no change of the run
    take_in(review(3))
    document = left_document(RunFolder(store_of("/").folder(str(tmp_path / "run"))))
    assert document is not None
    job_work.succeed(ledger, lease, document)
    ended = jobs.find(ledger, job.run_id)
    assert (ended.state, ended.images, ended.candidates) == (RunState.SUCCEEDED, document.images, document.candidates)
    assert ended.finished_at is not None
    assert states(ledger) == [(1, AttemptState.QUEUED), (1, AttemptState.RUNNING), (1, AttemptState.SUCCEEDED)]
    with pytest.raises(Lost, match="taken over"):
        job_work.beat(ledger, lease, lease_s=A_MINUTE)


def test_runs_are_taken_in_their_order_and_each_by_one(ledger: Ledger) -> None:
    for name in "abcdef":
        jobs.submit(ledger, new_job(name))
    found: list[str] = []

    def take() -> None:
        while (lease := job_work.take(ledger, "here", lease_s=A_MINUTE)) is not None:
            found.append(lease.job.run_id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [name * 8 for name in "abcdef"]
    page = jobs.page(ledger, limit=4)
    assert [job.run_id[0] for job in page.jobs] == ["f", "e", "d", "c"]
    assert [job.run_id[0] for job in jobs.page(ledger, cursor=page.next_cursor).jobs] == ["b", "a"]
    for cursor, limit in (("x", 4), ("1" * 30, 4), (None, 0), (None, 10_000)):
        with pytest.raises(Refused):
            jobs.page(ledger, cursor=cursor, limit=limit)


def test_a_holder_that_is_not_heard_of_loses_the_run_and_what_it_says_later_changes_nothing(ledger: Ledger) -> None:
    jobs.submit(ledger, new_job())
    late = taken(ledger)
    passed = [0.0]
    heartbeats = Heartbeats(lambda: passed[0])
    assert job_work.lose_overdue(ledger, heartbeats, lease_s=A_MINUTE) == 0
    passed[0] = 2 * A_MINUTE
    assert job_work.lose_overdue(ledger, heartbeats, lease_s=A_MINUTE) == 1
    assert job_work.lose_overdue(ledger, heartbeats, lease_s=A_MINUTE) == 0
    again = taken(ledger)
    assert (again.job.attempt, again.token != late.token) == (2, True)
    for say in (lambda: job_work.beat(ledger, late, lease_s=A_MINUTE), lambda: job_work.fail(ledger, late, "no"),
                lambda: job_work.cancelled(ledger, late), lambda: job_work.lose(ledger, late, "no")):
        with pytest.raises(Lost):
            say()
    assert jobs.find(ledger, late.job.run_id).state is RunState.RUNNING
    assert states(ledger) == [(1, AttemptState.QUEUED), (1, AttemptState.RUNNING), (1, AttemptState.LOST),
                              (2, AttemptState.QUEUED), (2, AttemptState.RUNNING)]
    alone = partial(job_work.lose_overdue, ledger, heartbeats, lease_s=A_MINUTE, all_of_others=True)
    assert alone(but=[again.token]) == 0
    assert alone() == 1  # a server that alone has the ledger has begun


def test_a_run_that_is_lost_again_and_again_without_an_image_fails_and_can_be_resumed(ledger: Ledger) -> None:
    run_id = jobs.submit(ledger, new_job()).run_id
    for _ in range(job_work.MOST_LOSSES - 1):
        job_work.lose(ledger, taken(ledger), "its process ended with signal SIGKILL")
    lease = taken(ledger)
    job_work.beat(ledger, lease, lease_s=A_MINUTE, images=images(1))  # an image ended: the count begins anew
    for _ in range(job_work.MOST_LOSSES):
        assert jobs.find(ledger, run_id).is_open
        job_work.lose(ledger, lease, "its process ended with signal SIGKILL")
        lease = job_work.take(ledger, "here", lease_s=A_MINUTE) or lease
    failed = jobs.find(ledger, run_id)
    assert failed.state is RunState.FAILED
    assert "5 attempts in a row" in (failed.error or "")
    resumed = jobs.resume(ledger, run_id)
    assert (resumed.state, resumed.attempt, resumed.error) == (RunState.QUEUED, failed.attempt + 1, None)


def test_runs_are_cancelled_and_resumed_as_they_stand(ledger: Ledger) -> None:
    run_id = jobs.submit(ledger, new_job()).run_id
    with pytest.raises(Conflict, match="failed or was cancelled, got one that is queued"):
        jobs.resume(ledger, run_id)
    assert jobs.cancel(ledger, run_id, "ann").state is RunState.CANCELLED
    assert jobs.cancel(ledger, run_id, "ann").state is RunState.CANCELLED
    assert jobs.resume(ledger, run_id).attempt == 2
    lease = taken(ledger)
    with pytest.raises(Conflict, match="got one that is running"):
        jobs.resume(ledger, run_id)
    assert jobs.cancel(ledger, run_id, "ann").cancelling
    assert jobs.cancel(ledger, run_id, "ann").state is RunState.RUNNING
    assert job_work.beat(ledger, lease, lease_s=A_MINUTE)
    job_work.cancelled(ledger, lease)
    assert (jobs.find(ledger, run_id).state, jobs.find(ledger, run_id).cancelling) == (RunState.CANCELLED, False)
    jobs.resume(ledger, run_id)
    lease = taken(ledger)
    jobs.cancel(ledger, run_id, "ann")
    job_work.lose(ledger, lease, "gone")  # it is not begun again to be cancelled
    assert jobs.find(ledger, run_id).state is RunState.CANCELLED
    jobs.resume(ledger, run_id)
    job_work.fail(ledger, taken(ledger), "no room")
    assert jobs.find(ledger, run_id).error == "no room"
    with pytest.raises(Conflict, match="got one that has failed"):
        jobs.cancel(ledger, run_id, "ann")
    assert Asked.model_validate_json(jobs.resume(ledger, run_id, retry_failed=True).asked).retry_failed
    for ask in (lambda: jobs.find(ledger, "no\0ne"), lambda: jobs.cancel(ledger, "none", "x"),
                lambda: jobs.resume(ledger, "none"), lambda: jobs.moves(ledger, "none")):
        with pytest.raises(Unknown):
            ask()


def test_the_same_key_is_the_same_run(ledger: Ledger) -> None:
    assert jobs.known(ledger, 1, "k", b"body") is None
    with pytest.raises(Conflict, match="still being answered"):
        jobs.known(ledger, 1, "k", b"body")
    job = jobs.submit(ledger, new_job(), user_id=1, key="k")
    assert jobs.known(ledger, 1, "k", b"body") == job
    with pytest.raises(Refused, match="another body"):
        jobs.known(ledger, 1, "k", b"other")
    assert jobs.known(ledger, 2, "k", b"other") is None  # somebody else's key
    jobs.forget(ledger, 2, "k")
    assert jobs.known(ledger, 2, "k", b"third") is None
    jobs.forget(ledger, 1, "k")  # it has begun a run: it is kept
    assert jobs.known(ledger, 1, "k", b"body") == job
    for key in ("", "x" * 300, "a\nb"):
        with pytest.raises(Refused, match="Idempotency-Key"):
            jobs.known(ledger, 1, key, b"")


def test_a_run_that_is_asked_for_again_goes_on_or_is_resumed(ledger: Ledger) -> None:
    first = jobs.submit(ledger, new_job())
    assert jobs.submit(ledger, new_job()) == first
    job_work.fail(ledger, taken(ledger), "no room")
    again = jobs.submit(ledger, replace(new_job(), webhook="https://example.org/hook"))
    assert (again.state, again.attempt, again.webhook) == (RunState.QUEUED, 2, "https://example.org/hook")


def test_a_run_that_a_command_has_made_is_seen_like_all_others(ledger: Ledger, take_in: TakeIn, tmp_path: Path) -> None:
    run = take_in(review(4))
    job = jobs.find(ledger, run.run_id)
    assert (job.state, job.candidates.review, job.asked_by, job.out) == (RunState.SUCCEEDED, 4, "", run.out)
    intake.import_run(ledger, str(tmp_path / "run"))
    assert jobs.find(ledger, run.run_id) == job
    assert [job.run_id for job in jobs.page(ledger).jobs] == [run.run_id]


def test_the_service_is_counted_as_it_happens(ledger: Ledger, take_in: TakeIn) -> None:
    def runs() -> dict[str, int]:
        return {state: count for state, count in service_counts(ledger).counts[Counted.RUNS].items() if count}

    for name in "abcd":
        jobs.submit(ledger, new_job(name))
    assert (runs(), service_counts(ledger).queue_age_s < A_MINUTE) == ({"queued": 4}, True)
    job_work.fail(ledger, taken(ledger), "no room")
    job_work.lose(ledger, taken(ledger), "gone")
    jobs.cancel(ledger, "d" * 8, "ann")
    assert runs() == {"queued": 2, "failed": 1, "cancelled": 1}
    for _ in range(job_work.MOST_LOSSES - 1):
        jobs.cancel(ledger, "c" * 8, "ann")
        job_work.lose(ledger, taken(ledger), "gone")
    assert runs() == {"failed": 2, "cancelled": 2}
    assert service_counts(ledger).counts[Counted.LEASES_LOST] == {"": job_work.MOST_LOSSES}
    assert service_counts(ledger).queue_age_s == 0.0
    jobs.resume(ledger, "d" * 8)
    take_in(review(4))
    assert runs() == {"failed": 2, "cancelled": 1, "queued": 1, "succeeded": 1}
    assert service_counts(ledger).backlog == 4
