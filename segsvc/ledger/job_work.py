"""Runs as who works on them sees them: taken by a lease, kept by signs of life, ended once.

A lease has a token. Whoever is not heard of for its length has lost the run: it is queued again as a new attempt, and what
the former holder says later, with the old token, changes nothing. What is done is said by published parts alone. How long
nothing was heard is measured by who looks, on a steady clock: machines' clocks differ, and are set while runs go on.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any

from sqlalchemy import select, update

from segsvc.documents import ImageCounts, RunDocument, RunState
from segsvc.ledger import service_counts
from segsvc.ledger.errors import Lost
from segsvc.ledger.heartbeats import Heartbeats
from segsvc.ledger.job_records import AttemptState, Lease
from segsvc.ledger.job_rows import FREE, Row, change, counts, job, job_row, move
from segsvc.ledger.opening import Ledger
from segsvc.ledger.service_counts import Counted
from segsvc.ledger.tables import JOBS
from segsvc.ledger.writer import Writing

MOST_LOSSES = 5  # one after another, without an image that ended between them


def take(ledger: Ledger, holder: str, *, lease_s: float) -> Lease | None:
    """The run that waits longest, which is this holder's for so many seconds; None where none waits."""
    token = secrets.token_hex(16)

    def work(writing: Writing) -> Lease | None:
        conn = writing.conn
        row = conn.execute(select(JOBS).where(JOBS.c.state == RunState.QUEUED.value).order_by(
            JOBS.c.number).limit(1)).mappings().one_or_none()
        if row is None:
            return None
        move(writing, row, AttemptState.RUNNING, why=f"taken by {holder}", started_at=writing.now,
             lease_until=_until(writing, lease_s), lease_token=token, lease_holder=holder)
        return Lease(job(job_row(conn, row["run_id"])), token)

    return ledger.write(work)


def beat(ledger: Ledger, lease: Lease, *, lease_s: float, images: ImageCounts | None = None,
         eta_s: float | None = None) -> bool:
    """A sign of life, with how far the run is; whether it is to be cancelled. Raises Lost where the run was lost."""
    def work(writing: Writing) -> bool:
        row = _held(writing, lease)
        values: dict[str, object] = {"lease_until": _until(writing, lease_s)}
        if images is not None:
            told = images.model_dump()
            if any(row[name] != value for name, value in told.items()):
                values |= {**told, "eta_s": eta_s}
                if _ended(told) > _ended(row):
                    values["losses"] = 0
        if len(values) > 1:
            change(writing, row["number"], **values)
        else:
            writing.conn.execute(update(JOBS).where(JOBS.c.number == row["number"]).values(**values))
        return bool(row["cancelling"])

    return ledger.write(work)


def succeed(ledger: Ledger, lease: Lease, document: RunDocument) -> None:
    """The run is done, and the ledger holds its review band. Raises Lost where the run was lost."""
    ledger.write(lambda writing: move(
        writing, _held(writing, lease), AttemptState.SUCCEEDED, error=None, losses=0,
        **counts(document.images, document.candidates)))


def fail(ledger: Ledger, lease: Lease, why: str) -> None:
    """The run cannot go on. Raises Lost where the run was lost."""
    ledger.write(lambda writing: move(writing, _held(writing, lease), AttemptState.FAILED, why=why, error=why))


def cancelled(ledger: Ledger, lease: Lease) -> None:
    """The run has ended as it was told to. Raises Lost where the run was lost."""
    ledger.write(lambda writing: move(writing, _held(writing, lease), AttemptState.CANCELLED))


def lose(ledger: Ledger, lease: Lease, why: str) -> None:
    """Who worked on the run died: it is queued again, though not for ever. Raises Lost where it was lost before."""
    ledger.write(lambda writing: _lose(writing, _held(writing, lease), why))


def give_back(ledger: Ledger, lease: Lease) -> None:
    """The run goes back into the queue, as this server ends: no fault of it. Raises Lost where it was lost before."""
    ledger.write(lambda writing: _queue_again(writing, _held(writing, lease), "the server ended"))


def lose_overdue(ledger: Ledger, heartbeats: Heartbeats, *, lease_s: float, but: Collection[str] = (),
                 all_of_others: bool = False) -> int:
    """Takes runs from holders that were not heard of for so long; how many. heartbeats: what was heard of them before.

    but: tokens that are held here. all_of_others: also those whose lease goes on; where one process alone has the ledger,
    no other can be alive.
    """
    def work(writing: Writing) -> int:
        held = writing.conn.execute(select(JOBS).where(JOBS.c.state == RunState.RUNNING.value)).mappings().all()
        silent_s = heartbeats.silent_s({row["number"]: (row["lease_token"], row["lease_until"]) for row in held})
        rows = [row for row in held if row["lease_token"] not in but
                and (all_of_others or silent_s[row["number"]] > lease_s)]
        for row in rows:
            _lose(writing, row, f"{row['lease_holder']} was not heard of any more")
        return len(rows)

    return ledger.write(work)


def _lose(writing: Writing, row: Row, why: str) -> None:
    service_counts.count(writing, Counted.LEASES_LOST)
    if row["cancelling"]:
        move(writing, row, AttemptState.CANCELLED, why=why)
    elif row["losses"] + 1 >= MOST_LOSSES:
        move(writing, row, AttemptState.LOST, why=why, losses=0, error=(
            f"{MOST_LOSSES} attempts in a row ended before an image did; the last: {why}. What is published is kept; "
            "resume it once that is mended."))
    else:
        _queue_again(writing, row, why, losses=row["losses"] + 1)


def _queue_again(writing: Writing, row: Row, why: str, **values: Any) -> None:
    if row["cancelling"]:
        move(writing, row, AttemptState.CANCELLED, why=why)
        return
    move(writing, row, AttemptState.LOST, why=why)
    ended = job_row(writing.conn, row["run_id"])
    move(writing, ended, AttemptState.QUEUED, attempt=row["attempt"] + 1, started_at=None, finished_at=None, error=None,
         **{**FREE, **values})


def _held(writing: Writing, lease: Lease) -> Row:
    row = job_row(writing.conn, lease.job.run_id)
    if row["lease_token"] != lease.token:
        raise Lost(f"run {lease.job.run_id}: expected to hold it still, it was taken over")
    return row


def _until(writing: Writing, lease_s: float) -> int:
    return writing.now + round(lease_s * 1e6)


def _ended(told: Row | dict[str, int]) -> int:
    return sum(int(told[name]) for name in ("done", "empty", "failed", "quarantined"))
