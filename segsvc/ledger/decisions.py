"""Decisions: they are only ever added, each once, and confirmed when they are on the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import bindparam, delete, select, update

from segsvc.ledger import audit, lanes, service_counts
from segsvc.ledger import rows as made
from segsvc.ledger.candidates import decision_rows, entry_rows, number_of, sight_of
from segsvc.ledger.errors import Refused, Stale, Unknown
from segsvc.ledger.opening import Ledger
from segsvc.ledger.prepared import Prepared
from segsvc.ledger.records import Decider, Decision, NewDecision, Reader, Verdict
from segsvc.ledger.runs import RunRow, run_row, runs_of
from segsvc.ledger.service_counts import Counted
from segsvc.ledger.sight import Sight
from segsvc.ledger.standing import Row, Standing, stand, tallies, undone_ids
from segsvc.ledger.tables import DECISIONS, ENTRIES, LEASES, as_us
from segsvc.ledger.work import worked
from segsvc.ledger.writer import Writing
from segsvc.types import CandidateKind

MOST_LISTED = 1000
ANY_TAG = "*"
_SENT = Prepared(select(DECISIONS).where(DECISIONS.c.user_id == bindparam("user_id"),
                                         DECISIONS.c.request_id == bindparam("request_id")))
_DROP_LEASE = Prepared(delete(LEASES).where(*(LEASES.c[name] == bindparam(name)
                                              for name in ("run_no", "candidate_no", "user_id"))))
_RESTAND = Prepared(update(ENTRIES).where(ENTRIES.c.number == bindparam("entry")).values(
    read_by=bindparam("read_by"), outcome=bindparam("outcome")))


def decide(ledger: Ledger, reader: Reader, candidate_id: str, new: NewDecision, *, if_match: str,
           run_id: str | None = None) -> Decision:
    """The decision as it is stored. With the `request_id` of an earlier one of this reader, that one, and nothing is stored.

    if_match: the tag of the Item that the reader saw, or `*`. run_id: in which run it was given out; by default the newest
    that has it. Raises Unknown, Refused for what is no decision of this reader or candidate, and Stale where somebody
    decided meanwhile; then nothing is stored.
    """
    asked = _Asked(reader, candidate_id, new, if_match, run_id, ledger.idle_cap_us)
    return ledger.write(lambda writing: _decide(writing, asked))


def mine(ledger: Ledger, reader: Reader, run_id: str, limit: int = 50) -> list[Decision]:
    """The reader's own decisions in a run that were not withdrawn, the latest first: what can be undone."""
    if not 1 <= limit <= MOST_LISTED:
        raise Refused(f"limit: expected 1 to {MOST_LISTED}, got {limit}")
    found: list[Decision] = []
    undone: set[str] = set()  # a withdrawal is later than what it withdraws
    with ledger.read() as conn:
        run = run_row(conn, run_id)
        own = select(DECISIONS).where(DECISIONS.c.user_id == reader.user_id, DECISIONS.c.run_no == run.number)
        before: int | None = None
        while len(found) < limit:
            page = own if before is None else own.where(DECISIONS.c.number < before)
            rows = cast(list[Row], conn.execute(page.order_by(DECISIONS.c.number.desc()).limit(limit)).mappings().all())
            if not rows:
                break
            undone |= undone_ids(rows)
            found += (made.decision(row, run_id, undone=False) for row in rows
                      if row["verdict"] != Verdict.WITHDRAWN and row["decision_id"] not in undone)
            before = rows[-1]["number"]
    return found[:limit]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be decided, by whom, and what they saw."""

    reader: Reader
    candidate_id: str
    new: NewDecision
    if_match: str
    run_id: str | None
    idle_cap_us: int


def _decide(writing: Writing, asked: _Asked) -> Decision:
    conn, reader = writing.conn, asked.reader
    if (again := _sent_before(writing, asked)) is not None:
        return again
    number = number_of(conn, asked.candidate_id)
    entries = [(run, entry_rows(conn, run.number, [number])[number]) for run in runs_of(conn, number)]
    given = [(run, entry) for run, entry in entries if asked.run_id is None or run.record.run_id == asked.run_id]
    if not given:
        raise Unknown(f"candidate: expected one of the ledger, got {asked.candidate_id!r}")
    run, entry = given[0]
    rows = decision_rows(conn, [number]).get(number, [])
    sights = [sight_of(reader, each, one, rows) for each, one in given]
    _check_seen(asked, run, sights, rows)
    _check(asked, entry, rows)
    row = writing.add_decision(_columns(writing, asked, run, number))
    for each, _ in entries:
        _DROP_LEASE.run(conn, {"run_no": each.number, "candidate_no": number, "user_id": reader.user_id})
    for each, one in entries:
        _restand(writing, each, one, rows, [*rows, row])
    return made.decision(row, run.record.run_id, undone=False)


def _sent_before(writing: Writing, asked: _Asked) -> Decision | None:
    if asked.new.request_id is None:
        return None
    row = _SENT.first(writing.conn, user_id=asked.reader.user_id, request_id=asked.new.request_id)
    if row is None:
        return None
    if (row["candidate_id"], row["verdict"]) != (asked.candidate_id, asked.new.verdict.value):
        raise Refused(f"request_id: expected a new one for a new decision, got that of {row['decision_id']}")
    rows = decision_rows(writing.conn, [row["candidate_no"]])[row["candidate_no"]]
    run_id = next(run.record.run_id for run in runs_of(writing.conn, row["candidate_no"]) if run.number == row["run_no"])
    return made.decision(row, run_id, undone=row["decision_id"] in undone_ids(rows))


def _check_seen(asked: _Asked, run: RunRow, sights: Sequence[Sight], rows: Sequence[Row]) -> None:
    """Raises Stale where the reader saw something else than there is to see now."""
    seen = asked.if_match.strip().removeprefix("W/").strip('"')
    if seen == ANY_TAG or any(sight.tag == seen for sight in sights):
        return
    now, undone = sights[0], undone_ids(rows)
    first = made.decision(now.rows[-1], run.record.run_id, undone=now.rows[-1]["decision_id"] in undone) if (
        now.rows) else None
    came = f"; {first.reader} said {first.verdict.value} before" if first is not None else ""
    raise Stale(f"candidate {asked.candidate_id}: expected the tag of what is there now{came}. Nothing was stored; look at "
                "it again.", first=first, tag=now.tag)


def _check(asked: _Asked, entry: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Raises Refused for a withdrawal of something else than an own decision that holds, for a correction of what the
    candidate has not, and for a box outside the image."""
    new, box = asked.new, asked.new.box
    if new.text is not None and entry["kind"] != CandidateKind.TEXT:
        raise Refused(f"text: expected a candidate of the kind 'text', got one of the kind {entry['kind']!r}")
    if new.mask_rle is not None and entry["kind"] == CandidateKind.IMAGE:
        raise Refused("mask_rle: expected a candidate with a place in its image, got a whole image")
    if new.undoes is not None:
        undone = undone_ids(rows)
        target = next((row for row in rows if row["decision_id"] == new.undoes), None)
        if target is None or target["user_id"] != asked.reader.user_id or target["verdict"] == Verdict.WITHDRAWN:
            raise Refused(f"undoes: expected an own decision of this candidate, got {new.undoes!r}")
        if new.undoes in undone:
            raise Refused(f"undoes: expected a decision that holds, got {new.undoes!r}, which was withdrawn already")
    if box is not None and not (0 <= box.x0 < box.x1 <= entry["width_px"] and 0 <= box.y0 < box.y1 <= entry["height_px"]):
        raise Refused(f"box: expected one within the image of {entry['width_px']} x {entry['height_px']} px, got "
                      f"{box.x0, box.y0, box.x1, box.y1}")


