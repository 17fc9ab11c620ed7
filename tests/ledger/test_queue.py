"""The queue gives each candidate to one person at a time, in the order asked for."""

from __future__ import annotations

import pytest

from segsvc.ledger import decisions, gold, progress, queue
from segsvc.ledger.errors import Refused, Unknown
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import NewDecision, Order, Verdict
from segsvc.ledger.tables import LEASES
from tests.ledger.conftest import ANN, BOB, CAT, TakeIn
from tests.ledger.runs import review


def leased(ledger: Ledger, run_id: str, n: int = 5, reader: object = ANN, **more: object) -> list[str]:
    return [item.candidate_id for item in queue.lease(ledger, reader, run_id, n=n, **more)]  # type: ignore[arg-type]


def test_the_most_uncertain_come_first(ledger: Ledger, take_in: TakeIn) -> None:
    drawn = review(9)
    run = take_in(drawn)
    by_need = sorted(range(9), key=lambda place: round(abs(drawn[place].score - 0.5), 6))
    assert leased(ledger, run.run_id, 9) == [drawn[place].candidate_id(place) for place in by_need]


def test_random_order_is_of_the_seed_and_of_nothing_else(ledger: Ledger, take_in: TakeIn) -> None:
    orders = []
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        run = take_in(review(20), name, seed=seed)
        orders.append(leased(ledger, run.run_id, 20, order=Order.RANDOM))
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


def test_class_after_class_or_one_class_alone(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in([*review(3, class_name="fibre"), *review(3, class_name="cell")])
    items = queue.lease(ledger, ANN, run.run_id, order=Order.CLASS, n=6)
    assert [item.class_name for item in items] == ["cell"] * 3 + ["fibre"] * 3
    for order in Order:
        items = queue.lease(ledger, BOB, run.run_id, order=order, class_name="fibre", n=6)
        assert items == []  # held by another
    queue.release(ledger, ANN, [item.candidate_id for item in queue.lease(ledger, ANN, run.run_id, n=6)])
    assert {item.class_name for item in queue.lease(ledger, BOB, run.run_id, order=Order.RANDOM, class_name="fibre")} == {
        "fibre"}
    assert queue.lease(ledger, CAT, run.run_id, class_name="no such") == []


def test_two_never_hold_the_same_and_what_is_given_back_is_given_on(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in(review(6))
    ann, bob = leased(ledger, run.run_id, 4), leased(ledger, run.run_id, 4, BOB)
    assert (len(ann), len(bob), set(ann) & set(bob)) == (4, 2, set())
    queue.release(ledger, ANN, ann[:1])
    assert leased(ledger, run.run_id, 4, CAT) == ann[:1]


def test_what_one_holds_is_renewed_and_not_given_again(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in(review(6))
    held = leased(ledger, run.run_id, 2)
    more = leased(ledger, run.run_id, 2, holding=held)
    assert set(held) & set(more) == set()
    assert sorted(leased(ledger, run.run_id, 4)) == sorted([*held, *more])  # after a reload: the own ones first
    assert leased(ledger, run.run_id, 0, holding=held) == []


def test_a_lease_that_ended_is_given_to_others_and_taken_up_again_only_if_free(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in(review(2))
    ann = leased(ledger, run.run_id, 2)
    ledger.write(lambda writing: writing.conn.execute(LEASES.update().values(until=0)).close())
    assert leased(ledger, run.run_id, 1, BOB) == ann[:1]
    assert leased(ledger, run.run_id, 5, holding=ann) == []
    assert leased(ledger, run.run_id, 5, CAT) == []  # one is Bob's, the other Ann's again


def test_known_answers_are_strewn_in_hidden_and_score_the_reader(ledger: Ledger, take_in: TakeIn) -> None:
    drawn = review(40)
    run = take_in(drawn, gold_share=0.5)
    ids = [each.candidate_id(place) for place, each in enumerate(drawn)]
    known = {ids[0]: Verdict.ACCEPTED, ids[1]: Verdict.REJECTED}
    assert gold.put(ledger, run.run_id, known, "lead") == 2
    assert progress.progress(ledger, run.run_id, ANN).total == 38
    items = queue.lease(ledger, ANN, run.run_id, n=20)
    given = [item for item in items if item.candidate_id in known]
    assert len(given) == 2
    assert {item.gold for item in items} == {None}
    for item in given:
        decisions.decide(ledger, ANN, item.candidate_id, NewDecision(Verdict.ACCEPTED), if_match=item.tag)
    now = progress.progress(ledger, run.run_id, ANN)
    assert (now.gold_read, now.gold_right, now.done) == (2, 1, 0)
    assert progress.progress(ledger, run.run_id, BOB).gold_read == 0
    rest = leased(ledger, run.run_id, 50)
    assert not set(known) & set(rest)
    queue.release(ledger, ANN, rest)
    assert set(known) <= {*leased(ledger, run.run_id, 30, BOB)}
    with pytest.raises(Refused, match="expected the answers accepted or rejected, got unsure"):
        gold.put(ledger, run.run_id, {ids[3]: Verdict.UNSURE}, "lead")


def test_progress_tells_pace_and_hours_left_by_the_latest(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in(review(12))
    assert progress.progress(ledger, run.run_id, ANN).hours_left is None
    for item in queue.lease(ledger, ANN, run.run_id, n=2):
        decisions.decide(ledger, ANN, item.candidate_id, NewDecision(Verdict.ACCEPTED, seconds=0.0), if_match=item.tag)
    now = progress.progress(ledger, run.run_id, ANN)
    assert (now.median_seconds, now.pace_per_hour) == (0.0, None)
    assert progress.progress(ledger, run.run_id, BOB).median_seconds is None


def test_a_run_that_is_not_there_is_answered_with_those_that_are(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in(review(1))
    with pytest.raises(Unknown, match=run.run_id):
        queue.lease(ledger, ANN, "none")
    with pytest.raises(Refused, match="expected up to 500"):
        queue.lease(ledger, ANN, run.run_id, n=501)
