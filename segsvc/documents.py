"""The JSON documents that commands print and runs leave behind; each has a published JSON schema in `segsvc/schemas/`.

`python -m segsvc.documents` writes the schemas anew.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from segsvc.card import ModelCard, RunSpec
from segsvc.event_documents import ReconcileDocument, TriggerDocument
from segsvc.improvement_documents import ImproveDocument, VerdictLabelsDocument, VersionsDocument
from segsvc.job_documents import CandidateCounts as CandidateCounts  # noqa: PLC0414 - they are parts of this module too
from segsvc.job_documents import ImageCounts as ImageCounts  # noqa: PLC0414 - they are parts of this module too
from segsvc.job_documents import JobDocument, JobsDocument
from segsvc.job_documents import RunState as RunState  # noqa: PLC0414 - they are parts of this module too
from segsvc.ledger_documents import (
    AuditDocument,
    GoldDocument,
    LedgerFileDocument,
    ReviewImportDocument,
    SampleDocument,
    TokenDocument,
    UserDocument,
    UsersDocument,
)
from segsvc.metrics_document import MetricsDocument
from segsvc.operating_point import OperatingPoint
from segsvc.quality.cost import PaceBasis


class Document(BaseModel):
    """A JSON document with a fixed set of fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DriftDocument(Document):
    """Whether a run's images are like those of its calibration (`segsvc.quality.drift`), and what is to be said of it.

    images and units: how many of the run were compared. statistic, threshold and p_value: null where they are too few.
    """

    in_doubt: bool
    says: str
    images: int
    units: int
    statistic: float | None
    threshold: float | None
    p_value: float | None


class RunDocument(Document):
    """run.json, and what `segsvc run --json` prints.

    operating_point: without its profile, which bands.json holds. drift: null where no calibration is in force here.
    """

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
    drift: DriftDocument | None = None
    seconds_by_stage: dict[str, float]
    seconds: float
    workers: int
    threads: int
    versions: dict[str, str]


class ReviewEstimate(Document):
    """What people would have to do after a run, as the model's calibration expects of images like its own.

    candidates: for review; audit: drawn from what rules decide; hours: of one person, for all readings, at so many seconds a
    decision, of which `seconds_from` tells where they were measured.
    """

    recall: float
    candidates: float
    audit: float
    hours: float
    seconds_a_decision: float
    seconds_from: PaceBasis
    says: str


class DryRunDocument(Document):
    """What `segsvc run --dry-run --json` prints. review: null where the bands are of no calibration."""

    input: str
    model: str
    images: int
    size_bytes: int
    skipped: dict[str, int]
    seconds_estimated: float | None
    estimated_from: str
    review: ReviewEstimate | None = None


class BandsDocument(Document):
    """bands.json: the operating points of a run, oldest first; the last one gives the bands."""

    operating_points: list[OperatingPoint]


class BandDocument(Document):
    """What `segsvc band --json` prints; operating_point and drift as in run.json."""

    out: str
    operating_point: OperatingPoint
    wording: str
    drift: DriftDocument | None
    candidates: CandidateCounts


class CalibrationFailure(Document):
    """A calibration image that could not be read, and why."""

    image_uri: str
    error: str


class CalibrationDocument(Document):
    """What `segsvc calibrate --json` prints: the operating point that was written, and its promise in words."""

    model: str
    digest: str
    folder: str
    operating_point: OperatingPoint
    says: str
    notes: list[str]
    failed: list[CalibrationFailure]
    report: str


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
    """What `segsvc models list --json` prints. `damaged`: models that cannot be used, and why."""

    items: list[ModelSummary]
    damaged: dict[str, str]


class ModelDocument(Document):
    """What `segsvc models show --json` prints."""

    name: str
    digest: str
    folder: str
    card: ModelCard
    operating_point: OperatingPoint | None
    weights_ok: bool
    metrics: dict[str, Any] | None


class ImportDocument(Document):
    """What `segsvc models import --json` prints.

    compared_*: the random input (width, height) that the model and its source were asked about, and how many scores it has.
    """

    name: str
    digest: str
    folder: str
    kind: str
    library: str
    compared_sizes_px: list[tuple[int, int]]
    compared_scores: int
    largest_difference: float
    notes: list[str]
    card: ModelCard


