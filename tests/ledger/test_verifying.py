"""Whatever is changed, cut, swapped or put into the record of decisions is found and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, select, text, update

from segsvc.ledger import decisions, intake
from segsvc.ledger.anchors import AnchorPlace
from segsvc.ledger.chain import GENESIS, batch_head, row_sha256
from segsvc.ledger.opening import Ledger, open_ledger
from segsvc.ledger.records import FaultKind, NewDecision, ReviewPolicy, Verdict
from segsvc.ledger.tables import BATCHES, CANDIDATES, DECISIONS
from segsvc.ledger.verifying import verify
from segsvc.ledger.writer import Writing
from segsvc.settings import RecordSettings
from tests.ledger.conftest import ANN, BOB, TakeIn
from tests.ledger.runs import Drawn, review, write_run
from tests.s3_servers import below, use, weed

__all__ = ["below", "use", "weed"]


@pytest.fixture
def decided(ledger: Ledger, take_in: TakeIn) -> Ledger:
    """A ledger with a decision by rule, six by people, and an anchor of them."""
    drawn = [*review(6), Drawn("cell", 0.9)]
    take_in(drawn)
    for place, each in enumerate(drawn[:6]):
        decisions.decide(ledger, ANN if place % 2 else BOB, each.candidate_id(place),
                         NewDecision(Verdict.ACCEPTED if place % 3 else Verdict.REJECTED, note="seen"), if_match="*")
    last = ledger.write(lambda writing: writing.conn.execute(
        select(BATCHES.c.number, BATCHES.c["last"], BATCHES.c.head).order_by(BATCHES.c.number.desc()).limit(1)).one())
    from segsvc.ledger.anchors import Anchor

    ledger.anchors.add(Anchor(last[0], last[1], last[2], 0))
    return ledger


def tamper(ledger: Ledger, work: Callable[[Connection], object]) -> list[tuple[FaultKind, str]]:
    """Does it behind the ledger's back; what is found then."""
    ledger.write(lambda writing: (work(writing.conn), None)[1])
    return [(fault.kind, fault.where) for fault in verify(ledger).faults]


def test_a_record_that_nobody_touched_is_whole(decided: Ledger) -> None:
    found = verify(decided)
    assert found.faults == ()
    assert (found.decisions, found.batches, found.anchors) == (7, 7, 1)


@pytest.mark.parametrize(("column", "value"), [
    ("verdict", "unsure"), ("reader", "cat"), ("note", "seen "), ("decided_at", 5), ("run_no", 2), ("mask_rle", "0"),
    ("user_id", 9), ("request_id", "x"), ("candidate_id", "0" * 32), ("undoes", "x"), ("row_sha256", "0" * 64)])
def test_a_column_that_was_changed_is_named_by_its_row(decided: Ledger, column: str, value: object) -> None:
    found = tamper(decided, lambda conn: conn.execute(update(DECISIONS).where(DECISIONS.c.number == 4).values(
        {column: value})))
    assert (FaultKind.CHANGED, "decision 4") in found


def test_a_row_that_was_changed_with_its_hash_is_named_by_its_batch(decided: Ledger) -> None:
    def work(conn: Connection) -> None:
        row = dict(conn.execute(select(DECISIONS).where(DECISIONS.c.number == 4)).mappings().one())
        row["verdict"] = "unsure"
        conn.execute(update(DECISIONS).where(DECISIONS.c.number == 4).values(verdict="unsure", row_sha256=row_sha256(row)))

    assert tamper(decided, work) == [(FaultKind.CHANGED, "batch 4")]


def test_a_chain_that_was_made_anew_is_found_by_its_anchor(decided: Ledger) -> None:
    def work(conn: Connection) -> None:
        conn.execute(update(DECISIONS).where(DECISIONS.c.number == 4).values(verdict="unsure"))
        head = GENESIS
        for batch in conn.execute(select(BATCHES).order_by(BATCHES.c.number)).mappings().all():
            rows = conn.execute(select(DECISIONS).where(DECISIONS.c.number == batch["first"])).mappings().all()
            hashes = [row_sha256(dict(row)) for row in rows]
            head = batch_head(head, dict(batch), hashes)
            conn.execute(update(DECISIONS).where(DECISIONS.c.number == batch["first"]).values(row_sha256=hashes[0]))
            conn.execute(update(BATCHES).where(BATCHES.c.number == batch["number"]).values(head=head))

    assert tamper(decided, work) == [(FaultKind.ANCHOR, "batch 7")]


def test_a_row_that_is_gone_is_named(decided: Ledger) -> None:
    found = tamper(decided, lambda conn: conn.execute(delete(DECISIONS).where(DECISIONS.c.number == 4)))
    assert (FaultKind.MISSING, "decision 4") in found


def test_rows_that_were_swapped_are_named_with_where_they_were(decided: Ledger) -> None:
    def work(conn: Connection) -> None:
        for old, new in ((3, 99), (5, 3), (99, 5)):
            conn.execute(update(DECISIONS).where(DECISIONS.c.number == old).values(number=new))

    found = tamper(decided, work)
    assert {(FaultKind.SWAPPED, "decision 3"), (FaultKind.SWAPPED, "decision 5")} <= set(found)


def test_a_row_that_was_put_in_behind_the_last_is_named(decided: Ledger) -> None:
    def work(conn: Connection) -> None:
        row = dict(conn.execute(select(DECISIONS).where(DECISIONS.c.number == 4)).mappings().one())
        row.update(number=8, decision_id="forged", request_id=None)
        conn.execute(DECISIONS.insert().values({**row, "row_sha256": row_sha256(row)}))

    assert tamper(decided, work) == [(FaultKind.INSERTED, "decision 8")]


