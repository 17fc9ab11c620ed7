"""What a run amounts to: counted from its published parts, whatever made them."""

from __future__ import annotations

import json
import platform
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from segsvc.card import RunSpec
from segsvc.documents import CandidateCounts, DriftDocument, ImageCounts, RunDocument, RunState
from segsvc.errors import ConfigError
from segsvc.likeness import Likeness
from segsvc.operating_point import OperatingPoint
from segsvc.results import UNREAD, RunFolder
from segsvc.types import Band, ImageStatus, stable_id
from segsvc.views import OpenRun

_PACKAGES = ("segsvc", "numpy", "opencv-python-headless", "openvino", "torch", "pyarrow", "imagecodecs", "pillow",
             "simplejpeg", "segmentation-models-pytorch", "timm")
NO_POINT = "no operating point: every stored candidate is for review"


def versions() -> dict[str, str]:
    """Versions of segsvc, Python and the packages that decide what comes out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def wording(point: OperatingPoint | None, spec: RunSpec) -> str:
    """What may be said of the operating point in force on this run."""
    if point is None:
        return NO_POINT
    return point.wording(model_digest=spec.model_digest, runtime=spec.runtime)


def _shown(point: OperatingPoint | None) -> OperatingPoint | None:
    return point.without_profile() if point is not None else None


def _in_force(run: OpenRun) -> tuple[CandidateCounts, DriftDocument | None]:
    """Candidates by band, and whether the images are like the calibration's, by the operating point in force."""
    counted: Counter[str] = Counter()
    likeness = Likeness(run.operating_point, run.spec)
    for images, candidates in run.parts():
        counted.update(_counts(candidates["band"]))
        likeness.add(images, candidates)
    return _candidate_counts(counted), likeness.drift()


def _candidate_counts(counted: Counter[str]) -> CandidateCounts:
    return CandidateCounts(accepted=counted[Band.ACCEPTED], review=counted[Band.REVIEW],
                           rejected=counted[Band.REJECTED])


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}


def run_id(folder: RunFolder, spec: RunSpec) -> str:
    """The run's id: of its spec and its place."""
    return stable_id(folder.uri, spec.to_json())


@dataclass(frozen=True, slots=True)
class Attempt:
    """One go at a run: its number from 1, its times, and what was before it.

    `before` is the run.json of the attempt before, None for the first.
    """

    number: int
    created_at: datetime
    started_at: datetime
    workers: int
    threads: int
    before: RunDocument | None = None
    finished_at: datetime | None = None
    seconds: float = 0.0

    def ended(self, when: datetime | None, seconds: float) -> Attempt:
        """The attempt as it stands at that time, None while it goes on, after so many seconds."""
        return replace(self, finished_at=when, seconds=seconds + (self.before.seconds if self.before is not None else 0.0))


def begun(folder: RunFolder, attempt: Attempt) -> RunDocument:
    """run.json of an attempt that begins: the counts are those of the attempt before, so that nothing is scanned."""
    run = OpenRun(folder)
    point, before = run.operating_point, attempt.before
    return RunDocument(
        id=run_id(folder, run.spec), state=RunState.RUNNING, attempt=attempt.number,
        images=before.images if before else ImageCounts(listed=0, done=0, empty=0, failed=0, quarantined=0),
        candidates=before.candidates if before else CandidateCounts(accepted=0, review=0, rejected=0),
        skipped=before.skipped if before else {}, filtered=before.filtered if before else {}, eta_s=None,
        created_at=attempt.created_at, started_at=attempt.started_at, finished_at=None, error=None, out=folder.uri,
        spec=run.spec, operating_point=_shown(point), operating_point_wording=wording(point, run.spec),
        drift=before.drift if before else None, seconds_by_stage=before.seconds_by_stage if before else {},
        seconds=before.seconds if before else 0.0,
        workers=attempt.workers, threads=attempt.threads, versions=versions())


