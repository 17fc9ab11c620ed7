"""The JSON of the routes of runs."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from segsvc.documents import printable_path
from segsvc.job_documents import JobDocument
from segsvc.ledger.job_records import Job, JobPage

_TIME = "2026-11-02T09:30:12.250000Z"
EXAMPLE: dict[str, Any] = {
    "id": "8d3f1c52a0b94e17c6d2f08a5b7e4913", "state": "running", "attempt": 1,
    "images": {"listed": 2300, "done": 812, "empty": 3, "failed": 1, "quarantined": 0},
    "candidates": {"accepted": 0, "review": 0, "rejected": 0}, "eta_s": 93.5, "created_at": _TIME, "started_at": _TIME,
    "finished_at": None, "error": None, "input": "s3://photos/2026/", "model": "nuclei", "model_digest": "5f0c" * 16,
    "out": "s3://results/2026/", "asked_by": "ada", "cancelling": False}


class JobAnswer(JobDocument):
    """A run and how far it is. State: queued, running, succeeded, failed or cancelled; with failed images still succeeded,
    and that only once its review band can be reviewed.

    images: listed so far, and those that ended; which of them are empty is known at the end. candidates: at the end.
    """

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [EXAMPLE]})

    @classmethod
    def of(cls, job: Job) -> JobAnswer:
        return cls(id=job.run_id, state=job.state, attempt=job.attempt, images=job.images, candidates=job.candidates,
                   eta_s=job.eta_s, created_at=job.created_at, started_at=job.started_at, finished_at=job.finished_at,
                   error=job.error, input=printable_path(job.input), model=printable_path(job.model),
                   model_digest=job.model_digest, out=printable_path(job.out), asked_by=job.asked_by,
                   cancelling=job.cancelling)


class JobsAnswer(BaseModel):
    """Runs, the newest first."""

    example: ClassVar[dict[str, Any]] = {"items": [EXAMPLE], "next_cursor": None}
    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [example]})

    items: list[JobAnswer]
    next_cursor: str | None

    @classmethod
    def of(cls, page: JobPage) -> JobsAnswer:
        return cls(items=[JobAnswer.of(job) for job in page.jobs], next_cursor=page.next_cursor)


class ResumeBody(BaseModel):
    """retry_failed: images that failed are taken up again, also of a run that has succeeded."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"retry_failed": True}]})

    retry_failed: bool = False
