"""Candidates with a known answer: strewn among the others, they tell how well a reader decides."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import update

from segsvc.ledger import audit, lanes
from segsvc.ledger.candidates import decision_rows, entry_rows, number_of
from segsvc.ledger.errors import Refused
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import Verdict
from segsvc.ledger.runs import run_row
from segsvc.ledger.standing import stand, tallies
from segsvc.ledger.tables import ENTRIES
from segsvc.ledger.writer import Writing

_ANSWERS = (Verdict.ACCEPTED, Verdict.REJECTED)


def put(ledger: Ledger, run_id: str, answers: Mapping[str, Verdict], by: str) -> int:
    """Notes known answers, by candidate id; how many. Such a candidate has that outcome, whatever readers say of it.

    Raises Unknown for a run or candidate, Refused for an answer that is none.
    """
    wrong = sorted({verdict.value for verdict in answers.values() if verdict not in _ANSWERS})
    if wrong:
        raise Refused(f"gold: expected the answers accepted or rejected, got {', '.join(wrong)}")

    def work(writing: Writing) -> int:
        conn = writing.conn
        run = run_row(conn, run_id)
        numbers = {number_of(conn, candidate_id): verdict for candidate_id, verdict in answers.items()}
        entries, decided = entry_rows(conn, run.number, list(numbers)), decision_rows(conn, list(numbers))
        missing = [candidate_id for candidate_id in answers if number_of(conn, candidate_id) not in entries]
        if missing:
            raise Refused(f"gold: expected candidates of run {run_id}, got {missing[0]!r}, which is not in it")
        for number, verdict in numbers.items():
            entry, rows, readers = entries[number], decided.get(number, []), run.record.policy.readers
            standing = stand(rows, readers=readers)
            change = tallies(standing, readers=readers, gold=verdict.value)
            change.subtract(tallies(standing, readers=readers, gold=entry["gold"]))
            for (name, user_id), count in change.items():
                writing.count(run.number, name, count, user_id=user_id)
            audit.move(conn, run, entry, of=audit.outcome_of(standing, gold=entry["gold"], readers=readers),
                       to=audit.outcome_of(standing, gold=verdict.value, readers=readers))
            if entry["gold"] is None:
                lanes.move(conn, entry, of=standing.read_by if standing.outcome is None else None, to=None)
                lanes.move(conn, {**entry, "gold": verdict.value}, of=None, to=lanes.NOBODY)
            conn.execute(update(ENTRIES).where(ENTRIES.c.number == entry["number"]).values(
                gold=verdict.value, gold_at=writing.now, gold_by=by))
        return len(numbers)

    return ledger.write(work)
