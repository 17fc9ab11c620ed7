"""Rows of `jobs` and `job_moves`: read as records, and moved from state to state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from segsvc.documents import CandidateCounts, ImageCounts, RunState
from segsvc.ledger import deliveries, service_counts
from segsvc.ledger.candidates import storable
from segsvc.ledger.errors import Unknown
from segsvc.ledger.job_records import OPEN, AttemptState, Job, Move
from segsvc.ledger.prepared import Prepared
from segsvc.ledger.tables import JOB_MOVES, JOBS, as_time
from segsvc.ledger.writer import Writing
from segsvc.settings import settings

Row = Mapping[Any, Any]
FREE = {"lease_until": None, "lease_token": None, "lease_holder": None}
_JOB = Prepared(select(JOBS).where(JOBS.c.run_id == bindparam("run_id")))
_IMAGES = ("listed", "done", "empty", "failed", "quarantined")
_CANDIDATES = ("accepted", "review", "rejected")
_TOLD = frozenset(AttemptState) - {AttemptState.QUEUED, AttemptState.LOST}  # what others are told of; else if it fails by it
_STATE_OF_RUN = {AttemptState.LOST: RunState.FAILED}  # the others are called alike


def job_row(conn: Connection, run_id: str) -> Row:
    """The row of a run. Raises Unknown."""
    row = _JOB.first(conn, run_id=storable(run_id))
    if row is None:
        raise Unknown(f"run: expected one that this server knows, got {run_id!r}. `segsvc runs` lists them.")
    return row


def job(row: Row) -> Job:
    """A row as a record."""
    return Job(
        run_id=row["run_id"], asked=row["asked"], out=row["out"], input=row["input"], model=row["model"],
        model_digest=row["model_digest"], asked_by=row["asked_by"], webhook=row["webhook"], state=RunState(row["state"]),
        attempt=row["attempt"], images=ImageCounts(**{name: row[name] for name in _IMAGES}),
        candidates=CandidateCounts(**{name: row[name] for name in _CANDIDATES}), eta_s=row["eta_s"],
        created_at=as_time(row["created_at"]),
        started_at=as_time(row["started_at"]) if row["started_at"] is not None else None,
        finished_at=as_time(row["finished_at"]) if row["finished_at"] is not None else None, error=row["error"],
        changed=row["changed"], cancelling=bool(row["cancelling"]))


def counts(images: ImageCounts, candidates: CandidateCounts) -> dict[str, Any]:
    """Counts as columns."""
    return {**images.model_dump(include=set(_IMAGES)), **candidates.model_dump(include=set(_CANDIDATES))}


def change(writing: Writing, number: int, **values: Any) -> None:
    """Changes the row of a run."""
    writing.conn.execute(update(JOBS).where(JOBS.c.number == number).values(changed=JOBS.c.changed + 1, **values))


def move(writing: Writing, row: Row, state: AttemptState, *, attempt: int | None = None, why: str = "",
         **values: Any) -> None:
    """Moves the run's attempt, or the new one that is given, to a state; `values`: what else changes of the row."""
    attempt = attempt if attempt is not None else row["attempt"]
    if state not in OPEN:
        values = {"finished_at": writing.now, "eta_s": None, "cancelling": False, **FREE, **values}
    note(writing, row["number"], attempt, state, why)
    run_state = _STATE_OF_RUN.get(state) or RunState(state.value)
    service_counts.moved(writing, row["state"], run_state.value)
    if state in _TOLD or (state is AttemptState.LOST and "error" in values):
        urls = (*settings().serve.webhooks, *((row["webhook"],) if row["webhook"] is not None else ()))
        deliveries.note(writing, row, run_state.value, attempt, urls, str(values.get("error") or ""))
    change(writing, row["number"], state=run_state.value, attempt=attempt, **values)


def note(writing: Writing, job_no: int, attempt: int, state: AttemptState, why: str = "") -> None:
    """Adds a move."""
    number = (writing.conn.execute(select(func.max(JOB_MOVES.c.number))).scalar() or 0) + 1
    writing.conn.execute(insert(JOB_MOVES).values(
        number=number, job_no=job_no, attempt=attempt, state=state.value, at=writing.now, why=why))


def moves_of(conn: Connection, job_no: int) -> list[Move]:
    """All moves of a run, oldest first."""
    rows = conn.execute(select(JOB_MOVES).where(JOB_MOVES.c.job_no == job_no).order_by(JOB_MOVES.c.number)).mappings()
    return [Move(row["number"], row["attempt"], AttemptState(row["state"]), as_time(row["at"]), row["why"]) for row in rows]
