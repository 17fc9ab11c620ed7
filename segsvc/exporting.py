"""What of a run is exported, handed to a writer part by part."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import pyarrow.compute as pc

from segsvc.models.library import find_same_model
from segsvc.operating_point import OperatingPoint
from segsvc.readers import ReadLimits, open_source
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.types import Band, ImageRef, Source
from segsvc.views import OpenRun
from segsvc.writers import Export, ExportCount, ExportPart, Writer


class Verdict(StrEnum):
    """Which candidates are exported."""

    ACCEPTED = "accepted"  # accepted by rule
    ALL = "all"  # every stored candidate


def export_run(run: OpenRun, writer: Writer, *, to: Path, verdict: Verdict, as_of: datetime | None) -> ExportCount:
    """Writes a run by `writer`; `as_of` takes the bands that were in force then.

    Raises ConfigError where `to` cannot be written, RunError where a part is damaged.
    """
    point = point_as_of(run, as_of)

    def parts() -> Iterator[ExportPart]:
        for images, candidates in run.parts(point):
            kept = candidates if verdict is Verdict.ALL else candidates.filter(
                pc.equal(candidates["band"], Band.ACCEPTED.value))
            yield ExportPart(images, kept)

    return writer.encode(Export(_classes(run), parts, _open_image), to)


def point_as_of(run: OpenRun, when: datetime | None) -> OperatingPoint | None:
    """The operating point that was in force at that time; the latest without a time."""
    points = run.folder.operating_points()
    if when is not None:
        points = [point for point in points if point.set_at is not None and point.set_at <= when]
    return points[-1] if points else None


def _classes(run: OpenRun) -> tuple[str, ...]:
    """What an index mask or a category number refers to: the classes of the run's model, in its card's order.

    So exports of all runs of a model agree. Where the model is not here any more, or was changed, those of all stored
    candidates, by name.
    """
    model = find_same_model(run.spec.model, run.spec.model_digest)
    if model is not None:
        return model.card.class_names
    found: set[str] = set()
    for _, candidates in run.parts():
        found |= set(pc.unique(candidates["class_name"]).to_pylist())
    return tuple(sorted(found))


def _open_image(uri: str, version: str) -> Source:
    blob = store_of(uri).open(ImageRef(uri, version, 0))
    return open_source(blob, ReadLimits(decode_bytes=settings().decode_limit_bytes))
