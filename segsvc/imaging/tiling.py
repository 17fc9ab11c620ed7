"""Plans tiles over an image, cuts them, and merges their scores band by band.

Along each axis the tiles are as few as `tile_px` and `overlap_px` allow and then as small as the image lets them be, so
that little is computed twice. Two neighbours hand over to each other along a linear ramp. The weights are integers
that sum to exactly 256 at every px of an axis, and scores are multiples of 1/65535; so the merge is exact, and its
result is the same in whichever order tiles arrive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from segsvc.types import Box, PixelArray, ScoreArray

WEIGHT_ONE = 256


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """Tiles along one axis: where each starts, their common size, and the weight of each at each of its px.

    Where the image is smaller than a tile there is one tile, and the image stands `pad_before` px within it.
    """

    size_px: int
    tile_px: int
    starts_px: tuple[int, ...]
    pad_before_px: int
    weights: npt.NDArray[np.uint32]  # (tiles, tile_px), each px of the image sums to WEIGHT_ONE over the tiles

    def covered(self, index: int) -> tuple[int, int]:
        """First and last + 1 px of the image that the tile covers."""
        start = self.starts_px[index]
        return start, min(start + self.tile_px, self.size_px)


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Tiles over an image, in rows from top to bottom."""

    x: AxisPlan
    y: AxisPlan

    @property
    def rows(self) -> int:
        return len(self.y.starts_px)

    @property
    def columns(self) -> int:
        return len(self.x.starts_px)

    def band(self, row: int) -> Box:
        """What must be read for this row of tiles: the full width of the image."""
        y0, y1 = self.y.covered(row)
        return Box(0, y0, self.x.size_px, y1)


