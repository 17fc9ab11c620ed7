"""What holds of candidates: the outcome of all that people decided, now or at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, cast

from sqlalchemy import Connection, select

from segsvc.ledger import ids, lanes
from segsvc.ledger import rows as made
from segsvc.ledger.candidates import chunks, is_entry
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import EffectiveVerdict, Verdict
from segsvc.ledger.runs import RunRow, run_row
from segsvc.ledger.standing import Row, stand
from segsvc.ledger.tables import CANDIDATES, DECISIONS, ENTRIES, QUEUE, as_time, as_us

_AT_ONCE = 2000


def verdicts(ledger: Ledger, run_id: str, as_of: datetime | None = None) -> Iterator[EffectiveVerdict]:
    """What holds of every candidate of the run that people decided, in the order in which they came in; a page of them is
    read at a time. as_of: as it was then. Raises Unknown."""
    after = 0
    while True:
        with ledger.read() as conn:
            run = run_row(conn, run_id)
            numbers = list(conn.execute(select(DECISIONS.c.candidate_no).where(
                DECISIONS.c.candidate_no > after).distinct().order_by(DECISIONS.c.candidate_no).limit(_AT_ONCE)).scalars())
            known = [number for number in conn.execute(select(QUEUE.c.candidate_no).where(
                QUEUE.c.run_no == run.number, QUEUE.c.lane == lanes.GOLD)).scalars() if number > after]
            some = sorted({*numbers, *known})[:_AT_ONCE]
            found = _of_numbers(conn, run, some, as_of)
        if not some:
            return
        yield from (found[number] for number in some if number in found)
        after = some[-1]


def of(ledger: Ledger, run_id: str, candidate_ids: Sequence[str], as_of: datetime | None = None
       ) -> dict[str, EffectiveVerdict]:
    """What holds of those of these candidates that people decided, by id. Raises Unknown for the run."""
    with ledger.read() as conn:
        run = run_row(conn, run_id)
        numbers = sorted(ids.numbers(conn, ids.CANDIDATE, candidate_ids).values())
        return {each.candidate_id: each for each in _of_numbers(conn, run, numbers, as_of).values()}


def _of_numbers(conn: Connection, run: RunRow, numbers: Sequence[int], as_of: datetime | None
                ) -> dict[int, EffectiveVerdict]:
    found: dict[int, EffectiveVerdict] = {}
    readers = run.record.policy.readers
    for some in chunks(numbers):
        entries = {row["candidate_no"]: row for row in conn.execute(
            select(ENTRIES.c.candidate_no, ENTRIES.c.gold, ENTRIES.c.gold_at, ENTRIES.c.gold_by, CANDIDATES.c.candidate_id)
            .join(CANDIDATES, CANDIDATES.c.number == ENTRIES.c.candidate_no)
            .where(is_entry(run.number, some))).mappings()}
        rows = select(DECISIONS).where(DECISIONS.c.candidate_no.in_(some))
        if as_of is not None:
            rows = rows.where(DECISIONS.c.decided_at <= as_us(as_of))
        ordered = conn.execute(rows.order_by(DECISIONS.c.candidate_no, DECISIONS.c.number)).mappings()
        decided = {number: cast(list[Row], list(own)) for number, own in
                   groupby(ordered, key=lambda row: int(row["candidate_no"]))}
        for number, entry in entries.items():
            verdict = _known(entry, as_of) if entry["gold"] is not None else _outcome(decided.get(number, []), readers)
            if verdict is not None:
                found[number] = verdict
    return found


def _known(entry: Mapping[Any, Any], as_of: datetime | None) -> EffectiveVerdict | None:
    """The known answer of a candidate that has one."""
    if as_of is not None and entry["gold_at"] > as_us(as_of):
        return None
    return EffectiveVerdict(entry["candidate_id"], Verdict(entry["gold"]), entry["gold_by"], as_time(entry["gold_at"]),
                            None, None, None)


def _outcome(rows: Sequence[Row], readers: int) -> EffectiveVerdict | None:
    outcome = stand(rows, readers=readers).outcome
    if outcome is None:
        return None
    return EffectiveVerdict(outcome["candidate_id"], Verdict(outcome["verdict"]), outcome["reader"],
                            as_time(outcome["decided_at"]), outcome["mask_rle"], made.box_of(outcome), outcome["text"])
