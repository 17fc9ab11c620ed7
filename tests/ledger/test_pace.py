"""How long a decision takes: by this run's own decisions as soon as there are enough, and told what it was measured on."""

from __future__ import annotations

from pathlib import Path

from segsvc.ledger import decisions, queue
from segsvc.ledger.engine import FILE
from segsvc.ledger.opening import Ledger
from segsvc.ledger.pace import pace, pace_at
from segsvc.ledger.records import NewDecision, Verdict
from segsvc.quality.cost import ASSUMED, PaceBasis
from tests.ledger.conftest import ANN, TakeIn
from tests.ledger.runs import DIGEST, review


def test_it_is_that_of_the_run_else_of_its_model_else_of_the_ledger_else_assumed(ledger: Ledger, take_in: TakeIn) -> None:
    decided, fresh = take_in(review(30), "one"), take_in(review(30, class_name="fibre"), "two")
    assert pace(ledger, run_id=decided.run_id, model_digest=DIGEST) == ASSUMED
    for place, item in enumerate(queue.lease(ledger, ANN, decided.run_id, n=21)):
        if place == 20:
            assert pace(ledger, run_id=decided.run_id).basis is PaceBasis.RUN
        decisions.decide(ledger, ANN, item.candidate_id, NewDecision(Verdict.ACCEPTED, seconds=0.0), if_match=item.tag)
    found = pace(ledger, run_id=decided.run_id, model_digest=DIGEST)
    assert (found.basis, found.decisions, found.mean_s) == (PaceBasis.RUN, 21, 0.0)
    assert pace(ledger, run_id=fresh.run_id, model_digest=DIGEST).basis is PaceBasis.MODEL
    assert pace(ledger, run_id=fresh.run_id, model_digest="other").basis is PaceBasis.LEDGER
    assert pace(ledger).basis is PaceBasis.LEDGER


def test_without_a_ledger_and_with_one_that_cannot_be_used_it_is_assumed_and_the_latter_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    assert pace_at(str(tmp_path / "none"), told.append) == ASSUMED
    assert told == []
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / FILE).write_bytes(b"no database at all" * 100)
    assert pace_at(str(tmp_path / "damaged"), told.append) == ASSUMED
    assert len(told) == 1 and told[0].startswith("note: seconds of a decision are assumed, as the ledger cannot be used")


def test_decisions_whose_seconds_nobody_said_are_no_part_of_it(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in(review(25))
    for item in queue.lease(ledger, ANN, run.run_id, n=25):
        decisions.decide(ledger, ANN, item.candidate_id, NewDecision(Verdict.ACCEPTED), if_match=item.tag)
    assert pace(ledger, run_id=run.run_id) == ASSUMED
