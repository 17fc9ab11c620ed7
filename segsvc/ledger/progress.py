"""How far the review of a run is: out of tallies that are kept as decisions come, and of the latest decisions."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from sqlalchemy import Connection, bindparam, or_, select

from segsvc.ledger.opening import Ledger
from segsvc.ledger.prepared import Prepared
from segsvc.ledger.records import Decider, Progress, Reader, Verdict
from segsvc.ledger.runs import run_row
from segsvc.ledger.standing import AGREED, DONE, GOLD_READ, GOLD_RIGHT, OWED, TOTAL, TWICE, UNSURE, WAITING
from segsvc.ledger.tables import DECISIONS, TALLIES

_LATEST = 200  # decisions that pace and median are of
_COUNTS = Prepared(select(TALLIES.c.name, TALLIES.c.user_id, TALLIES.c["count"]).where(
    TALLIES.c.run_no == bindparam("run_no"), or_(TALLIES.c.user_id == 0, TALLIES.c.user_id == bindparam("user_id"))))
_WORK = select(DECISIONS.c.worked_us, DECISIONS.c.decider, DECISIONS.c.verdict).where(
    DECISIONS.c.run_no == bindparam("run_no")).order_by(DECISIONS.c.number.desc()).limit(_LATEST)
_OF_ALL, _OWN = Prepared(_WORK), Prepared(_WORK.where(DECISIONS.c.user_id == bindparam("user_id")))


def progress(ledger: Ledger, run_id: str, reader: Reader) -> Progress:
    """How far a run is, and how this reader does. Raises Unknown."""
    with ledger.read() as conn:
        run = run_row(conn, run_id)
        counts = {(row["name"], row["user_id"]): row["count"] for row in _COUNTS.rows(
            conn, run_no=run.number, user_id=reader.user_id)}
        of_all = _seconds(conn, run.number, None)
        own = _seconds(conn, run.number, reader.user_id)
    total, done = counts.get((TOTAL, 0), 0), counts.get((DONE, 0), 0)
    mean = fmean(of_all) if of_all else 0.0
    pace = 3600.0 / mean if mean > 0 else None
    twice = counts.get((TWICE, 0), 0)
    return Progress(
        total=total, done=done, left=total - done, unsure=counts.get((UNSURE, 0), 0),
        waiting_second=counts.get((WAITING, 0), 0), pace_per_hour=pace, median_seconds=median(own) if own else None,
        hours_left=counts.get((OWED, 0), 0) / pace if pace is not None else None,
        agreement=counts.get((AGREED, 0), 0) / twice if twice else None,
        gold_right=counts.get((GOLD_RIGHT, reader.user_id), 0), gold_read=counts.get((GOLD_READ, reader.user_id), 0))


def _seconds(conn: Connection, run_no: int, user_id: int | None) -> Sequence[float]:
    """The seconds of the latest decisions in a run, of one reader or of all."""
    rows = _OF_ALL.rows(conn, run_no=run_no) if user_id is None else _OWN.rows(conn, run_no=run_no, user_id=user_id)
    return [row["worked_us"] / 1e6 for row in rows
            if row["worked_us"] is not None and row["decider"] == Decider.PERSON and row["verdict"] != Verdict.WITHDRAWN]
