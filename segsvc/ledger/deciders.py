"""Who decided how much in a run: people and rules."""

from __future__ import annotations

from sqlalchemy import func, select

from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import DecidedBy, Decider, Verdict
from segsvc.ledger.runs import run_row
from segsvc.ledger.tables import DECISIONS


def decided_by(ledger: Ledger, run_id: str) -> tuple[DecidedBy, ...]:
    """The rules in force first, then people by name. Raises Unknown."""
    with ledger.read() as conn:
        run = run_row(conn, run_id)
        rows = conn.execute(select(
            DECISIONS.c.reader, DECISIONS.c.verdict, func.count(), func.sum(DECISIONS.c.worked_us)).where(
                DECISIONS.c.run_no == run.number, DECISIONS.c.decider == Decider.PERSON.value,
            ).group_by(DECISIONS.c.reader, DECISIONS.c.verdict)).all()
    said: dict[str, dict[str, int]] = {}
    worked_us: dict[str, int] = {}
    for name, verdict, count, worked in rows:
        said.setdefault(name, {})[verdict] = count
        worked_us[name] = worked_us.get(name, 0) + int(worked or 0)
    rule = DecidedBy(run.record.point_wording, True, run.record.accepted, run.record.rejected)
    people = []
    for name in sorted(said):
        count = {verdict: said[name].get(verdict.value, 0) for verdict in Verdict}
        people.append(DecidedBy(
            name, False, count[Verdict.ACCEPTED], count[Verdict.REJECTED], count[Verdict.EDITED], count[Verdict.UNSURE],
            count[Verdict.WITHDRAWN], hours=worked_us[name] / 3.6e9))
    return (rule, *people)
