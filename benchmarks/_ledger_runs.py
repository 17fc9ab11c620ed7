"""A finished run of any size, written straight into its parts: what the ledger's benchmarks take in."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segsvc.card import RunSpec
from segsvc.documents import CandidateCounts, ImageCounts, RunDocument, RunState
from segsvc.imaging import masks
from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint
from segsvc.results import RunFolder, part_name
from segsvc.stores import store_of
from segsvc.summary import run_id
from segsvc.tables import CANDIDATES_SCHEMA, IMAGES_SCHEMA
from segsvc.types import Runtime, stable_id

CLASSES = ("cell", "debris", "fibre", "nucleus")
CANDIDATES_AN_IMAGE, IMAGES_A_SHARD = 40, 500
DIGEST = "0" * 64
SIDE_PX = 2048
_WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def write_run(out: Path, candidates: int, *, seed: int = 0, decided_share: float = 0.0) -> RunDocument:
    """Writes a run of so many candidates for review; `decided_share` of as many again are decided by rule.

    Their boxes, scores and classes are drawn; their ids are those that such candidates have.
    """
    folder, spec = begin_run(out)
    draw = np.random.default_rng(seed)
    total, image, by_rule = round(candidates * (1 + decided_share)), 0, 0
    for number, start in enumerate(range(0, total, CANDIDATES_AN_IMAGE * IMAGES_A_SHARD)):
        count = min(CANDIDATES_AN_IMAGE * IMAGES_A_SHARD, total - start)
        images = -(-count // CANDIDATES_AN_IMAGE)
        ids = [stable_id(f"file:///images/{image + place:08d}.png", "1-1") for place in range(images)]
        table, decided = _candidates(draw, ids, count, image, decided_share / (1 + decided_share))
        by_rule += decided
        put_shard(folder, number, table, _images(ids, image))
        image += images
    return finish_run(folder, spec, images=image, review=total - by_rule, accepted=by_rule)


def begin_run(out: Path) -> tuple[RunFolder, RunSpec]:
    """A run's folder with its spec and an operating point, for images that lie beside it."""
    folder = RunFolder(store_of(str(out)).folder(str(out)))
    spec = RunSpec(input=str(out.parent / "images"), shard_size=IMAGES_A_SHARD, model="drawn", model_digest=DIGEST,
                   runtime=Runtime.OPENVINO)
    folder.begin(spec)
    folder.add_operating_point(OperatingPoint(
        basis=Basis.BY_HAND, classes={"*": ClassThresholds(flag_at=0.2, accept_at=0.9)}, set_at=_WHEN))
    return folder, spec


def put_shard(folder: RunFolder, number: int, candidates: pa.Table, images: pa.Table) -> None:
    """Writes the two parts of a shard."""
    folder.put(part_name("candidates", number), _bytes(candidates))
    folder.put(part_name("images", number), _bytes(images))


def finish_run(folder: RunFolder, spec: RunSpec, *, images: int, review: int, accepted: int) -> RunDocument:
    """Writes run.json: of so many images all are done."""
    document = RunDocument(
        id=run_id(folder, spec), state=RunState.SUCCEEDED, attempt=1,
        images=ImageCounts(listed=images, done=images, empty=0, failed=0, quarantined=0),
        candidates=CandidateCounts(accepted=accepted, review=review, rejected=0), skipped={}, filtered={},
        eta_s=None, created_at=_WHEN, started_at=_WHEN, finished_at=_WHEN, error=None, out=folder.uri, spec=spec,
        operating_point=None, operating_point_wording="set by hand, not guaranteed", seconds_by_stage={}, seconds=1.0,
        workers=1, threads=1, versions={})
    folder.put_json("run.json", document.model_dump(mode="json"))
    return document


def _candidates(draw: np.random.Generator, image_ids: list[str], count: int, first: int, share: float
                ) -> tuple[pa.Table, int]:
    places = np.arange(count) // CANDIDATES_AN_IMAGE
    x0, y0 = np.sort(draw.integers(0, SIDE_PX - 64, count)), draw.integers(0, SIDE_PX - 64, count)
    sides = draw.integers(4, 64, (2, count))
    is_decided = draw.random(count) < share
    score = np.where(is_decided, draw.uniform(0.9, 1.0, count), draw.uniform(0.2, 0.9, count))
    score = np.round(score * 65535) / 65535
    classes = draw.integers(0, len(CLASSES), count)
    owners = [image_ids[place] for place in places]
    names, rles = [CLASSES[each] for each in classes], [_disc(*size) for size in sides.T.tolist()]
    boxes = list(zip(x0.tolist(), y0.tolist(), (x0 + sides[0]).tolist(), (y0 + sides[1]).tolist(), strict=True))
    ids = [stable_id(owner, DIGEST, 0, "region", name, *box, rle.encode())
           for owner, name, box, rle in zip(owners, names, boxes, rles, strict=True)]
    return pa.Table.from_pydict({
        "candidate_id": ids, "image_id": owners,
        "image_uri": [f"file:///images/{first + place:08d}.png" for place in places], "image_version": ["1-1"] * count,
        "frame": np.zeros(count, np.int64), "model": ["drawn"] * count, "model_digest": [DIGEST] * count,
        "class_name": names, "kind": ["region"] * count, "score": score, "mean_score": score * 0.9,
        "x0": x0, "y0": y0, "x1": x0 + sides[0], "y1": y0 + sides[1], "area_px": sides[0] * sides[1],
        "mask_rle": rles, "text": [None] * count, "touches_edge": np.zeros(count, np.bool_)}, CANDIDATES_SCHEMA
    ), int(is_decided.sum())


@cache
def _disc(width_px: int, height_px: int) -> str:
    """The mask of a disc that fills its box."""
    y, x = np.ogrid[:height_px, :width_px]
    inside = ((2 * x + 1) / width_px - 1) ** 2 + ((2 * y + 1) / height_px - 1) ** 2 <= 1
    return masks.encode(inside).decode("ascii")


def _images(image_ids: list[str], first: int) -> pa.Table:
    count = len(image_ids)
    return pa.Table.from_pydict({
        "image_id": image_ids, "image_uri": [f"file:///images/{first + place:08d}.png" for place in range(count)],
        "image_version": ["1-1"] * count, "status": ["done"] * count, "width_px": [SIDE_PX] * count,
        "height_px": [SIDE_PX] * count, "frames": [1] * count, "error_kind": [None] * count, "error": [None] * count,
        "n_candidates": [CANDIDATES_AN_IMAGE] * count, "n_below_floor": [0] * count, "n_below_min_area": [0] * count,
        "group": [None] * count, "meta": [[]] * count}, IMAGES_SCHEMA)


def _bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()