def _columns(writing: Writing, asked: _Asked, run: RunRow, number: int) -> dict[str, Any]:
    new, box = asked.new, asked.new.box
    worked_us, worked_until = worked(writing, asked.reader.user_id, shown_at=new.shown_at, seconds=new.seconds,
                                     cap_us=asked.idle_cap_us)
    if worked_us is not None:
        service_counts.count(writing, Counted.DECISIONS)
        service_counts.count(writing, Counted.DECISION_US, worked_us)
    return {"decider": Decider.PERSON.value, "run_no": run.number, "candidate_no": number,
            "candidate_id": asked.candidate_id, "verdict": new.verdict.value, "user_id": asked.reader.user_id,
            "reader": asked.reader.name, "shown_at": as_us(new.shown_at) if new.shown_at is not None else None,
            "worked_us": worked_us, "worked_until": worked_until, "note": new.note, "text": new.text,
            "mask_rle": new.mask_rle, "x0": box.x0 if box else None, "y0": box.y0 if box else None,
            "x1": box.x1 if box else None, "y1": box.y1 if box else None, "undoes": new.undoes,
            "request_id": new.request_id, "model_digest": run.record.model_digest,
            "point_digest": run.record.point_digest, "n_candidates": 1}


def _restand(writing: Writing, run: RunRow, entry: Mapping[str, Any], before: Sequence[Row], after: Sequence[Row]) -> None:
    """Brings an entry, its place in the queue and the run's tallies from what stood before to what stands after."""
    readers, gold = run.record.policy.readers, entry["gold"]
    old, new = stand(before, readers=readers), stand(after, readers=readers)
    change = tallies(new, readers=readers, gold=gold)
    change.subtract(tallies(old, readers=readers, gold=gold))
    for (name, user_id), by in change.items():
        writing.count(run.number, name, by, user_id=user_id)
    _RESTAND.run(writing.conn, {"entry": entry["number"], "read_by": new.read_by, "outcome": new.outcome_verdict})
    audit.move(writing.conn, run, entry, of=audit.outcome_of(old, gold=gold, readers=readers),
               to=audit.outcome_of(new, gold=gold, readers=readers))
    if gold is None:
        lanes.move(writing.conn, entry, of=_queued(old), to=_queued(new))


def _queued(standing: Standing) -> str | None:
    """As whose it stands in the queue; None where it is closed."""
    return standing.read_by if standing.outcome is None else None