def left_document(folder: RunFolder) -> RunDocument | None:
    """run.json as the last attempt left it; None where there is none, or one of another version."""
    try:
        return RunDocument.model_validate(folder.read_json("run.json"))
    except ValidationError:
        return None


def finished_document(folder: RunFolder, out: str, hint: str = "") -> RunDocument:
    """run.json of a run that is finished. hint: what else its user may do. Raises ConfigError for another run."""
    document = left_document(folder)
    if document is None or document.state is not RunState.SUCCEEDED:
        state = document.state.value if document is not None else "without run.json"
        raise ConfigError(f"OUT: expected a finished run, got {out!r}, which is {state}. First run the same `segsvc run` "
                          f"again{hint}.")
    return document


def as_it_stands(folder: RunFolder, before: RunDocument) -> RunDocument:
    """run.json of a run that is not finished, with the counts of what is published by now."""
    attempt = Attempt(number=before.attempt, created_at=before.created_at, started_at=before.started_at,
                      workers=before.workers, threads=before.threads, finished_at=before.finished_at,
                      seconds=before.seconds)
    return summarise(folder, attempt, state=before.state, error=before.error)


def unchanged(folder: RunFolder, before: RunDocument) -> RunDocument:
    """run.json of a run that was finished already, with its counts by the operating point that is in force now."""
    run = OpenRun(folder)
    point = run.operating_point
    candidates, drift = _in_force(run)
    return before.model_copy(update={"candidates": candidates, "operating_point": _shown(point), "drift": drift,
                                     "operating_point_wording": wording(point, run.spec)})


def summarise(folder: RunFolder, attempt: Attempt, *, state: RunState, error: str | None) -> RunDocument:
    """run.json of a run as it stands now. Raises RunError where a part is damaged."""
    run = OpenRun(folder)
    point = run.operating_point
    likeness = Likeness(point, run.spec)
    statuses: Counter[str] = Counter()
    bands: Counter[str] = Counter()
    filtered: Counter[str] = Counter()
    for images, candidates in run.parts(point):
        likeness.add(images, candidates)
        statuses.update(_counts(images["status"]))
        bands.update(_counts(candidates["band"]))
        for name in ("below_floor", "below_min_area"):
            filtered[name] += pc.sum(images[f"n_{name}"]).as_py() or 0
    last = folder.last_planned()
    listed = last.units[-1].ordinal + 1 if last is not None and last.units else 0
    return RunDocument(
        id=run_id(folder, run.spec), state=state, attempt=attempt.number,
        images=ImageCounts(listed=listed, done=statuses[ImageStatus.DONE], empty=statuses[ImageStatus.EMPTY],
                           failed=statuses[ImageStatus.FAILED], quarantined=statuses[ImageStatus.QUARANTINED]),
        candidates=_candidate_counts(bands), skipped=dict(last.skipped) if last is not None else {},
        filtered=dict(filtered), eta_s=None, created_at=attempt.created_at,
        started_at=attempt.started_at, finished_at=attempt.finished_at,
        error=error, out=folder.uri, spec=run.spec, operating_point=_shown(point),
        operating_point_wording=wording(point, run.spec), drift=likeness.drift(), seconds_by_stage=run.timings(),
        seconds=attempt.seconds, workers=attempt.workers, threads=attempt.threads, versions=versions())


def failures(folder: RunFolder, counts: ImageCounts) -> bytes:
    """failures.jsonl: a line for each image that is failed or quarantined now, in the plan's order."""
    if not (counts.failed or counts.quarantined):
        return b""
    wanted = pa.array([status.value for status in UNREAD])
    lines = []
    for images, _ in OpenRun(folder).parts():
        for row in images.filter(pc.is_in(images["status"], wanted)).to_pylist():
            lines.append(json.dumps({key: row[key] for key in (
                "image_id", "image_uri", "image_version", "status", "error_kind", "error")}, ensure_ascii=False) + "\n")
    return "".join(lines).encode()
