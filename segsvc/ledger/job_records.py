"""Runs that are asked for: what goes into the ledger and comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from segsvc.documents import CandidateCounts, ImageCounts, RunState


class AttemptState(StrEnum):
    """Where an attempt at a run stands; it moves down this list, and never up."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # it said why
    CANCELLED = "cancelled"
    LOST = "lost"  # who worked on it was not heard of any more


OPEN = frozenset({AttemptState.QUEUED, AttemptState.RUNNING})


@dataclass(frozen=True, slots=True)
class NewJob:
    """A run to be done. asked: JSON of `segsvc.asking.Asked`; run_id: as its run.json will have it."""

    run_id: str
    asked: str
    out: str  # a URI
    input: str
    model: str
    model_digest: str
    asked_by: str
    webhook: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A run and how far it is. changed: grows with every change of it, and is never the same for two of them.

    cancelling: it is to be ended and has not ended yet.
    """

    run_id: str
    asked: str
    out: str
    input: str
    model: str
    model_digest: str
    asked_by: str
    webhook: str | None
    state: RunState
    attempt: int
    images: ImageCounts
    candidates: CandidateCounts
    eta_s: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    changed: int
    cancelling: bool

    @property
    def is_open(self) -> bool:
        """Whether it is still to end."""
        return self.state in (RunState.QUEUED, RunState.RUNNING)


@dataclass(frozen=True, slots=True)
class JobPage:
    """Runs, the newest first; next_cursor: of those that follow, None at the end."""

    jobs: tuple[Job, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Move:
    """An attempt came into a state."""

    number: int
    attempt: int
    state: AttemptState
    at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Lease:
    """A run that somebody has taken to work on. token: what is said with another one is not heard any more."""

    job: Job
    token: str
