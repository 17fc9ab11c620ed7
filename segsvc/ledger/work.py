"""How long a person worked: no second is counted twice, nor a break."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import bindparam, select

from segsvc import clock
from segsvc.ledger.prepared import Prepared
from segsvc.ledger.tables import DECISIONS, LABELLINGS, as_us
from segsvc.ledger.writer import Writing

_LATEST = tuple(Prepared(select(table.c.worked_until).where(table.c.user_id == bindparam("user_id")).order_by(
    table.c.number.desc()).limit(1)) for table in (DECISIONS, LABELLINGS))


def worked(writing: Writing, user_id: int, *, shown_at: datetime | None, seconds: float | None, cap_us: int
           ) -> tuple[int | None, int]:
    """How long the person worked for what is stored now (None: not said), and until when, in microseconds.

    From shown to decided, without what an earlier decision or labelling of theirs has counted, and at most the cap: who was
    away did not work. A clock that is ahead of ours is brought back to now.
    """
    latest = (statement.first(writing.conn, user_id=user_id) for statement in _LATEST)
    # what ended later than now was before the clock was set back
    before: int = max((row["worked_until"] for row in latest if row is not None and (
        row["worked_until"] <= writing.now + clock.APART_US)), default=0)
    if shown_at is None and seconds is None:
        return None, before
    shown = as_us(shown_at) if shown_at is not None else None
    length = round(seconds * 1e6) if seconds is not None else None
    end = min(writing.now, shown + length) if shown is not None and length is not None else writing.now
    start = end - length if length is not None else shown if shown is not None else end
    return min(max(0, end - max(start, before)), cap_us), max(before, end)