class ModelExportDocument(Document):
    """What `segsvc models export --json` prints; `kept`: files that were there already."""

    name: str
    digest: str
    to: str
    files: int
    kept: int


class CatalogueItem(Document):
    """What `segsvc models pull NAME` fetches.

    url and file: where it is, and where a copy that was fetched by hand is put; null for what comes out of packages. sha256:
    null where none is known, and for a set of files, each of which has its own; size_bytes: null where nobody has said it.
    """

    name: str
    what: str
    task: str
    classes: int | None
    publisher: str
    origin: str
    url: str | None
    file: str | None
    licence: str
    trained_on: str
    size_bytes: int | None
    sha256: str | None
    digest_known: bool
    here: bool


class CatalogueDocument(Document):
    """What `segsvc models pull --list --json` prints."""

    items: list[CatalogueItem]


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


class DatasetProblem(Document):
    """Something wrong with a data set. severity: error or warning; where: the image or file, "" for the set as a whole."""

    severity: str
    kind: str
    message: str
    where: str


class DatasetCheckDocument(Document):
    """What `segsvc datasets check --json` prints; `ok` where there are warnings alone. Errors come first."""

    place: str
    layout: str
    task: str
    images: int
    ok: bool
    errors: int
    warnings: int
    problems: list[DatasetProblem]
    skipped: dict[str, int]


class DatasetClass(Document):
    """A class of a data set: how many images show it and how many objects they hold, by split ("none" without one)."""

    name: str
    images: dict[str, int]
    objects: dict[str, int]


class SidePx(Document):
    """The least, middle and largest length of a side."""

    least: int
    median: int
    largest: int


class DatasetDocument(Document):
    """What `segsvc datasets show --json` prints. images and groups: how many by split ("none" without one)."""

    place: str
    layout: str
    task: str
    exclusive: bool
    images: dict[str, int]
    groups: dict[str, int]
    classes: list[DatasetClass]
    width_px: SidePx | None
    height_px: SidePx | None
    unreadable_images: int
    errors: int
    warnings: int
    skipped: dict[str, int]


# name of the schema: the document it describes
DOCUMENTS: dict[str, type[BaseModel]] = {
    "run": RunDocument, "dry_run": DryRunDocument, "band": BandDocument, "calibration": CalibrationDocument,
    "models": ModelsDocument,
    "model": ModelDocument, "model_import": ImportDocument, "model_export": ModelExportDocument,
    "catalogue": CatalogueDocument,
    "export": ExportDocument, "report": ReportDocument, "doctor": DoctorDocument,
    "metrics": MetricsDocument, "dataset": DatasetDocument, "dataset_check": DatasetCheckDocument,
    "review_import": ReviewImportDocument, "gold": GoldDocument,
    "sample": SampleDocument, "audit": AuditDocument, "users": UsersDocument,
    "user": UserDocument, "token": TokenDocument, "ledger_file": LedgerFileDocument,
    "spec": RunSpec, "bands": BandsDocument, "card": ModelCard, "operating_point": OperatingPoint,
    "verdict_labels": VerdictLabelsDocument, "improve": ImproveDocument,
    "trigger": TriggerDocument, "reconcile": ReconcileDocument, "model_versions": VersionsDocument,
    "job": JobDocument, "jobs": JobsDocument,
}
WRITTEN_BY_HAND = frozenset({"card", "operating_point"})
SCHEMAS = Path(__file__).parent / "schemas"


def json_schema(name: str) -> str:
    """The JSON schema (draft 2020-12) of the document of that name, as it is published: the same bytes each time."""
    # where a person writes the document, defaults may be left out; what is printed has every field
    schema = DOCUMENTS[name].model_json_schema(mode="validation" if name in WRITTEN_BY_HAND else "serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_schemas(folder: Path = SCHEMAS) -> None:
    """Writes the schema of every document as `<name>.json`, and removes those of documents that are no more."""
    folder.mkdir(exist_ok=True)
    for stale in folder.glob("*.json"):
        if stale.stem not in DOCUMENTS:
            stale.unlink()
    for name in DOCUMENTS:
        (folder / f"{name}.json").write_text(json_schema(name), encoding="utf-8")


def printable_path(path: Path | str) -> str:
    """A path as JSON can hold it: bytes that are no UTF-8 are replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


if __name__ == "__main__":
    write_schemas()
