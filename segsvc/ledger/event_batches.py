"""What is one run together: objects gather by time or number, are cut into a batch, and its run is queued once.

The batch and what is in it are stored before anything else is done about it, and the run is queued by the transaction that
notes it. So whatever dies in between, nothing is lost, and nothing is done twice.
"""

from __future__ import annotations

from functools import partial

from sqlalchemy import Select, func, insert, select, update

from segsvc import clock
from segsvc.ledger import jobs
from segsvc.ledger.event_records import Batch, BatchImage
from segsvc.ledger.job_records import NewJob
from segsvc.ledger.opening import Ledger
from segsvc.ledger.tables import S3_BATCHES, S3_RULES, S3_WORK, as_time, as_us
from segsvc.ledger.writer import Writing
from segsvc.types import stable_id

MOST_ERROR_CHARACTERS = 2_000


def cut_due(ledger: Ledger) -> int:
    """Cuts what has waited long enough, or is many enough, into batches; how many.

    What was queued later than now was queued before the clock was set back: long enough ago.
    """
    due, now = 0, as_us(clock.utc_now())
    with ledger.read() as conn:
        waiting = conn.execute(select(S3_WORK.c.rule_no, func.count(), func.min(S3_WORK.c.queued_at)).where(
            S3_WORK.c.batch_no == 0).group_by(S3_WORK.c.rule_no).order_by(S3_WORK.c.rule_no)).all()
        limits = {row.number: row for row in conn.execute(select(S3_RULES)).all()} if waiting else {}
    for rule_no, count, since in waiting:
        seconds, images = limits[rule_no].seconds, limits[rule_no].images
        is_due = since + round(seconds * 1e6) <= now or since > now + clock.APART_US
        batches = -(-count // images) if is_due else count // images
        for _ in range(batches):
            due += ledger.write(partial(_cut, rule_no=rule_no, most=images))
    return due


def _cut(writing: Writing, *, rule_no: int, most: int) -> int:
    """Makes one batch of what waits longest for a rule; how many were made: another process may have been first."""
    conn = writing.conn
    images = [BatchImage(*row) for row in conn.execute(select(S3_WORK.c.uri, S3_WORK.c.etag, S3_WORK.c.size_bytes).where(
        S3_WORK.c.batch_no == 0, S3_WORK.c.rule_no == rule_no).order_by(
            S3_WORK.c.queued_at, S3_WORK.c.uri, S3_WORK.c.etag).limit(most)).all()]
    if not images:
        return 0
    number = (conn.execute(select(func.max(S3_BATCHES.c.number))).scalar() or 0) + 1
    content = stable_id(number, *(text for each in images for text in (each.uri, each.etag)))
    name = f"{as_time(writing.now):%Y%m%d-%H%M%S}-{content[:8]}"
    conn.execute(insert(S3_BATCHES).values(
        number=number, rule_no=rule_no, name=name, images=len(images), cut_at=writing.now, run_id=None, error=None))
    for each in images:
        conn.execute(update(S3_WORK).where(
            S3_WORK.c.uri == each.uri, S3_WORK.c.etag == each.etag, S3_WORK.c.rule_no == rule_no,
            S3_WORK.c.batch_no == 0).values(batch_no=number))
    return 1


def unqueued(ledger: Ledger) -> list[Batch]:
    """The batches whose run is not queued yet, oldest first."""
    return _batches(ledger, _BATCHES.where(S3_BATCHES.c.run_id.is_(None)))


def since(ledger: Ledger, number: int) -> list[Batch]:
    """The batches after that number, oldest first."""
    return _batches(ledger, _BATCHES.where(S3_BATCHES.c.number > number))


def newest(ledger: Ledger) -> int:
    """The number of the newest batch; 0 where there is none."""
    with ledger.read() as conn:
        return int(conn.execute(select(func.max(S3_BATCHES.c.number))).scalar() or 0)


def waiting(ledger: Ledger) -> int:
    """How many objects wait for others."""
    with ledger.read() as conn:
        return int(conn.execute(select(func.count()).where(S3_WORK.c.batch_no == 0)).scalar() or 0)


def images_of(ledger: Ledger, batch: Batch) -> list[BatchImage]:
    """What is in a batch, by URI and ETag."""
    with ledger.read() as conn:
        rows = conn.execute(select(S3_WORK.c.uri, S3_WORK.c.etag, S3_WORK.c.size_bytes).where(
            S3_WORK.c.batch_no == batch.number)).all()
    return sorted((BatchImage(*row) for row in rows), key=lambda each: (each.uri.encode(), each.etag))


def queue(ledger: Ledger, batch: Batch, new: NewJob) -> bool:
    """Queues a batch's run; False where that was done before."""
    def work(writing: Writing) -> bool:
        own = S3_BATCHES.c.number == batch.number
        if writing.conn.execute(select(S3_BATCHES.c.run_id).where(own)).scalar() is not None:
            return False
        jobs.queue(writing, new)
        writing.conn.execute(update(S3_BATCHES).where(own).values(run_id=new.run_id, error=None))
        return True

    return ledger.write(work)


def note_error(ledger: Ledger, batch: Batch, why: str) -> None:
    """Notes why a batch's run could not be queued."""
    if batch.error != why[:MOST_ERROR_CHARACTERS]:
        ledger.write(lambda writing: writing.conn.execute(update(S3_BATCHES).where(
            S3_BATCHES.c.number == batch.number).values(error=why[:MOST_ERROR_CHARACTERS])))


_BATCHES = select(S3_BATCHES, S3_RULES.c.rule).join(S3_RULES, S3_RULES.c.number == S3_BATCHES.c.rule_no).order_by(
    S3_BATCHES.c.number)


def _batches(ledger: Ledger, wanted: Select[tuple[object, ...]]) -> list[Batch]:
    with ledger.read() as conn:
        rows = conn.execute(wanted).mappings().all()
    return [Batch(row["number"], row["name"], row["rule"], row["images"], as_time(row["cut_at"]), row["run_id"],
                  row["error"]) for row in rows]
