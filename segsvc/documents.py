"""The JSON documents that commands print and runs leave behind; each has a published JSON schema in `segsvc/schemas/`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from segsvc.card import ModelCard, OperatingPoint, RunSpec


class Document(BaseModel):
    """A JSON document with a fixed set of fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class RunDocument(Document):
    """run.json, and what `segsvc run --json` prints."""

    id: str
    state: RunState
    attempt: int
    images: ImageCounts
    candidates: CandidateCounts
    skipped: dict[str, int]
    filtered: dict[str, int]
    eta_s: float | None
    created_at: datetime
    started_at: datetime
    finished_at: datetime | None
    error: str | None
    out: str
    spec: RunSpec
    operating_point: OperatingPoint | None
    operating_point_wording: str
    seconds_by_stage: dict[str, float]
    seconds: float
    workers: int
    threads: int
    versions: dict[str, str]


class DryRunDocument(Document):
    """What `segsvc run --dry-run --json` prints."""

    input: str
    model: str
    images: int
    size_bytes: int
    skipped: dict[str, int]
    seconds_estimated: float | None
    estimated_from: str


class BandDocument(Document):
    """What `segsvc band --json` prints."""

    out: str
    operating_point: OperatingPoint
    wording: str
    candidates: CandidateCounts


class ModelSummary(Document):
    """One row of `segsvc models list --json`."""

    name: str
    task: str
    classes: int
    digest: str
    licence: str
    operating_point: str
    folder: str


class ModelsDocument(Document):
    """What `segsvc models list --json` prints."""

    items: list[ModelSummary]


class ModelDocument(Document):
    """What `segsvc models show --json` prints."""

    name: str
    digest: str
    folder: str
    card: ModelCard
    operating_point: OperatingPoint | None
    weights_ok: bool
    metrics: dict[str, Any] | None


class ExportDocument(Document):
    """What `segsvc export --json` prints."""

    format: str
    to: str
    images: int
    candidates: int
    files: int
    unreadable_images: int


class ReportDocument(Document):
    """What `segsvc report --json` prints."""

    report: str
    size_bytes: int


class Check(Document):
    """One thing that `segsvc doctor` looked at."""

    name: str
    ok: bool
    found: str
    advice: str | None = None


class DoctorDocument(Document):
    """What `segsvc doctor --json` prints."""

    ok: bool
    checks: list[Check]


DOCUMENTS: dict[str, type[Document]] = {
    "run": RunDocument, "dry_run": DryRunDocument, "band": BandDocument, "models": ModelsDocument,
    "model": ModelDocument, "export": ExportDocument, "report": ReportDocument, "doctor": DoctorDocument,
}
