"""Gathers from a run's parts what its report shows."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segsvc.card import RunSpec
from segsvc.documents import RunDocument, RunState
from segsvc.errors import ImageError
from segsvc.imaging import masks
from segsvc.imaging.overlay import BAND_COLOURS, BAND_LINES, Mark, class_colour, draw, resized, to_display
from segsvc.ledger.reviewed import Reviewed, not_reviewed
from segsvc.models.library import find_same_model
from segsvc.operating_point import OperatingPoint
from segsvc.readers import ReadLimits, opened
from segsvc.report import (
    HISTOGRAM_BINS,
    MOST_CANDIDATES_AN_EXAMPLE,
    MOST_FAILURES,
    ClassReport,
    Example,
    ExampleCandidate,
    Failure,
    ImageCounts,
    ModelFacts,
    RunReport,
    StageTime,
    image_uncertainty,
    render,
    uncertainty,
)
from segsvc.results import UNREAD, RunFolder
from segsvc.run_cost import ScoreCount, calibration_of, counted
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.summary import as_it_stands, unchanged
from segsvc.types import Band, Box, CandidateKind, ExtractionCounts, ImageRef, Source
from segsvc.views import OpenRun

_EXAMPLES = 12
_WINDOW_PX = 1024  # of a larger image, so much is shown around its most uncertain candidate
_PICTURE_PX = 900
_JPEG_QUALITY = 82
_VERTICES = 400


@dataclass(slots=True)
class _Gathered:
    """What one pass over the parts gives."""

    bands: dict[str, Counter[str]] = field(default_factory=dict)  # by class
    histograms: dict[str, np.ndarray[Any, np.dtype[np.int64]]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    scores: ScoreCount | None = None
    # the most uncertain images: (uncertainty, minus the place, image row, its candidate rows)
    examples: list[tuple[float, int, dict[str, Any], list[dict[str, Any]]]] = field(default_factory=list)


def write_run_report(folder: RunFolder, document: RunDocument, reviewed: Reviewed | None = None) -> int:
    """Writes report.html of the run as it stands, with what a ledger knows of it; gives its size in bytes."""
    page = render(run_report(folder, document, reviewed)).encode("utf-8", "replace")
    folder.put("report.html", page)
    return len(page)


def run_report(folder: RunFolder, document: RunDocument, reviewed: Reviewed | None = None) -> RunReport:
    """What the report of the run shows; images are opened for its pictures. Raises RunError where a part is damaged."""
    run = OpenRun(folder)
    point, calibration = run.operating_point, calibration_of(run)
    found = _gather(run, point, ScoreCount(calibration) if calibration is not None else None)
    names = sorted(found.bands)
    counts = document.images
    reviewed = reviewed if reviewed is not None else not_reviewed()
    costs = counted(run, calibration, found.scores, counts.done + counts.empty) if (
        calibration is not None and found.scores is not None) else None
    return RunReport(
        title=f"{document.spec.model} over {document.spec.input.rstrip('/').rsplit('/', 1)[-1]}", run_id=document.id,
        state=document.state.value, input=document.spec.input, model=_model_facts(document.spec),
        images=ImageCounts(counts.listed, counts.done, counts.empty, counts.failed, counts.quarantined),
        classes=tuple(_class_report(name, found, point) for name in names), wall_s=document.seconds,
        wording=point.wording(model_digest=run.spec.model_digest, runtime=run.spec.runtime) if point else "",
        note=point.note if point else "", drift=document.drift.says if document.drift else "",
        in_doubt=document.drift is not None and document.drift.in_doubt,
        filtered=ExtractionCounts(sum(sum(of_class.values()) for of_class in found.bands.values()),
                                  document.filtered.get("below_floor", 0), document.filtered.get("below_min_area", 0)),
        skipped=document.skipped,
        stages=tuple(StageTime(name, seconds) for name, seconds in sorted(document.seconds_by_stage.items(),
                                                                          key=lambda stage: -stage[1])),
        examples=_examples(found, point, names), failures=tuple(found.failures), started_at=document.started_at,
        finished_at=document.finished_at,
        machine={"workers": str(document.workers), "threads of each": str(document.threads)},
        versions=document.versions, decided=reviewed.decided, missed=reviewed.missed, missed_images=reviewed.missed_images,
        cost=costs.cost(reviewed.pace, reviewed.reading) if costs is not None else None,
        cost_wording=costs.wording if costs is not None else "", in_force=costs.in_force if costs is not None else None)


def _model_facts(spec: RunSpec) -> ModelFacts:
    model = find_same_model(spec.model, spec.model_digest)
    if model is None:
        return ModelFacts(name=spec.model, version="", digest=spec.model_digest, task="", runtime=spec.runtime.value,
                          licence="", description="No model of this name and digest is known here by its name.")
    card = model.card
    return ModelFacts(name=card.name, version=card.version, digest=spec.model_digest, task=card.task.value,
                      runtime=spec.runtime.value, licence=card.licence, description=card.description,
                      trained_on=card.trained_on, not_for=card.not_for)


def _gather(run: OpenRun, point: OperatingPoint | None, scores: ScoreCount | None) -> _Gathered:
    found = _Gathered(scores=scores)
    place = 0
    for images, candidates in run.parts(point):
        _count(candidates, found)
        if scores is not None:
            scores.add(candidates)
        if len(found.failures) < MOST_FAILURES:
            found.failures += _failures(images)[: MOST_FAILURES - len(found.failures)]
        for image, own in _by_image(images, candidates):
            place += 1
            if image["status"] not in UNREAD:
                rank = image_uncertainty([(row["class_name"], row["score"]) for row in own], point)
                _keep_most_uncertain(found, (rank, -place, image, own))
    return found


def _keep_most_uncertain(found: _Gathered, example: tuple[float, int, dict[str, Any], list[dict[str, Any]]]) -> None:
    if len(found.examples) < _EXAMPLES:
        heapq.heappush(found.examples, example)
    elif example[:2] > found.examples[0][:2]:
        heapq.heapreplace(found.examples, example)


def _count(candidates: pa.Table, found: _Gathered) -> None:
    for name in pc.unique(candidates["class_name"]).to_pylist():
        own = candidates.filter(pc.equal(candidates["class_name"], name))
        bands = found.bands.setdefault(name, Counter())
        bands.update({entry["values"]: entry["counts"] for entry in pc.value_counts(own["band"]).to_pylist()})
        bins = np.minimum((own["score"].to_numpy() * HISTOGRAM_BINS).astype(np.int64), HISTOGRAM_BINS - 1)
        counted = np.bincount(bins, minlength=HISTOGRAM_BINS)
        found.histograms[name] = found.histograms.get(name, np.zeros(HISTOGRAM_BINS, np.int64)) + counted


def _failures(images: pa.Table) -> list[Failure]:
    unread = images.filter(pc.is_in(images["status"], pa.array([status.value for status in UNREAD])))
    return [Failure(row["image_uri"], row["error_kind"] or "", row["error"] or "") for row in unread.to_pylist()]


def _by_image(images: pa.Table, candidates: pa.Table) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    of_image: dict[str, list[dict[str, Any]]] = {}
    wanted = "image_id frame class_name kind score probability band x0 y0 x1 y1 mask_rle".split()
    for row in candidates.select(wanted).to_pylist():
        of_image.setdefault(row["image_id"], []).append(row)
    return [(image, of_image.get(image["image_id"], [])) for image in images.to_pylist()]


def _class_report(name: str, found: _Gathered, point: OperatingPoint | None) -> ClassReport:
    bands = found.bands[name]
    return ClassReport(name, bands[Band.ACCEPTED], bands[Band.REVIEW], bands[Band.REJECTED],
                       tuple(int(count) for count in found.histograms[name]),
                       point.thresholds(name) if point is not None else None)


def _examples(found: _Gathered, point: OperatingPoint | None, names: list[str]) -> tuple[Example, ...]:
    examples = []
    for rank, _, image, rows in sorted(found.examples, key=lambda example: example[:2], reverse=True):
        by_need = sorted(rows, key=lambda row: -_row_uncertainty(row, point))
        try:
            examples.append(_example(image, by_need, rank, names))
        except ImageError:  # gone or changed since: the report says what was found, without its picture
            continue
    return tuple(examples)


def _row_uncertainty(row: Mapping[str, Any], point: OperatingPoint | None) -> float:
    return uncertainty(row["score"], point.thresholds(row["class_name"]) if point is not None else None)


def _example(image: Mapping[str, Any], by_need: list[dict[str, Any]], rank: float, names: list[str]) -> Example:
    reference = ImageRef(image["image_uri"], image["image_version"], 0)
    frame = by_need[0]["frame"] if by_need else 0
    limits = ReadLimits(decode_bytes=settings().decode_limit_bytes)
    with opened(store_of(reference.uri).open(reference), limits) as source:
        window = _window(source, by_need)
        picture = resized(to_display(source.read(window, frame=frame)), longest_side_px=_PICTURE_PX)
    whole = bool(by_need) and by_need[0]["kind"] == CandidateKind.IMAGE
    shown = [row for row in by_need if row["frame"] == frame and _overlaps(row, window)]
    marks = [] if whole else [_mark(row, names) for row in shown]
    encoded = cv2.imencode(".jpg", draw(picture, marks, window=window)[:, :, ::-1],
                           [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
    listed = sorted(by_need, key=lambda row: -row["score"]) if whole else by_need
    return Example(
        picture=encoded, image_uri=reference.uri, frame=frame, window=window, width_px=image["width_px"],
        height_px=image["height_px"], uncertainty=rank, n_candidates=len(by_need), whole_image=whole,
        candidates=tuple(ExampleCandidate(row["class_name"], row["score"], row["probability"], Band(row["band"]))
                         for row in listed[:MOST_CANDIDATES_AN_EXAMPLE]))


def _box(row: Mapping[str, Any]) -> Box:
    return Box(row["x0"], row["y0"], row["x1"], row["y1"])


def _window(source: Source, by_need: list[dict[str, Any]]) -> Box:
    """What of an image is shown: all of it, or `_WINDOW_PX` around the most uncertain candidate."""
    middle_x, middle_y = source.width_px // 2, source.height_px // 2
    if by_need and by_need[0]["kind"] != CandidateKind.IMAGE:
        box = _box(by_need[0])
        middle_x, middle_y = (box.x0 + box.x1) // 2, (box.y0 + box.y1) // 2
    x0 = min(max(0, middle_x - _WINDOW_PX // 2), max(0, source.width_px - _WINDOW_PX))
    y0 = min(max(0, middle_y - _WINDOW_PX // 2), max(0, source.height_px - _WINDOW_PX))
    return Box(x0, y0, min(x0 + _WINDOW_PX, source.width_px), min(y0 + _WINDOW_PX, source.height_px))


def _overlaps(row: Mapping[str, Any], window: Box) -> bool:
    box = _box(row)
    return box.x0 < window.x1 and window.x0 < box.x1 and box.y0 < window.y1 and window.y0 < box.y1


def _mark(row: Mapping[str, Any], names: list[str]) -> Mark:
    box = _box(row)
    rings: tuple[npt.NDArray[np.int32], ...] = ()
    if row["mask_rle"] is not None:
        outlines = masks.polygons(row["mask_rle"].encode(), box, max_vertices=_VERTICES)
        rings = tuple(ring for outline in outlines for ring in (outline.outer, *outline.holes))
    band = Band(row["band"])
    colour = BAND_COLOURS[band] if len(names) == 1 else class_colour(names.index(row["class_name"]))
    return Mark(box=box, rings=rings, colour=colour, line=BAND_LINES[band])


def refresh(folder: RunFolder, before: RunDocument, reviewed: Reviewed | None = None) -> tuple[RunDocument, int]:
    """Writes run.json and the report anew, with the counts by the operating point that is in force now; the former, and the
    latter's size in bytes.

    Of a run that is not finished only the report: its run.json is written by whoever works on it.
    """
    if before.state is RunState.SUCCEEDED:
        document = unchanged(folder, before)
        folder.put_json("run.json", document.model_dump(mode="json"))
    else:
        document = as_it_stands(folder, before)
    return document, write_run_report(folder, document, reviewed)
