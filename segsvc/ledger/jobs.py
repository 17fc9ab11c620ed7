"""Runs as people and programs ask for them: submitted once, looked at, cancelled and resumed."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from segsvc.asking import Asked
from segsvc.documents import CandidateCounts, ImageCounts, RunDocument, RunState
from segsvc.ledger import service_counts
from segsvc.ledger.errors import Conflict, Refused
from segsvc.ledger.job_records import AttemptState, Job, JobPage, Move, NewJob
from segsvc.ledger.job_rows import Row, change, counts, job, job_row, move, moves_of, note
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import check_text
from segsvc.ledger.tables import JOB_KEYS, JOBS, as_us
from segsvc.ledger.writer import Writing

MOST_A_PAGE = 200
LONGEST_KEY = 255
_KEY_ANSWERED_WITHIN_US = 60_000_000  # a first request to another server that was not answered by then was cut off
_NO_IMAGES = ImageCounts(listed=0, done=0, empty=0, failed=0, quarantined=0)
_NO_CANDIDATES = CandidateCounts(accepted=0, review=0, rejected=0)


def known(ledger: Ledger, user_id: int, key: str, body: bytes) -> Job | None:
    """The run that a request with this key began; None where it is the first one, which is noted until `submit` ends it.

    Raises Refused where the key came with another body, Conflict while the first request is still being answered.
    """
    if not 1 <= len(key) <= LONGEST_KEY or not key.isprintable():
        raise Refused(f"Idempotency-Key: expected 1 to {LONGEST_KEY} printable characters, got {key[:60]!r}")
    check_text("Idempotency-Key", key, LONGEST_KEY)
    digest = hashlib.sha256(body).hexdigest()
    own = (JOB_KEYS.c.user_id == user_id) & (JOB_KEYS.c.key == key)

    def work(writing: Writing) -> Job | None:
        conn = writing.conn
        there = conn.execute(select(JOB_KEYS).where(own)).mappings().one_or_none()
        if there is None:
            conn.execute(insert(JOB_KEYS).values(user_id=user_id, key=key, body_sha256=digest, asked_at=writing.now))
            return None
        if there["body_sha256"] != digest:
            raise Refused(f"Idempotency-Key: expected a new key for another request, got {key!r}, which came with another "
                          "body before")
        if there["job_no"] is None:
            if (user_id, key) in ledger.answering or abs(writing.now - there["asked_at"]) < _KEY_ANSWERED_WITHIN_US:
                raise Conflict(f"Idempotency-Key: the first request with the key {key!r} is still being answered; ask again")
            conn.execute(update(JOB_KEYS).where(own).values(asked_at=writing.now))
            return None
        return job(conn.execute(select(JOBS).where(JOBS.c.number == there["job_no"])).mappings().one())

    found = ledger.write(work)
    if found is None:
        ledger.answering.add((user_id, key))
    return found


def forget(ledger: Ledger, user_id: int, key: str) -> None:
    """The request with this key began no run: it may be made again, also with another body."""
    ledger.answering.discard((user_id, key))
    ledger.write(lambda writing: writing.conn.execute(delete(JOB_KEYS).where(
        JOB_KEYS.c.user_id == user_id, JOB_KEYS.c.key == key, JOB_KEYS.c.job_no.is_(None))))


def submit(ledger: Ledger, new: NewJob, *, user_id: int = 0, key: str | None = None) -> Job:
    """The run, queued. One of this id that is over is resumed by it; one that is not goes on as it is."""
    def work(writing: Writing) -> str:
        number = queue(writing, new)
        if key is not None:
            writing.conn.execute(update(JOB_KEYS).where(
                JOB_KEYS.c.user_id == user_id, JOB_KEYS.c.key == key).values(job_no=number))
        return new.run_id

    run_id = ledger.write(work)
    if key is not None:
        ledger.answering.discard((user_id, key))
    return find(ledger, run_id)


def queue(writing: Writing, new: NewJob) -> int:
    """Queues the run as `submit` does, together with what else the transaction stores; its number."""
    conn = writing.conn
    row = conn.execute(select(JOBS).where(JOBS.c.run_id == new.run_id)).mappings().one_or_none()
    if row is None:
        number: int = (conn.execute(select(func.max(JOBS.c.number))).scalar() or 0) + 1
        conn.execute(insert(JOBS).values(
            number=number, run_id=new.run_id, asked=new.asked, out=new.out, input=new.input, model=new.model,
            model_digest=new.model_digest, asked_by=new.asked_by, webhook=new.webhook, state=RunState.QUEUED.value,
            attempt=1, created_at=writing.now, changed=1, cancelling=False, losses=0,
            **counts(_NO_IMAGES, _NO_CANDIDATES)))
        note(writing, number, 1, AttemptState.QUEUED)
        service_counts.moved(writing, None, RunState.QUEUED.value)
        return number
    if not job(row).is_open:
        _again(writing, row, asked=new.asked, webhook=new.webhook)
    return int(row["number"])


def find(ledger: Ledger, run_id: str) -> Job:
    """The run of that id. Raises Unknown."""
    with ledger.read() as conn:
        return job(job_row(conn, run_id))


def page(ledger: Ledger, *, cursor: str | None = None, limit: int = 50) -> JobPage:
    """Runs from the cursor on, the newest first. Raises Refused for a cursor or limit that is none."""
    if not 1 <= limit <= MOST_A_PAGE:
        raise Refused(f"limit: expected 1 to {MOST_A_PAGE}, got {limit}")
    wanted = select(JOBS).order_by(JOBS.c.number.desc()).limit(limit + 1)
    if cursor is not None:
        if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
            raise Refused(f"cursor: expected the next_cursor of a page, got {cursor[:40]!r}")
        wanted = wanted.where(JOBS.c.number < int(cursor))
    with ledger.read() as conn:
        rows = conn.execute(wanted).mappings().all()
    return JobPage(tuple(job(row) for row in rows[:limit]), str(rows[limit - 1]["number"]) if len(rows) > limit else None)


def moves(ledger: Ledger, run_id: str) -> list[Move]:
    """Every move of every attempt at the run, oldest first. Raises Unknown."""
    with ledger.read() as conn:
        return moves_of(conn, job_row(conn, run_id)["number"])


def cancel(ledger: Ledger, run_id: str, by: str) -> Job:
    """The run, which ends as soon as who works on it hears of it; one that waits ends at once, one that ended so stays so.

    Raises Unknown, and Conflict for a run that is over.
    """
    def work(writing: Writing) -> None:
        row = job_row(writing.conn, run_id)
        match RunState(row["state"]):
            case RunState.QUEUED:
                move(writing, row, AttemptState.CANCELLED, why=f"cancelled by {by}")
            case RunState.RUNNING:
                if not row["cancelling"]:
                    change(writing, row["number"], cancelling=True)
            case RunState.SUCCEEDED | RunState.FAILED:
                raise Conflict(f"run {run_id}: expected one that waits or runs, got one that has {row['state']}")

    ledger.write(work)
    return find(ledger, run_id)


def resume(ledger: Ledger, run_id: str, *, retry_failed: bool = False) -> Job:
    """The run with a new attempt, which goes on where the last one ended. retry_failed: failed images are taken up again.

    Raises Unknown, and Conflict for a run that waits, runs, or succeeded without anything to take up again.
    """
    def work(writing: Writing) -> None:
        row = job_row(writing.conn, run_id)
        if job(row).is_open:
            raise Conflict(f"run {run_id}: expected one that failed or was cancelled, got one that is {row['state']}")
        if row["state"] == RunState.SUCCEEDED.value and not retry_failed:
            raise Conflict(f"run {run_id}: expected one that failed or was cancelled, got one that has succeeded. With "
                           "retry_failed its failed images are taken up again.")
        asked = Asked.model_validate_json(row["asked"]).model_copy(update={"retry_failed": retry_failed})
        _again(writing, row, asked=asked.model_dump_json())

    ledger.write(work)
    return find(ledger, run_id)


def take_in(writing: Writing, document: RunDocument) -> None:
    """Notes a run that a command has made, where it was not asked for here: then it is looked at like all others."""
    conn = writing.conn
    row = conn.execute(select(JOBS).where(JOBS.c.run_id == document.id)).mappings().one_or_none()
    if row is not None and job(row).is_open:
        return  # its attempt says how it ends
    spec = document.spec
    values = {
        **counts(document.images, document.candidates), "state": document.state.value, "attempt": document.attempt,
        "error": document.error, "started_at": as_us(document.started_at),
        "finished_at": as_us(document.finished_at) if document.finished_at is not None else None}
    service_counts.moved(writing, row["state"] if row is not None else None, document.state.value)
    if row is not None:
        if any(row[name] != value for name, value in values.items() if name != "attempt"):
            change(writing, row["number"], **{**values, "attempt": max(document.attempt, row["attempt"])})
        return
    number = (conn.execute(select(func.max(JOBS.c.number))).scalar() or 0) + 1
    asked = Asked(input=spec.input, model=spec.model, out=document.out, limit=spec.limit, shard_size=spec.shard_size)
    conn.execute(insert(JOBS).values(
        number=number, run_id=document.id, asked=asked.model_dump_json(), out=document.out, input=spec.input,
        model=spec.model, model_digest=spec.model_digest, asked_by="", webhook=None,
        created_at=as_us(document.created_at), changed=1, cancelling=False, losses=0, **values))
    note(writing, number, document.attempt, AttemptState(document.state.value), "done by a command")


def _again(writing: Writing, row: Row, **values: Any) -> None:
    move(writing, row, AttemptState.QUEUED, attempt=row["attempt"] + 1, error=None, started_at=None, finished_at=None,
         losses=0, **values)