def test_an_end_that_was_cut_off_is_found_by_its_anchor(decided: Ledger) -> None:
    def work(conn: Connection) -> None:
        conn.execute(delete(DECISIONS).where(DECISIONS.c.number > 5))
        conn.execute(delete(BATCHES).where(BATCHES.c.number > 5))

    assert tamper(decided, work) == [(FaultKind.CUT, "batch 6")]


def test_an_end_that_was_cut_off_is_found_by_an_anchor_in_a_bucket(below: str, tmp_path: Path) -> None:
    write_run(tmp_path / "run", review(4))
    record = RecordSettings(anchors=f"{below}/of-the-ledger", anchor_every=2)
    with open_ledger(str(tmp_path / "ledger"), record=record) as ledger:
        intake.import_run(ledger, str(tmp_path / "run"), ReviewPolicy(audit_share=0.0))
        for place, each in enumerate(review(4)):
            decisions.decide(ledger, ANN, each.candidate_id(place), NewDecision(Verdict.ACCEPTED), if_match="*")
    with open_ledger(str(tmp_path / "ledger"), record=record) as ledger:
        whole = verify(ledger)
        assert (whole.faults, whole.decisions) == ((), 4)
        assert whole.anchors >= 2

        def cut(writing: Writing) -> None:
            writing.conn.execute(delete(DECISIONS).where(DECISIONS.c.number > 3))
            writing.conn.execute(delete(BATCHES).where(BATCHES.c.number > 3))

        ledger.write(cut)
        assert [(each.kind, each.where) for each in verify(ledger).faults] == [(FaultKind.CUT, "batch 4")]


def test_an_end_that_was_cut_off_without_its_batches_is_found_by_them(decided: Ledger) -> None:
    found = tamper(decided, lambda conn: conn.execute(delete(DECISIONS).where(DECISIONS.c.number > 5)))
    assert (FaultKind.CUT, "decision 6") in found


def test_a_batch_that_is_gone_or_was_changed_is_named(decided: Ledger) -> None:
    assert (FaultKind.CHANGED, "batch 3") in tamper(
        decided, lambda conn: conn.execute(update(BATCHES).where(BATCHES.c.number == 3).values(sealed_at=1)))
    assert (FaultKind.MISSING, "batch 4") in tamper(
        decided, lambda conn: conn.execute(delete(BATCHES).where(BATCHES.c.number == 4)))


def test_a_candidate_that_was_changed_after_it_was_decided_is_named(decided: Ledger) -> None:
    one = review(6)[2].candidate_id(2)
    assert (FaultKind.CHANGED, f"candidate {one}") in tamper(decided, lambda conn: conn.execute(
        update(CANDIDATES).where(CANDIDATES.c.candidate_id == one).values(x1=500)))


def test_a_damaged_anchor_is_named_and_none_is_no_fault(decided: Ledger, tmp_path: Path) -> None:
    place = Path(decided.anchors.place)
    place.write_text(place.read_text().replace('"decisions":7', '"decisions":6'))
    assert [(fault.kind, fault.where) for fault in verify(decided).faults] == [(FaultKind.ANCHOR, "batch 7")]
    place.write_text("x\n")
    assert [(fault.kind, fault.where) for fault in verify(decided).faults] == [(FaultKind.ANCHOR, "anchor 1")]
    found = verify(decided, str(tmp_path / "none.jsonl"))
    assert (found.faults, found.anchors) == ((), 0)


def test_bytes_that_are_no_text_any_more_are_named_and_not_stumbled_over(tmp_path: Path) -> None:
    record = RecordSettings(anchors=str(tmp_path / "anchors.jsonl"))
    with open_ledger(str(tmp_path / "ledger"), record=record) as ledger:
        write_run(tmp_path / "run", review(1))
        intake.import_run(ledger, str(tmp_path / "run"), ReviewPolicy(audit_share=0.0))
        decisions.decide(ledger, ANN, review(1)[0].candidate_id(0), NewDecision(Verdict.ACCEPTED, note="a"), if_match="*")
        for damaged in ("CAST(x'ff' AS TEXT)", "x'00ff'", "1.5", "'x'"):
            for column in ("note", "decided_at", "candidate_no"):
                before = ledger.write(lambda writing, column=column: writing.conn.execute(
                    text(f"SELECT {column} FROM decisions WHERE number = 1")).scalar())
                ledger.write(lambda writing, column=column, damaged=damaged: writing.conn.execute(
                    text(f"UPDATE decisions SET {column} = {damaged} WHERE number = 1")).close())
                assert (FaultKind.CHANGED, "decision 1") in [(each.kind, each.where) for each in verify(ledger).faults]
                ledger.write(lambda writing, column=column, before=before: writing.conn.execute(
                    text(f"UPDATE decisions SET {column} = :value WHERE number = 1"), {"value": before}).close())
        assert verify(ledger).faults == ()


def test_anchors_are_noted_every_so_many_decisions_and_at_the_end(tmp_path: Path) -> None:
    write_run(tmp_path / "run", review(5))
    record = RecordSettings(anchors=str(tmp_path / "anchors.jsonl"), anchor_every=2)
    with open_ledger(str(tmp_path / "ledger"), record=record) as ledger:
        intake.import_run(ledger, str(tmp_path / "run"), ReviewPolicy(audit_share=0.0))
        for place, each in enumerate(review(5)):
            decisions.decide(ledger, ANN, each.candidate_id(place), NewDecision(Verdict.ACCEPTED), if_match="*")
    counts = [int(line.split('"decisions":')[1].split(",")[0]) for line in AnchorPlace(record.anchors or "").lines()]
    assert counts[-1] == 5
    assert counts == sorted(set(counts))
    assert len(counts) >= 2
