"""What a run would be: images, bytes, time from the model's own pace on this machine, and hours of the people after it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from segsvc.documents import DryRunDocument, ReviewEstimate
from segsvc.errors import ConfigError, ImageError
from segsvc.imaging.tiling import plan_tiles
from segsvc.models.library import Model
from segsvc.models.runtime import Predictor
from segsvc.operating_point import OperatingPoint
from segsvc.plan import Input, listing
from segsvc.quality.cost import Pace, Reading, cost, expected, says
from segsvc.readers import ReadLimits, opened
from segsvc.settings import settings
from segsvc.stores import Skip, store_of
from segsvc.types import ImageRef, Runtime

_LOOKED_AT = 32  # images whose size is read
_TRIALS = 3


def estimate(given: Input, model: Model, *, runtime: Callable[[], Runtime], limit: int | None, out_uri: str,
             threads: int) -> DryRunDocument:
    """Lists INPUT, reads the sizes of the first images, and times the model on one tile of each size among them.

    runtime: asked once there is something to estimate, as it may have to convert the model first.

    Raises ConfigError where INPUT holds no image.
    """
    skipped: Counter[str] = Counter()
    images, size_bytes, looked_at = 0, 0, list[ImageRef]()
    for entry in listing(given, exclude=store_of(out_uri).folder(out_uri).uri):
        if isinstance(entry.found, Skip):
            skipped[entry.found.value] += 1
            continue
        if images == limit:
            break
        images += 1
        size_bytes += entry.found.size_bytes
        if len(looked_at) < _LOOKED_AT:
            looked_at.append(entry.found)
    if images == 0:
        raise ConfigError(f"INPUT: expected at least one image, found none in {given.uri}")
    tiles = [found for ref in looked_at if (found := _tiles(ref, model)) is not None]
    seconds = _seconds(tiles, model, runtime(), threads) * images / len(looked_at) if tiles else None
    return DryRunDocument(
        input=given.uri, model=model.name, images=images, size_bytes=size_bytes, skipped=dict(skipped),
        seconds_estimated=round(seconds, 3) if seconds is not None else None,
        estimated_from=f"the model's own pace here on {len(tiles)} of the images, start-up left out")


def _tiles(ref: ImageRef, model: Model) -> tuple[int, int, int] | None:
    """How many tiles of which size (height, width) an image is; None where it cannot be opened."""
    card = model.card
    try:
        with opened(store_of(ref.uri).open(ref), ReadLimits(decode_bytes=settings().decode_limit_bytes)) as source:
            width, height, frames = source.width_px, source.height_px, source.frames
    except ImageError:
        return None
    if card.resize is not None:
        return frames, card.resize.crop_px, card.resize.crop_px
    plan = plan_tiles(width, height, tile_px=card.tile_px, overlap_px=card.overlap_px, stride_px=card.stride_px)
    return frames * plan.rows * plan.columns, plan.y.tile_px, plan.x.tile_px


def _seconds(tiles: list[tuple[int, int, int]], model: Model, runtime: Runtime, threads: int) -> float:
    predictor = Predictor(model, runtime, threads=threads)
    pace: dict[tuple[int, int], float] = {}
    for _, height, width in tiles:
        if (height, width) in pace:
            continue
        tile = np.zeros((1, model.card.channels, height, width), np.float32)
        predictor.submit(tile).result()
        begun = time.perf_counter()
        for pending in [predictor.submit(tile) for _ in range(_TRIALS * threads)]:
            pending.result()
        pace[height, width] = (time.perf_counter() - begun) / (_TRIALS * threads)
    predictor.close()
    return sum(count * pace[height, width] for count, height, width in tiles)


def estimate_review(point: OperatingPoint, images: int, pace: Pace) -> ReviewEstimate | None:
    """What people would have to do after a run over so many images; None for bands that are of no calibration."""
    if point.promise is None:
        return None
    review, recall = settings().review, point.promise.recall
    found = cost(point, expected(images), images=images, pace=pace, reading=Reading(review.readers, review.audit_share))
    row = found.at(recall)
    if row is None:
        return None
    return ReviewEstimate(recall=recall, candidates=round(row.load.review, 1), audit=round(row.audit, 1),
                          hours=round(row.hours, 4), seconds_a_decision=pace.mean_s, seconds_from=pace.basis,
                          says=f"{says(found, recall)} ({pace.says})")
