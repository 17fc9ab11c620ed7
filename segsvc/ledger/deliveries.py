"""What others are told of runs: noted together with the state that it is about, so neither is there without the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, insert, or_, select, update

from segsvc import clock
from segsvc.ledger.opening import Ledger
from segsvc.ledger.tables import DELIVERIES, as_time, as_us
from segsvc.ledger.writer import Writing
from segsvc.types import stable_id

TRIES_AFTER_S = (5, 30, 300, 1800, 7200, 18_000, 36_000)  # from one try to the next; then it is given up


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that is due: `event_id` stays the same however often it is sent."""

    number: int
    event_id: str
    url: str
    body: str  # JSON
    tries: int


def note(writing: Writing, row: Mapping[Any, Any], state: str, attempt: int, urls: tuple[str, ...], why: str) -> None:
    """Notes for each of these that the run of the row came into the state."""
    for url in dict.fromkeys(urls):
        number = (writing.conn.execute(select(func.max(DELIVERIES.c.number))).scalar() or 0) + 1
        body = json.dumps({"type": f"run.{state}", "timestamp": as_time(writing.now).isoformat().replace("+00:00", "Z"),
                           "data": {"id": row["run_id"], "state": state, "attempt": attempt, "error": why or None}})
        writing.conn.execute(insert(DELIVERIES).values(
            number=number, event_id=f"msg_{stable_id(number, row['run_id'], state, attempt, url, writing.now)}", url=url,
            body=body, made_at=writing.now, due_at=writing.now, tries=0, answer=""))


def due(ledger: Ledger, *, limit: int = 20) -> list[Delivery]:
    """What is to be sent now, the oldest first; what was put off before the clock was set back too."""
    now = as_us(clock.utc_now())
    set_back = (and_(DELIVERIES.c.tries == tries, DELIVERIES.c.due_at > now + clock.APART_US + after_s * 1_000_000)
                for tries, after_s in enumerate((0, *TRIES_AFTER_S)))
    with ledger.read() as conn:
        rows = conn.execute(select(DELIVERIES).where(or_(DELIVERIES.c.due_at <= now, *set_back)).order_by(
            DELIVERIES.c.due_at, DELIVERIES.c.number).limit(limit)).mappings()
        return [Delivery(row["number"], row["event_id"], row["url"], row["body"], row["tries"]) for row in rows]


def sent(ledger: Ledger, delivery: Delivery, answer: str) -> None:
    """It was received, or is given up, and why."""
    _tried(ledger, delivery, answer, None)


def try_again(ledger: Ledger, delivery: Delivery, answer: str) -> bool:
    """It was not received; whether it is tried again later."""
    again = delivery.tries < len(TRIES_AFTER_S)
    _tried(ledger, delivery, answer, TRIES_AFTER_S[delivery.tries] if again else None)
    return again


def _tried(ledger: Ledger, delivery: Delivery, answer: str, after_s: int | None) -> None:
    def work(writing: Writing) -> None:
        writing.conn.execute(update(DELIVERIES).where(DELIVERIES.c.number == delivery.number).values(
            due_at=writing.now + after_s * 1_000_000 if after_s is not None else None, tries=delivery.tries + 1,
            answer=answer[:500]))

    ledger.write(work)
