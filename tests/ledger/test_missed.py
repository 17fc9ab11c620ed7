"""The bound on what rules missed: out of the audit sample as it was drawn, and what readers said of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from segsvc.ledger import decisions, gold, intake, queue
from segsvc.ledger.errors import Unknown
from segsvc.ledger.missed import missed
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import NewDecision, ReviewPolicy, Verdict
from segsvc.ledger.review_of_run import review_of
from segsvc.ledger.tables import BAND_COUNTS, CLASSES, ENTRIES, RUNS
from segsvc.quality.bounds import most_members
from segsvc.quality.missed import Audited
from segsvc.types import Band
from tests.ledger.conftest import ANN, BOB, TakeIn
from tests.ledger.runs import Drawn, put_bands, review, write_run

LOW = [*(Drawn("cell", 0.1, place % 5) for place in range(120)), *(Drawn("fibre", 0.2, place % 5) for place in range(40))]


def sample(ledger: Ledger, run_id: str, class_name: str) -> list[str]:
    """The rejected candidates that were drawn, as they are given out."""
    found = queue.lease(ledger, ANN, run_id, class_name=class_name, n=200)
    return [item.candidate_id for item in found if item.band is None or item.band is Band.REJECTED]


def say(ledger: Ledger, candidate_ids: Sequence[str], verdict: Verdict) -> None:
    for candidate_id in candidate_ids:
        decisions.decide(ledger, ANN, candidate_id, NewDecision(verdict), if_match="*")


def of_class(ledger: Ledger, run_id: str, name: str) -> Audited:
    return next(each.audited for each in missed(ledger, run_id).classes if each.audited.class_name == name)


def test_what_was_read_bounds_what_was_not_and_the_rest_counts_until_it_is_read(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in([*LOW, *review(5), Drawn("cell", 0.9)], audit_share=0.3, seed=5)
    drawn = {name: sample(ledger, run.run_id, name) for name in ("cell", "fibre")}
    cells = [each for each in drawn["cell"] if each not in {one.candidate_id(160 + at) for at, one in enumerate(review(5))}]
    before = of_class(ledger, run.run_id, "cell")
    assert (before.rejected, before.drawn, before.left) == (120, before.drawn, before.drawn)
    assert 20 < before.drawn < 60
    say(ledger, drawn["fibre"], Verdict.REJECTED)
    fibre = of_class(ledger, run.run_id, "fibre")
    assert (fibre.rejected, fibre.nothing, fibre.left, fibre.counted) == (40, fibre.drawn, 0, 0)
    [bound] = [each.at_most for each in missed(ledger, run.run_id).classes if each.audited == fibre]
    assert bound == most_members(0, fibre.drawn, 40, delta=0.05 / 3)
    rejected = [each for each in cells if each in {one.candidate_id(place) for place, one in enumerate(LOW)}]
    say(ledger, rejected[:1], Verdict.ACCEPTED)
    say(ledger, rejected[1:2], Verdict.UNSURE)
    say(ledger, rejected[2:10], Verdict.REJECTED)
    cell = of_class(ledger, run.run_id, "cell")
    assert (cell.objects, cell.unsure, cell.nothing, cell.left) == (1, 1, 8, cell.drawn - 10)
    assert cell.counted == cell.drawn - 8
    whole = missed(ledger, run.run_id).whole
    assert whole is not None
    assert (whole.audited.rejected, whole.audited.drawn) == (160, cell.drawn + fibre.drawn)
    assert review_of(ledger, run.run_id).missed == missed(ledger, run.run_id)
    with pytest.raises(Unknown):
        missed(ledger, "none")


def test_a_run_of_which_rules_reject_nothing_has_no_bound(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in(review(4), audit_share=0.5)
    assert missed(ledger, run.run_id).rows == ()


def test_other_bands_draw_from_what_is_rejected_now(ledger: Ledger, tmp_path: Path) -> None:
    drawn = [Drawn("cell", 0.1 + 0.15 * (place % 2), place % 5) for place in range(200)]  # 0.1 and 0.25
    write_run(tmp_path / "run", drawn)
    run = intake.import_run(ledger, str(tmp_path / "run"), ReviewPolicy(audit_share=0.3, gold_share=0.0, seed=2))
    say(ledger, sample(ledger, run.run_id, "cell"), Verdict.ACCEPTED)
    before = of_class(ledger, run.run_id, "cell")
    assert (before.rejected, before.objects) == (200, before.drawn)
    put_bands(tmp_path / "run", 0.2, 0.7)
    intake.import_run(ledger, str(tmp_path / "run"))
    after = of_class(ledger, run.run_id, "cell")
    assert after.rejected == 100
    assert 0 < after.drawn == after.objects < before.drawn
    intake.import_run(ledger, str(tmp_path / "run"), ReviewPolicy(audit_share=0.02, gold_share=0.0, seed=2))
    assert of_class(ledger, run.run_id, "cell").drawn < after.drawn  # those that were drawn before are no sample of it


def test_a_known_answer_is_what_it_says_and_two_readers_have_to_agree(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in(LOW[:60], audit_share=0.5, readers=2)
    drawn = sample(ledger, run.run_id, "cell")
    gold.put(ledger, run.run_id, {drawn[0]: Verdict.ACCEPTED, drawn[1]: Verdict.REJECTED}, "lead")
    say(ledger, drawn[2:4], Verdict.REJECTED)
    decisions.decide(ledger, BOB, drawn[2], NewDecision(Verdict.REJECTED), if_match="*")
    cell = of_class(ledger, run.run_id, "cell")
    assert (cell.drawn, cell.objects, cell.nothing, cell.left) == (len(drawn), 1, 2, len(drawn) - 3)


def test_a_run_of_an_earlier_version_is_counted_when_it_is_imported_again(ledger: Ledger, tmp_path: Path) -> None:
    write_run(tmp_path / "run", LOW)
    policy = ReviewPolicy(audit_share=0.2, gold_share=0.0)
    run = intake.import_run(ledger, str(tmp_path / "run"), policy)
    counted = missed(ledger, run.run_id)
    ledger.write(lambda writing: writing.conn.execute(delete(BAND_COUNTS)))
    assert missed(ledger, run.run_id).rows == ()
    intake.import_run(ledger, str(tmp_path / "run"))
    assert missed(ledger, run.run_id) == counted
    with ledger.read() as conn:
        stale = conn.execute(select(ENTRIES.c.number).join(RUNS, RUNS.c.number == ENTRIES.c.run_no).where(
            ENTRIES.c.import_no < RUNS.c.imports)).all()
        names = set(conn.execute(select(CLASSES.c.name)).scalars())
    assert (stale, names) == ([], {"cell", "fibre"})
