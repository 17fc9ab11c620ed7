"""Decisions are only added: stored once, confirmed when they are on the disk, and never over what a reader had not seen."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from segsvc.ledger import candidates, decisions, effective, progress, queue
from segsvc.ledger.errors import Refused, Stale, Unknown
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import NewDecision, Reader, Verdict
from segsvc.ledger.tables import DECISIONS
from segsvc.types import Box
from tests.ledger.conftest import ANN, BOB, CAT, LEAD, TakeIn
from tests.ledger.runs import MASK, review

ACCEPT, REJECT, UNSURE = (NewDecision(verdict) for verdict in (Verdict.ACCEPTED, Verdict.REJECTED, Verdict.UNSURE))


def see_and_decide(ledger: Ledger, reader: Reader, candidate_id: str, new: NewDecision) -> str:
    """What a reader does who has just been given the candidate; the decision's id."""
    return decisions.decide(ledger, reader, candidate_id, new,
                            if_match=candidates.find(ledger, reader, candidate_id).tag).decision_id


def outcome(ledger: Ledger, run_id: str, candidate_id: str, as_of: datetime | None = None) -> Verdict | None:
    found = effective.of(ledger, run_id, [candidate_id], as_of).get(candidate_id)
    return found.verdict if found is not None else None


def test_who_saw_less_than_there_is_is_told_what_came_first_and_nothing_is_stored(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in(review(2))
    one = review(2)[0].candidate_id(0)
    before = candidates.find(ledger, BOB, one)
    first = decisions.decide(ledger, ANN, one, NewDecision(Verdict.ACCEPTED, note="clear"), if_match="*")
    with pytest.raises(Stale, match="ann said accepted before") as refused:
        decisions.decide(ledger, BOB, one, REJECT, if_match=before.tag)
    assert refused.value.first == first
    assert refused.value.tag == candidates.find(ledger, BOB, one).tag
    assert [each.verdict for each in candidates.find(ledger, BOB, one).decisions] == [Verdict.ACCEPTED]
    decisions.decide(ledger, BOB, one, REJECT, if_match=f'W/"{refused.value.tag}"')  # having seen it
    assert outcome(ledger, run.run_id, one) is Verdict.REJECTED


def test_the_same_request_sent_twice_is_stored_once_and_answered_alike(ledger: Ledger, take_in: TakeIn) -> None:
    take_in(review(2))
    one, two = (each.candidate_id(place) for place, each in enumerate(review(2)))
    tag = candidates.find(ledger, ANN, one).tag
    new = NewDecision(Verdict.ACCEPTED, request_id="6c0f")
    first = decisions.decide(ledger, ANN, one, new, if_match=tag)
    assert decisions.decide(ledger, ANN, one, new, if_match=tag) == first
    assert len(candidates.find(ledger, ANN, one).decisions) == 1
    with pytest.raises(Refused, match="request_id: expected a new one"):
        decisions.decide(ledger, ANN, two, new, if_match="*")
    decisions.decide(ledger, BOB, two, new, if_match="*")  # another's request is another


def test_undo_goes_as_deep_as_there_are_decisions_and_brings_the_candidate_back(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in(review(3))
    ids = [each.candidate_id(place) for place, each in enumerate(review(3))]
    for each in ids:
        see_and_decide(ledger, ANN, each, ACCEPT)
    assert queue.lease(ledger, ANN, run.run_id, n=9) == []
    while standing := decisions.mine(ledger, ANN, run.run_id, limit=1):
        see_and_decide(ledger, ANN, standing[0].candidate_id,
                       NewDecision(Verdict.WITHDRAWN, undoes=standing[0].decision_id))
    assert {item.candidate_id for item in queue.lease(ledger, ANN, run.run_id, n=9)} == set(ids)
    now = progress.progress(ledger, run.run_id, ANN)
    assert (now.total, now.done, now.left) == (3, 0, 3)
    assert effective.of(ledger, run.run_id, ids) == {}


def test_what_was_withdrawn_uncovers_what_was_said_before(ledger: Ledger, take_in: TakeIn) -> None:
    run, one = take_in(review(1)), review(1)[0].candidate_id(0)
    see_and_decide(ledger, ANN, one, ACCEPT)
    second = see_and_decide(ledger, ANN, one, REJECT)
    assert outcome(ledger, run.run_id, one) is Verdict.REJECTED
    see_and_decide(ledger, ANN, one, NewDecision(Verdict.WITHDRAWN, undoes=second))
    assert outcome(ledger, run.run_id, one) is Verdict.ACCEPTED


def test_only_an_own_decision_that_holds_can_be_withdrawn(ledger: Ledger, take_in: TakeIn) -> None:
    take_in(review(1))
    one = review(1)[0].candidate_id(0)
    decided = see_and_decide(ledger, ANN, one, ACCEPT)
    undo = NewDecision(Verdict.WITHDRAWN, undoes=decided)
    with pytest.raises(Refused, match="expected an own decision of this candidate"):
        decisions.decide(ledger, BOB, one, undo, if_match="*")
    decisions.decide(ledger, ANN, one, undo, if_match="*")
    with pytest.raises(Refused, match="which was withdrawn already"):
        decisions.decide(ledger, ANN, one, undo, if_match="*")


def test_what_cannot_be_a_decision_is_refused_with_what_was_expected(ledger: Ledger, take_in: TakeIn) -> None:
    take_in(review(1))
    one = review(1)[0].candidate_id(0)
    with pytest.raises(Unknown, match="candidate: expected one of the ledger"):
        decisions.decide(ledger, ANN, "0" * 32, ACCEPT, if_match="*")
    with pytest.raises(Refused, match=r"box: expected one within the image of 1000 x 500 px, got \(990, 0, 1001, 5\)"):
        decisions.decide(ledger, ANN, one, NewDecision(Verdict.EDITED, mask_rle=MASK, box=Box(990, 0, 1001, 5)),
                         if_match="*")
    with pytest.raises(Refused, match="text: expected a candidate of the kind 'text', got one of the kind 'region'"):
        decisions.decide(ledger, ANN, one, NewDecision(Verdict.EDITED, text="stop"), if_match="*")
    for says, wrong in (("valid Unicode", {"note": "\ud800"}), ("without the character 0", {"note": "a\0b"}),
                        ("at most 4000", {"note": "x" * 4001}), ("with its zone", {"shown_at": datetime(2026, 1, 1)}),  # noqa: DTZ001
                        ("years 2 to 9998", {"shown_at": datetime.fromisoformat("0001-01-01T00:00:00+14:00")}),
                        ("years 2 to 9998", {"shown_at": datetime.fromisoformat("9999-12-31T23:59:59-12:00")}),
                        ("seconds: expected 0", {"seconds": -1.0}), ("seconds: expected 0", {"seconds": float("nan")}),
                        ("with the verdict 'withdrawn' and no other", {"undoes": "x"}),
                        ("with the verdict 'edited' and none", {"text": "x"})):
        with pytest.raises(Refused, match=says):
            NewDecision(Verdict.ACCEPTED, **wrong)  # type: ignore[arg-type]


def test_notes_keep_whatever_script_or_language_they_are_in(ledger: Ledger, take_in: TakeIn) -> None:
    take_in(review(1))
    note = "<script>alert('x')</script>\n'; DROP TABLE decisions; -- \\N \t Größe 細胞 \U0001f9eb"
    see_and_decide(ledger, ANN, review(1)[0].candidate_id(0), NewDecision(Verdict.UNSURE, note=note))
    assert candidates.find(ledger, ANN, review(1)[0].candidate_id(0)).decisions[0].note == note


def test_two_read_and_a_third_where_they_differ(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in(review(2), readers=2)
    agreed, split = (each.candidate_id(place) for place, each in enumerate(review(2)))
    see_and_decide(ledger, ANN, agreed, ACCEPT)
    tag = candidates.find(ledger, BOB, agreed).tag
    assert candidates.find(ledger, BOB, agreed).decisions == ()  # another's pending reading is hidden
    see_and_decide(ledger, ANN, split, ACCEPT)
    assert candidates.find(ledger, BOB, agreed).tag == tag
    decisions.decide(ledger, BOB, agreed, NewDecision(Verdict.EDITED, mask_rle=MASK), if_match=tag)
    assert outcome(ledger, run.run_id, agreed) is Verdict.EDITED
    see_and_decide(ledger, BOB, split, REJECT)
    assert outcome(ledger, run.run_id, split) is None
    assert {item.candidate_id for item in queue.lease(ledger, ANN, run.run_id, n=9)} == set()
    assert [item.candidate_id for item in queue.lease(ledger, CAT, run.run_id, n=9)] == [split]
    now = progress.progress(ledger, run.run_id, ANN)
    assert (now.done, now.left, now.waiting_second, now.agreement) == (1, 1, 1, 0.5)
    see_and_decide(ledger, CAT, split, REJECT)
    assert outcome(ledger, run.run_id, split) is Verdict.REJECTED
    assert [each.reader for each in candidates.find(ledger, ANN, split).decisions] == ["ann", "bob", "cat"]


def test_in_a_blind_run_scores_and_verdicts_are_hidden_until_one_has_decided(ledger: Ledger, take_in: TakeIn) -> None:
    take_in(review(1), readers=2, blind=True)
    one = review(1)[0].candidate_id(0)
    see_and_decide(ledger, ANN, one, NewDecision(Verdict.ACCEPTED, note="I think so"))
    for reader in (BOB, LEAD):
        hidden = candidates.find(ledger, reader, one)
        assert (hidden.score, hidden.probability, hidden.band, hidden.decisions, hidden.audit) == (None,) * 3 + ((), None)
    assert candidates.find(ledger, ANN, one).score is not None


def test_a_score_that_would_tell_the_audit_sample_is_hidden_from_reviewers(ledger: Ledger, take_in: TakeIn) -> None:
    from tests.ledger.runs import Drawn

    drawn = [*review(1), Drawn("cell", 0.95)]
    run = take_in(drawn, audit_share=1.0)
    audited = drawn[1].candidate_id(1)
    assert run.audit == 1
    for one in (drawn[0].candidate_id(0), audited):
        assert candidates.find(ledger, ANN, one).score is None
        assert candidates.find(ledger, LEAD, one).score is not None
        assert candidates.find(ledger, LEAD, one).audit is None
    see_and_decide(ledger, ANN, audited, REJECT)
    assert candidates.find(ledger, ANN, audited).audit is True


def test_who_is_unsure_leaves_it_to_others(ledger: Ledger, take_in: TakeIn) -> None:
    run, one = take_in(review(1)), review(1)[0].candidate_id(0)
    see_and_decide(ledger, ANN, one, UNSURE)
    assert queue.lease(ledger, ANN, run.run_id) == []
    now = progress.progress(ledger, run.run_id, ANN)
    assert (now.done, now.unsure, now.left) == (0, 1, 1)
    assert [item.candidate_id for item in queue.lease(ledger, BOB, run.run_id)] == [one]
    see_and_decide(ledger, BOB, one, ACCEPT)
    assert outcome(ledger, run.run_id, one) is Verdict.ACCEPTED
    assert progress.progress(ledger, run.run_id, ANN).unsure == 0


def test_what_held_at_a_time_is_told_as_it_was(ledger: Ledger, take_in: TakeIn) -> None:
    run, one = take_in(review(1)), review(1)[0].candidate_id(0)
    see_and_decide(ledger, ANN, one, ACCEPT)
    then = datetime.now(UTC)
    latest = decisions.decide(ledger, ANN, one, REJECT, if_match="*")
    assert latest.decided_at > then
    assert outcome(ledger, run.run_id, one, then) is Verdict.ACCEPTED
    assert outcome(ledger, run.run_id, one) is Verdict.REJECTED
    assert outcome(ledger, run.run_id, one, then - timedelta(days=1)) is None
    assert [each.verdict for each in effective.verdicts(ledger, run.run_id)] == [Verdict.REJECTED]


def test_seconds_are_counted_once_and_not_while_one_is_away(ledger: Ledger, take_in: TakeIn) -> None:
    take_in(review(5))
    ids = [each.candidate_id(place) for place, each in enumerate(review(5))]
    now = datetime.now(UTC)

    def seconds(candidate_id: str, shown_ago_s: float, length_s: float | None) -> float | None:
        return decisions.decide(ledger, ANN, candidate_id, NewDecision(
            Verdict.ACCEPTED, shown_at=now - timedelta(seconds=shown_ago_s), seconds=length_s), if_match="*").seconds

    assert seconds(ids[0], 1000.0, 8.0) == 8.0
    assert seconds(ids[1], 998.0, 8.0) == 2.0  # 6 s of these were counted already
    assert seconds(ids[2], 998.0, 4.0) == 0.0
    assert seconds(ids[3], 900.0, 600.0) == 60.0  # was away
    assert decisions.decide(ledger, ANN, ids[4], ACCEPT, if_match="*").seconds is None  # nothing said of it


def test_many_who_decide_at_once_lose_nothing_and_double_nothing(ledger: Ledger, take_in: TakeIn) -> None:
    drawn = review(60)
    run = take_in(drawn)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        reader = Reader(number, f"reader {number}", ANN.role)
        try:
            while items := queue.lease(ledger, reader, run.run_id, n=3):
                for item in items:
                    new = NewDecision(Verdict.ACCEPTED, request_id=item.candidate_id)
                    decisions.decide(ledger, reader, item.candidate_id, new, if_match=item.tag)
                    decisions.decide(ledger, reader, item.candidate_id, new, if_match=item.tag)
        except Exception as error:  # shown by the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with ledger.read() as conn:
        decided = conn.execute(select(DECISIONS.c.candidate_id).where(DECISIONS.c.decider == "person")).scalars().all()
    assert sorted(decided) == sorted(each.candidate_id(place) for place, each in enumerate(drawn))
    assert progress.progress(ledger, run.run_id, ANN).done == 60
