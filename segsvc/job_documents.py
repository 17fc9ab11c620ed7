"""A run as whoever asked for it sees it: how far it is, over HTTP and by the commands that ask for runs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from segsvc.card import Document


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"  # asked for, not begun
    RUNNING = "running"  # being worked on
    SUCCEEDED = "succeeded"  # every image ended, some perhaps failed
    FAILED = "failed"  # cannot go on; can be resumed
    CANCELLED = "cancelled"  # stopped by a person; can be resumed


class ImageCounts(Document):
    """listed = done + empty + failed + quarantined, once a run succeeded."""

    listed: int
    done: int
    empty: int
    failed: int
    quarantined: int


class CandidateCounts(Document):
    """Candidates by band of the operating point in force."""

    accepted: int
    review: int
    rejected: int


class JobDocument(BaseModel):
    """A run and how far it is. State: queued, running, succeeded, failed or cancelled; with failed images still succeeded,
    and that only once its review band can be reviewed.

    images: listed so far, and those that ended; which of them are empty is known at the end. candidates: at the end. Fields
    that a newer server adds are passed over.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    state: RunState
    attempt: int
    images: ImageCounts
    candidates: CandidateCounts
    eta_s: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    input: str
    model: str
    model_digest: str
    out: str
    asked_by: str
    cancelling: bool

    @property
    def is_open(self) -> bool:
        """Whether it is still to end."""
        return self.state in (RunState.QUEUED, RunState.RUNNING)


class JobsDocument(BaseModel):
    """Runs, the newest first. next_cursor: of those that follow, null at the end."""

    model_config = ConfigDict(frozen=True)

    items: list[JobDocument]
    next_cursor: str | None
