"""What the audit of a run says of the objects that rules rejected: at most so many, class by class."""

from __future__ import annotations

from sqlalchemy import select

from segsvc.ledger.audit import Outcome
from segsvc.ledger.opening import Ledger
from segsvc.ledger.runs import run_row
from segsvc.ledger.tables import BAND_COUNTS, CLASSES
from segsvc.quality.missed import Audited, Missed, bound_missed
from segsvc.types import Band

CONFIDENCE = 0.95


def missed(ledger: Ledger, run_id: str, confidence: float = CONFIDENCE) -> Missed:
    """The bounds, by the outcomes of the sample as it was drawn for the bands in force. Raises Unknown.

    Candidates that were drawn for other bands or another seed are no part of it, whatever was decided of them.
    """
    with ledger.read() as conn:
        rows = conn.execute(select(BAND_COUNTS, CLASSES.c.name).join(
            CLASSES, CLASSES.c.number == BAND_COUNTS.c.class_no).where(
                BAND_COUNTS.c.run_no == run_row(conn, run_id).number,
                BAND_COUNTS.c.band == Band.REJECTED.value)).mappings().all()
    return bound_missed([Audited(
        row["name"], row["count"], sum(row[each] for each in Outcome), row[Outcome.OBJECT], row[Outcome.NOTHING],
        row[Outcome.UNSURE]) for row in sorted(rows, key=lambda row: str(row["name"]))], confidence=confidence)
