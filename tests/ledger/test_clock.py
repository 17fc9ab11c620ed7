"""The clock is set an hour forwards or back while things wait: nothing is lost or doubled, and nobody waits an hour."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from segsvc import clock
from segsvc.ledger import decisions, deliveries, event_batches, events, job_work, jobs
from segsvc.ledger.deliveries import TRIES_AFTER_S
from segsvc.ledger.errors import Conflict
from segsvc.ledger.event_records import TakingRule
from segsvc.ledger.heartbeats import Heartbeats
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import NewDecision, Verdict
from tests.ledger.conftest import ANN, BOB, TakeIn
from tests.ledger.runs import review
from tests.ledger.test_events import PREFIX, gone, hear, put
from tests.ledger.test_jobs import A_MINUTE, new_job, taken
from tests.ledger.test_labels import _ids, _make
from tests.ledger.test_queue import leased

AN_HOUR = 3600.0
Set = Callable[[float], None]
pytestmark = pytest.mark.parametrize("place", ["sqlite", "postgresql"], indirect=True)
HOURLY = TakingRule('{"name": "hourly"}', "d" * 64, 300.0, 1000)


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Sets the clock that dates things to so many seconds from the right time."""
    def now(off_s: float) -> None:
        monkeypatch.setattr(clock, "utc_now", lambda: datetime.now(UTC) + timedelta(seconds=off_s))

    return now


def test_who_holds_a_run_keeps_it_while_heard_of_and_loses_it_when_not_whatever_the_clocks_say(
        ledger: Ledger, set_clock: Set) -> None:
    jobs.submit(ledger, new_job())
    lease, passed = taken(ledger), [0.0]
    heartbeats = Heartbeats(lambda: passed[0])

    for off_s in (0, AN_HOUR, -AN_HOUR, 0, AN_HOUR):
        set_clock(0)
        job_work.beat(ledger, lease, lease_s=A_MINUTE)
        passed[0] += 0.7 * A_MINUTE
        set_clock(off_s)  # of the server that looks
        assert job_work.lose_overdue(ledger, heartbeats, lease_s=A_MINUTE) == 0
    passed[0] += 1.1 * A_MINUTE
    set_clock(-AN_HOUR)
    assert job_work.lose_overdue(ledger, heartbeats, lease_s=A_MINUTE) == 1
    assert jobs.find(ledger, lease.job.run_id).attempt == 2


def test_a_message_that_waits_is_sent_when_the_clock_was_set_back_and_not_before_its_time_else(
        ledger: Ledger, set_clock: Set) -> None:
    jobs.submit(ledger, new_job())
    ledger.write(lambda writing: deliveries.note(writing, {"run_id": "a"}, "failed", 1, ("http://b/",), "no room"))
    for tries in range(3):
        [delivery] = deliveries.due(ledger)
        assert delivery.tries == tries
        set_clock(-AN_HOUR)
        assert deliveries.due(ledger) == [delivery]
        set_clock(0)
        assert deliveries.try_again(ledger, delivery, "500")
        assert deliveries.due(ledger) == []
        set_clock(-2 * A_MINUTE)
        assert len(deliveries.due(ledger)) == 1
        set_clock(TRIES_AFTER_S[tries])
    deliveries.sent(ledger, delivery, "204")
    for off_s in (-AN_HOUR, 0, AN_HOUR):
        set_clock(off_s)
        assert deliveries.due(ledger) == []


def test_what_gathers_becomes_a_run_once_the_clock_was_set(ledger: Ledger, set_clock: Set) -> None:
    for key, off_s in (("a", AN_HOUR), ("b", 0)):
        hear(ledger, put(key, "1", 10), rule=HOURLY)
        assert event_batches.cut_due(ledger) == 0
        set_clock(off_s)
        assert (event_batches.cut_due(ledger), event_batches.cut_due(ledger), event_batches.waiting(ledger)) == (1, 0, 0)


def test_a_listing_after_the_clock_was_set_back_finds_what_changed_and_what_is_gone(ledger: Ledger, set_clock: Set) -> None:
    hear(ledger, *(put(key, "1", 10) for key in "abc"), gone("d", 10))
    first = events.begin_listing()
    hear(ledger, *(put(key, "1", first * 1000) for key in "abc"), listing=first)
    assert events.end_listing(ledger, PREFIX, first) == 0
    set_clock(-AN_HOUR)
    began = events.begin_listing()
    assert hear(ledger, put("a", "1", 0), put("b", "2", 0), put("d", "1", 0), listing=began) == (2, 1, 0, 0)
    assert events.end_listing(ledger, PREFIX, began) == 1
    assert events.there(ledger, PREFIX) == {PREFIX + key: etag for key, etag in (("a", "1"), ("b", "2"), ("d", "1"))}


def test_what_somebody_was_given_to_read_or_to_label_is_given_to_others_once_the_clock_was_set(
        ledger: Ledger, take_in: TakeIn, set_clock: Set) -> None:
    run = take_in(review(2))
    _make(ledger)
    given = leased(ledger, run.run_id, 2), _ids(ledger, ANN, 4)
    for reader, off_s in ((BOB, AN_HOUR), (ANN, 0)):
        assert (leased(ledger, run.run_id, 2, reader), _ids(ledger, reader, 4)) == ([], [])
        set_clock(off_s)
        assert (leased(ledger, run.run_id, 2, reader), _ids(ledger, reader, 4)) == given


def test_work_is_counted_on_after_the_clock_was_set_back(ledger: Ledger, take_in: TakeIn, set_clock: Set) -> None:
    take_in(review(2))
    for off_s, each in zip((0, -AN_HOUR), enumerate(review(2)), strict=True):
        set_clock(off_s)
        said = NewDecision(Verdict.ACCEPTED, shown_at=clock.utc_now() - timedelta(seconds=8), seconds=8.0)
        assert decisions.decide(ledger, ANN, each[1].candidate_id(each[0]), said, if_match="*").seconds == 8.0


def test_a_key_is_answered_once_while_it_is_being_answered_and_again_where_that_was_cut_off(
        ledger: Ledger, set_clock: Set) -> None:
    assert jobs.known(ledger, 1, "k", b"body") is None
    for off_s in (-AN_HOUR, 0, AN_HOUR):
        set_clock(off_s)
        with pytest.raises(Conflict):  # it may take its time: a listing may be long
            jobs.known(ledger, 1, "k", b"body")
    ledger.answering.clear()  # as in another process
    set_clock(0)
    with pytest.raises(Conflict):
        jobs.known(ledger, 1, "k", b"body")
    set_clock(-AN_HOUR)
    assert jobs.known(ledger, 1, "k", b"body") is None
    job = jobs.submit(ledger, new_job(), user_id=1, key="k")
    assert jobs.known(ledger, 1, "k", b"body") == job
