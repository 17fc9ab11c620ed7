"""The lanes of the queue: each candidate that is still to be read stands in one for every order in which it is given out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, literal, select

from segsvc.ledger.prepared import Prepared
from segsvc.ledger.tables import ENTRIES, QUEUE

GOLD, UNCERTAIN, RANDOM = -1, 0, 1
_FIRST_CLASS = 2
_PUT_IN = Prepared(insert(QUEUE))
_TAKE_OUT = Prepared(delete(QUEUE).where(*(column == bindparam(column.name) for column in QUEUE.columns)))
NOBODY = ""  # read_by of what nobody has read


def class_lane(class_no: int, *, at_random: bool) -> int:
    """The lane of one class: its uncertain ones first, or at random."""
    return _FIRST_CLASS + 2 * class_no + int(at_random)


def places(entry: Mapping[str, Any]) -> list[tuple[int, int]]:
    """The lanes that a row of entries stands in, and its place in each."""
    if entry["gold"] is not None:
        return [(GOLD, entry["shuffle"])]
    return [(UNCERTAIN, entry["distance"]), (RANDOM, entry["shuffle"]),
            (class_lane(entry["class_no"], at_random=False), entry["distance"]),
            (class_lane(entry["class_no"], at_random=True), entry["shuffle"])]


def move(conn: Connection, entry: Mapping[str, Any], *, of: str | None, to: str | None) -> None:
    """Moves a candidate from among those that `of` have read to those that `to` have; None: it is not in the queue."""
    if of == to:
        return
    key = {"run_no": entry["run_no"], "candidate_no": entry["candidate_no"]}
    if of is not None:
        _TAKE_OUT.run_all(conn, [{**key, "lane": lane, "read_by": of, "place": place} for lane, place in places(entry)])
    if to is not None:
        _PUT_IN.run_all(conn, [{**key, "lane": lane, "read_by": to, "place": place} for lane, place in places(entry)])


def build(conn: Connection, run_no: int) -> None:
    """Makes all lanes of a run anew, each by one sorted statement, so that the table grows at its end alone."""
    conn.execute(delete(QUEUE).where(QUEUE.c.run_no == run_no))
    columns = ["run_no", "lane", "read_by", "place", "candidate_no"]
    is_open = (ENTRIES.c.run_no == run_no) & ENTRIES.c.outcome.is_(None) & ENTRIES.c.gold.is_(None)
    for lane, place in ((literal(UNCERTAIN), ENTRIES.c.distance), (literal(RANDOM), ENTRIES.c.shuffle),
                        (ENTRIES.c.class_no * 2 + _FIRST_CLASS, ENTRIES.c.distance),
                        (ENTRIES.c.class_no * 2 + (_FIRST_CLASS + 1), ENTRIES.c.shuffle)):
        rows = select(ENTRIES.c.run_no, lane.label("lane"), ENTRIES.c.read_by, place, ENTRIES.c.candidate_no).where(is_open)
        conn.execute(insert(QUEUE).from_select(columns, rows.order_by(
            lane, ENTRIES.c.read_by, place, ENTRIES.c.candidate_no)))
    known = select(ENTRIES.c.run_no, literal(GOLD), literal(NOBODY), ENTRIES.c.shuffle, ENTRIES.c.candidate_no).where(
        ENTRIES.c.run_no == run_no, ENTRIES.c.gold.is_not(None))
    conn.execute(insert(QUEUE).from_select(columns, known.order_by(ENTRIES.c.shuffle)))
