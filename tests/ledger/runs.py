"""Finished runs whose candidates a test says, written straight into their parts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from segsvc.card import RunSpec
from segsvc.documents import CandidateCounts, ImageCounts, RunDocument, RunState
from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint
from segsvc.results import RunFolder, part_name
from segsvc.stores import store_of
from segsvc.summary import run_id
from segsvc.tables import CANDIDATES_SCHEMA, IMAGES_SCHEMA
from segsvc.types import Runtime, stable_id

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "d" * 64
MASK = "T2:N2N2O1"


@dataclass(frozen=True)
class Drawn:
    """A candidate: its class, its score, in which image it is, and what it reads if it is text, else it is a region."""

    class_name: str
    score: float
    image: int = 0
    text: str | None = None

    @property
    def kind(self) -> str:
        return "region" if self.text is None else "text"

    def candidate_id(self, place: int) -> str:
        content = MASK.encode() if self.text is None else self.text
        return stable_id(image_id(self.image), DIGEST, 0, self.kind, self.class_name, *box(place), content)


def image_id(number: int) -> str:
    return stable_id(f"file:///images/{number}.png", "1-1")


def box(place: int) -> tuple[int, int, int, int]:
    return (place % 900, 10, place % 900 + 20, 40)


def review(count: int, *, class_name: str = "cell", low: float = 0.31, high: float = 0.69) -> list[Drawn]:
    """Candidates whose scores lie evenly within the review band of `write_run`."""
    return [Drawn(class_name, low + (high - low) * (place + 0.5) / count) for place in range(count)]


def write_run(out: Path, drawn: Sequence[Drawn], *, flag_at: float = 0.3, accept_at: float | None = 0.7,
              with_bands: bool = True, state: RunState = RunState.SUCCEEDED, shard_images: int = 4) -> RunDocument:
    """Writes the run; candidates stand in the order of their images, `shard_images` of them in a part."""
    folder = RunFolder(store_of(str(out)).folder(str(out)))
    spec = RunSpec(input="file:///images", shard_size=shard_images, model="drawn", model_digest=DIGEST,
                   runtime=Runtime.OPENVINO)
    folder.begin(spec)
    if with_bands:
        put_bands(out, flag_at, accept_at)
    placed = list(enumerate(drawn))
    images = max((each.image for each in drawn), default=0) + 1
    for number, first in enumerate(range(0, images, shard_images)):
        numbers = range(first, min(first + shard_images, images))
        rows = [_row(place, each) for image in numbers for place, each in placed if each.image == image]
        folder.put(part_name("candidates", number), _bytes(pa.Table.from_pylist(rows, CANDIDATES_SCHEMA)))
        folder.put(part_name("images", number), _bytes(pa.Table.from_pylist(
            [_image(image, sum(each.image == image for each in drawn)) for image in numbers], IMAGES_SCHEMA)))
    document = RunDocument(
        id=run_id(folder, spec), state=state, attempt=1,
        images=ImageCounts(listed=images, done=images, empty=0, failed=0, quarantined=0),
        candidates=CandidateCounts(accepted=0, review=len(drawn), rejected=0), skipped={}, filtered={}, eta_s=None,
        created_at=WHEN, started_at=WHEN, finished_at=WHEN, error=None, out=folder.uri, spec=spec, operating_point=None,
        operating_point_wording="set by hand, not guaranteed", seconds_by_stage={}, seconds=1.0, workers=1, threads=1,
        versions={})
    folder.put_json("run.json", document.model_dump(mode="json"))
    return document


def put_bands(out: Path, flag_at: float, accept_at: float | None) -> None:
    """Puts other bands in force, as `segsvc band` does."""
    RunFolder(store_of(str(out)).folder(str(out))).add_operating_point(OperatingPoint(
        basis=Basis.BY_HAND, classes={"*": ClassThresholds(flag_at=flag_at, accept_at=accept_at)}, set_at=WHEN))


def _row(place: int, each: Drawn) -> dict[str, object]:
    x0, y0, x1, y1 = box(place)
    return {"candidate_id": each.candidate_id(place), "image_id": image_id(each.image),
            "image_uri": f"file:///images/{each.image}.png", "image_version": "1-1", "frame": 0, "model": "drawn",
            "model_digest": DIGEST, "class_name": each.class_name, "kind": each.kind, "score": each.score,
            "mean_score": each.score, "x0": x0, "y0": y0, "x1": x1, "y1": y1, "area_px": 100, "touches_edge": False,
            "mask_rle": MASK if each.text is None else None, "text": each.text}


def _image(number: int, candidates: int) -> dict[str, object]:
    return {"image_id": image_id(number), "image_uri": f"file:///images/{number}.png", "image_version": "1-1",
            "status": "done", "width_px": 1000, "height_px": 500, "frames": 1, "error_kind": None, "error": None,
            "n_candidates": candidates, "n_below_floor": 0, "n_below_min_area": 0, "group": None, "meta": []}


def _bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_checksum=True)
    return sink.getvalue()
