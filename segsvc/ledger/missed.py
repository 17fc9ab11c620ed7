"""What the audit of a run says of the objects that rules rejected: at most so many, class by class."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, func, select

from segsvc.ledger import lanes
from segsvc.ledger.opening import Ledger
from segsvc.ledger.runs import RunRow, run_row
from segsvc.ledger.standing import says_yes
from segsvc.ledger.tables import BAND_COUNTS, CLASSES, ENTRIES, RUNS
from segsvc.quality.missed import Audited, Missed, bound_missed
from segsvc.types import Band

CONFIDENCE = 0.95
_OBJECTS, _NOTHING, _UNSURE = "objects", "nothing", "unsure"


def missed(ledger: Ledger, run_id: str, confidence: float = CONFIDENCE) -> Missed:
    """The bounds, by the outcomes of the sample as it was drawn for the bands in force. Raises Unknown.

    Candidates that were drawn for other bands or another seed are no part of it, whatever was decided of them.
    """
    with ledger.read() as conn:
        run = run_row(conn, run_id)
        names = conn.execute(select(CLASSES.c.name, CLASSES.c.number, BAND_COUNTS.c["count"]).join(
            BAND_COUNTS, BAND_COUNTS.c.class_no == CLASSES.c.number).where(
                BAND_COUNTS.c.run_no == run.number, BAND_COUNTS.c.band == Band.REJECTED.value)).all()
        read = _read(conn, run)
    return bound_missed([Audited(name, rejected, sum(count for (of, _), count in read.items() if of == number),
                                 *(read[number, what] for what in (_OBJECTS, _NOTHING, _UNSURE)))
                         for name, number, rejected in sorted(names)], confidence=confidence)


def _read(conn: Connection, run: RunRow) -> Counter[tuple[int, str]]:
    """The sample of rejected candidates, by class and what came of them; "" where they are still to be read."""
    columns = ENTRIES.c.class_no, ENTRIES.c.gold, ENTRIES.c.outcome, ENTRIES.c.read_by
    rows = conn.execute(select(*columns, func.count()).join(RUNS, RUNS.c.number == ENTRIES.c.run_no).where(
        ENTRIES.c.run_no == run.number, ENTRIES.c.band == Band.REJECTED.value, ENTRIES.c.audit,
        ENTRIES.c.import_no == RUNS.c.imports).group_by(*columns)).all()
    found: Counter[tuple[int, str]] = Counter()
    for class_no, known, outcome, read_by, count in rows:
        verdict = known if known is not None else outcome
        if verdict is not None:
            found[class_no, _OBJECTS if says_yes(verdict) else _NOTHING] += count
        else:
            found[class_no, _UNSURE if read_by != lanes.NOBODY and run.record.policy.readers == 1 else ""] += count
    return found