def plan_axis(size_px: int, *, tile_px: int, overlap_px: int, stride_px: int, flexible: bool = True) -> AxisPlan:
    """Tiles of at most `tile_px`, a multiple of `stride_px`, neighbours sharing at least `overlap_px`.

    `flexible` false keeps every tile at `tile_px`, for models that take no other size.
    """
    if size_px < 1:
        raise ValueError(f"an image axis must be at least 1 px, got {size_px}")
    count = 1 if size_px <= tile_px else -(-(size_px - overlap_px) // (tile_px - overlap_px))
    used_px = tile_px
    if flexible:
        needed = -(-(size_px + (count - 1) * overlap_px) // count)
        used_px = min(tile_px, -(-needed // stride_px) * stride_px)
    if count == 1:
        pad_before = (used_px - size_px) // 2
        return AxisPlan(size_px, used_px, (0,), pad_before, np.full((1, used_px), WEIGHT_ONE, np.uint32))
    room = size_px - used_px
    starts = tuple(index * room // (count - 1) for index in range(count))
    return AxisPlan(size_px, used_px, starts, 0, _ramp_weights(starts, used_px))


def _ramp_weights(starts: tuple[int, ...], tile_px: int) -> npt.NDArray[np.uint32]:
    weights = np.full((len(starts), tile_px), WEIGHT_ONE, np.uint32)
    for index, (left, right) in enumerate(pairwise(starts)):
        overlap = left + tile_px - right
        centre = right + overlap // 2
        half = min(overlap, right - left) // 2  # so that no px is shared by three tiles
        ramp = (2 * np.arange(2 * half) + 1) * WEIGHT_ONE // (4 * half) if half else np.zeros(0, np.int64)
        rising = np.zeros(tile_px, np.uint32)  # the right tile's weight, in its own px
        rising[centre - half - right: centre + half - right] = ramp
        rising[centre + half - right:] = WEIGHT_ONE
        weights[index + 1] = rising
        at = right - left
        weights[index, at:] = np.minimum(weights[index, at:], WEIGHT_ONE - rising[: tile_px - at])
    return weights


def plan_tiles(width_px: int, height_px: int, *, tile_px: int, overlap_px: int, stride_px: int,
               flexible: bool = True) -> TilePlan:
    """The tiles of an image of that size; every px is covered."""
    return TilePlan(
        x=plan_axis(width_px, tile_px=tile_px, overlap_px=overlap_px, stride_px=stride_px, flexible=flexible),
        y=plan_axis(height_px, tile_px=tile_px, overlap_px=overlap_px, stride_px=stride_px, flexible=flexible),
    )


def reflected(size_px: int, start: int, stop: int) -> npt.NDArray[np.intp]:
    """Indices start..stop folded back into [0, size_px) by reflection about the border px (1 px repeats itself)."""
    if size_px == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (size_px - 1)
    index = np.arange(start, stop) % period
    return np.where(index < size_px, index, period - index).astype(np.intp)


def cut_tile(band: PixelArray, plan: TilePlan, *, row: int, column: int) -> PixelArray:
    """The tile (tile_y, tile_x, C) out of its row's band (h, width, C); beyond the image the pixels are reflected."""
    x0, x1 = plan.x.covered(column)
    tile = band[:, x0:x1]
    tile_y, tile_x = plan.y.tile_px, plan.x.tile_px
    if tile.shape[0] != tile_y:
        tile = tile[reflected(tile.shape[0], -plan.y.pad_before_px, tile_y - plan.y.pad_before_px)]
    if tile.shape[1] != tile_x:
        tile = tile[:, reflected(tile.shape[1], -plan.x.pad_before_px, tile_x - plan.x.pad_before_px)]
    return tile


class BandMerger:
    """Merges the scores of tiles into bands of whole rows, top to bottom; holds one row of tiles at a time."""

    def __init__(self, plan: TilePlan, *, classes: int) -> None:
        self._plan = plan
        self._classes = classes
        self._carried: npt.NDArray[np.uint32] | None = None  # weighted sums that the next row of tiles completes
        self._done_px = 0

    def row(self, scores: Iterator[ScoreArray], row: int) -> ScoreArray:
        """The rows of the image that are complete with this row of tiles.

        scores: of each column in order (classes, tile_y, tile_x) uint16.
        Returns (classes, rows, width) uint16; the rows follow those of the call before.
        """
        across = self._across(scores)
        axis = self._plan.y
        start, stop = axis.covered(row)
        weights = axis.weights[row, axis.pad_before_px: axis.pad_before_px + stop - start]
        last = row == self._plan.rows - 1
        complete = stop if last else axis.starts_px[row + 1] + int(np.argmax(axis.weights[row + 1] > 0))
        whole = bool((weights == WEIGHT_ONE).all())
        summed = across * np.uint32(WEIGHT_ONE) if whole else across * weights[:, None]
        if self._carried is not None and self._carried.shape[1]:
            summed = summed[:, self._done_px - start:]
            summed[:, : self._carried.shape[1]] += self._carried
        elif self._done_px > start:
            summed = summed[:, self._done_px - start:]
        ready = complete - self._done_px
        self._carried = summed[:, ready:].copy()
        self._done_px = complete
        finished = summed[:, :ready]
        finished += np.uint32(1 << 15)
        finished >>= np.uint32(16)
        return finished.astype(np.uint16)

    def _across(self, scores: Iterator[ScoreArray]) -> npt.NDArray[np.uint32]:
        x, y = self._plan.x, self._plan.y
        height = min(y.tile_px, y.size_px)
        merged = np.zeros((self._classes, height, x.size_px), np.uint32)
        for column in range(self._plan.columns):
            tile = next(scores)
            x0, x1 = x.covered(column)
            inside = tile[:, y.pad_before_px: y.pad_before_px + height, x.pad_before_px: x.pad_before_px + x1 - x0]
            weights = x.weights[column, x.pad_before_px: x.pad_before_px + x1 - x0]
            used = np.flatnonzero(weights)
            first, last = int(used[0]), int(used[-1]) + 1
            merged[:, :, x0 + first: x0 + last] += inside[:, :, first:last] * weights[first:last]
        return merged
