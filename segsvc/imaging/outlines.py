"""Polygons and masks of a whole image, as labels have them -> masks within their tight box.

What px a polygon covers is settled by custom and not by geometry: here they are those that COCO's own tools give, so that
figures measured on the same labels agree. Work is done on the outline's runs, never on an image of px.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segsvc.imaging import masks
from segsvc.imaging.compiled import compiled, longer
from segsvc.imaging.region_masks import write_counts
from segsvc.imaging.rle import read_counts
from segsvc.types import Box

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Mask = tuple[Box, bytes]  # a tight box and the encoding within it

MOST_OUTLINE_PX = 20_000_000
_GRID = 5.0  # steps of the outline's walk in a px ...
_BEFORE_MIDDLE = 2  # ... the last of which before the middle of a column


@compiled
def _crossings(corners: Float64Array, width: int, height: int) -> Int64Array:
    """Where a polygon's outline crosses the middles of columns, as column * (height + 1) + first row below; unordered.

    The outline is walked on a grid of a fifth of a px, each edge along its longer side. Numbers are cut, not rounded down,
    on their way to the grid: that differs left of and above the image, where it decides nothing but its edge.
    """
    found = np.empty(64, np.int64)
    n_found = 0
    n_corners = corners.shape[0]
    u_last = v_last = 0
    is_first = True
    for corner in range(n_corners):
        after = corner + 1 if corner + 1 < n_corners else 0
        x0, y0 = int(_GRID * corners[corner, 0] + 0.5), int(_GRID * corners[corner, 1] + 0.5)
        x1, y1 = int(_GRID * corners[after, 0] + 0.5), int(_GRID * corners[after, 1] + 0.5)
        wide, tall = abs(x1 - x0), abs(y1 - y0)
        is_flat = wide >= tall
        is_back = x0 > x1 if is_flat else y0 > y1
        if is_back:  # an edge is walked from its left or upper end, so that it is the same for both its sides
            x0, y0, x1, y1 = x1, y1, x0, y0
        steps = wide if is_flat else tall
        slope = 0.0 if steps == 0 else (y1 - y0) / steps if is_flat else (x1 - x0) / steps
        for i in range(steps + 1):
            step = steps - i if is_back else i
            if is_flat:
                u, v = x0 + step, int(y0 + slope * step + 0.5)
            else:
                u, v = int(x0 + slope * step + 0.5), y0 + step
            if not is_first and u != u_last:
                left = min(u, u_last)
                column = left // 5
                if left % 5 == _BEFORE_MIDDLE and 0 <= column < width:
                    row = np.ceil((min(v, v_last) + 0.5) / _GRID - 0.5)
                    if n_found == found.size:
                        found = longer(found)
                    found[n_found] = column * (height + 1) + int(min(max(row, 0.0), float(height)))
                    n_found += 1
            u_last, v_last, is_first = u, v, False
    return found[:n_found]


@compiled
def _steps(corners: Float64Array) -> float:
    """How many steps the walk along a polygon's outline takes."""
    steps = 0.0
    for corner in range(corners.shape[0]):
        after = corner + 1 if corner + 1 < corners.shape[0] else 0
        steps += _GRID * max(abs(corners[after, 0] - corners[corner, 0]), abs(corners[after, 1] - corners[corner, 1]))
    return steps


@compiled
def _columns(counts: Int64Array, height: int) -> Int64Array:
    """Run lengths down the columns of a mask of that height as (n, 2) begins and ends, each within one column."""
    n_runs = 0
    position = 0
    for i in range(1, counts.size, 2):
        position += counts[i - 1]
        if counts[i] > 0:
            n_runs += (position + counts[i] - 1) // height - position // height + 1
        position += counts[i]
    runs = np.empty((n_runs, 2), np.int64)
    n_runs = 0
    position = 0
    for i in range(1, counts.size, 2):
        position += counts[i - 1]
        stop = position + counts[i]
        while position < stop:
            column = position // height
            foot = min(stop, (column + 1) * height)
            runs[n_runs, 0], runs[n_runs, 1] = position + column, foot + column
            n_runs += 1
            position = foot
    return runs


