"""What the service has done since the ledger was made, counted as it happens: for whoever watches it from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import func, select

from segsvc import clock
from segsvc.documents import RunState
from segsvc.ledger.opening import Ledger
from segsvc.ledger.standing import OWED
from segsvc.ledger.tables import JOB_MOVES, JOBS, TALLIES, as_us
from segsvc.ledger.writer import Writing

NO_RUN = 0  # the run_no of tallies that are of the whole ledger


class Counted(StrEnum):
    """The beginnings of names of tallies; behind a colon stands what is told apart."""

    RUNS = "runs"  # by state, as it is now
    IMAGES = "images"  # by status, of runs as they first came in
    PX = "px"  # the same
    STAGE_US = "stage_us"  # by stage, of all workers together
    LEASES_LOST = "leases_lost"
    DECISIONS = "decisions"  # of which it is known how long they took
    DECISION_US = "decision_us"


@dataclass(frozen=True, slots=True)
class ServiceCounts:
    """Counts by name, and by what is told apart ("" where nothing is). queue_age_s: how long the oldest run has waited."""

    counts: Mapping[Counted, Mapping[str, int]]
    queue_age_s: float
    backlog: int  # readings that are still to be made, of all runs


def count(writing: Writing, what: Counted, by: int = 1, *, of: str = "") -> None:
    """Adds to a count."""
    writing.count(NO_RUN, f"{what.value}:{of}" if of else what.value, by)


def moved(writing: Writing, before: str | None, after: str) -> None:
    """A run came from one state into another; None: it is new."""
    if before != after:
        if before is not None:
            count(writing, Counted.RUNS, -1, of=before)
        count(writing, Counted.RUNS, of=after)


def service_counts(ledger: Ledger) -> ServiceCounts:
    """As they stand now."""
    with ledger.read() as conn:
        rows = conn.execute(select(TALLIES.c.name, TALLIES.c["count"]).where(TALLIES.c.run_no == NO_RUN)).all()
        oldest = conn.execute(select(JOBS.c.number).where(JOBS.c.state == RunState.QUEUED.value).order_by(
            JOBS.c.number).limit(1)).scalar()
        waits_since = conn.execute(select(JOB_MOVES.c.at).where(JOB_MOVES.c.job_no == oldest).order_by(
            JOB_MOVES.c.number.desc()).limit(1)).scalar() if oldest is not None else None
        backlog = conn.execute(select(func.sum(TALLIES.c["count"])).where(TALLIES.c.name == OWED)).scalar() or 0
    counts: dict[Counted, dict[str, int]] = {each: {} for each in Counted}
    for name, number in rows:
        what, _, of = name.partition(":")
        counts[Counted(what)][of] = number
    age_us = as_us(clock.utc_now()) - waits_since if waits_since is not None else 0
    return ServiceCounts(counts, max(0.0, age_us / 1e6), int(backlog))