@compiled
def _boxed(runs: Int64Array, height: int) -> tuple[Int64Array, Int64Array]:
    """The box (x0, y0, x1, y1) and the run lengths in it of begins and ends (n, 2), ordered by begins; they may overlap."""
    stride = height + 1
    box = np.zeros(4, np.int64)
    box[1] = height
    n_merged = 0
    merged = np.empty((runs.shape[0], 2), np.int64)
    for i in range(runs.shape[0]):
        begin, end = runs[i, 0], runs[i, 1]
        if end <= begin:
            continue
        box[1] = min(box[1], begin % stride)
        box[3] = max(box[3], end - begin // stride * stride)
        if n_merged > 0 and begin <= merged[n_merged - 1, 1]:
            merged[n_merged - 1, 1] = max(merged[n_merged - 1, 1], end)
        else:
            merged[n_merged, 0], merged[n_merged, 1] = begin, end
            n_merged += 1
    if n_merged == 0:
        return box, np.empty(0, np.int64)
    box[0], box[2] = merged[0, 0] // stride, merged[n_merged - 1, 0] // stride + 1
    tall = box[3] - box[1]
    counts = np.empty(2 * n_merged + 1, np.int64)
    n_counts = 0
    last = 0
    for i in range(n_merged):
        column = merged[i, 0] // stride
        begin = (column - box[0]) * tall + merged[i, 0] - column * stride - box[1]
        end = begin + merged[i, 1] - merged[i, 0]
        if n_counts > 0 and begin == last:  # on from the foot of one column to the head of the next
            counts[n_counts - 1] += end - begin
        else:
            counts[n_counts], counts[n_counts + 1] = begin - last, end - begin
            n_counts += 2
        last = end
    left = (box[2] - box[0]) * tall - last
    if left > 0:
        counts[n_counts] = left
        n_counts += 1
    return box, counts[:n_counts]


def polygons_mask(rings: Sequence[Float64Array], *, width_px: int, height_px: int) -> Mask | None:
    """What polygons cover together of an image (height_px, width_px): the same px as pycocotools' frPyObjects and merge.

    rings: one or more, float64 (n, 2) corners x, y each, px edges being integers; the last joins the first. What lies
    beyond the image is cut off; None where no px is covered. The work grows with the outline: raises ValueError for one of
    more than 20,000,000 px, or with coordinates that are not finite.
    """
    runs = []
    for ring in rings:
        if not _steps(ring) <= _GRID * MOST_OUTLINE_PX:
            raise ValueError(f"expected an outline of at most {MOST_OUTLINE_PX} px, got one of {_steps(ring) / _GRID:.0f}")
        runs.append(np.sort(_crossings(ring, width_px, height_px)).reshape(-1, 2))
    together = runs[0] if len(runs) == 1 else np.concatenate(runs)
    if len(runs) > 1:
        together = together[np.argsort(together[:, 0], kind="stable")]
    return _mask(together, height_px)


def counts_mask(counts: Sequence[int], *, width_px: int, height_px: int) -> Mask | None:
    """The mask of run lengths down the columns of a whole image, first of background; None where it has no px.

    Raises ValueError where they are no mask of (height_px, width_px).
    """
    area_px = width_px * height_px
    if sum(counts) != area_px or min(counts, default=0) < 0:
        raise ValueError(f"expected run lengths from 0 on with the sum {area_px}, of a mask of {height_px} x {width_px} px "
                         f"(height x width); got the sum {sum(counts)}, the least being {min(counts, default=0)}")
    return _mask(_columns(np.array(counts, np.int64), height_px), height_px)


def frame_mask(rle: bytes, *, width_px: int, height_px: int) -> Mask | None:
    """The mask of COCO's compressed encoding of a whole image (height_px, width_px); None where it has no px.

    Raises ValueError where it is none of that size.
    """
    masks.area_px(rle, height_px=height_px, width_px=width_px)
    counts = read_counts(np.frombuffer(rle, np.uint8), height_px * width_px)[0]
    return _mask(_columns(counts, height_px), height_px)


def _mask(runs: Int64Array, height_px: int) -> Mask | None:
    box, counts = _boxed(runs, height_px)
    if not counts.size:
        return None
    x0, y0, x1, y1 = box.tolist()
    return Box(x0, y0, x1, y1), write_counts(counts).tobytes()
