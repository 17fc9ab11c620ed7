"""Which object is found by which candidate: the px that shapes share, and the rule of found.

An object o is found when some candidate c has |c and o| >= |o| / 2 and |c and o| >= |c| / 10: one vast region finds
nothing. Px are counted on run lengths, column by column within the common box; no mask is ever painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segsvc.imaging import rle
from segsvc.imaging.compiled import compiled
from segsvc.types import Box

BoolArray = npt.NDArray[np.bool_]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

_OF_OBJECT, _OF_CANDIDATE = 2, 10  # shared px are at least a half of the object and a tenth of the candidate
_NO_COUNTS = np.zeros(0, np.int64)
_NO_RUNS = np.zeros((0, 2), np.int32)


@dataclass(frozen=True, slots=True)
class Shape:
    """Px of an image: a mask within a box (COCO's compressed run lengths, px of the image), or the box itself."""

    box: Box
    mask_rle: bytes | None = None

    @property
    def area_px(self) -> int:
        """How many px it has. Raises ValueError for bytes that are no mask of the box."""
        return self.box.area_px if self.mask_rle is None else int(_counts(self)[1::2].sum())


def areas_px(shapes: Sequence[Shape]) -> Int64Array:
    """(n,) the px of each shape. Raises ValueError for bytes that are no mask of their box."""
    return np.fromiter((shape.area_px for shape in shapes), np.int64, len(shapes))


def shared_px(candidates: Sequence[Shape], objects: Sequence[Shape]) -> Int64Array:
    """(n, m) how many px each candidate shares with each object, int64.

    Takes the time of the outlines of those whose boxes meet. Raises ValueError for bytes that are no mask of their box.
    """
    meet = _common_px(_corners(candidates), _corners(objects)) > 0
    if not meet.any():
        return np.zeros(meet.shape, np.int64)
    return _shared(meet, _packed(candidates, np.any(meet, axis=1)), _packed(objects, np.any(meet, axis=0)))


def measured(candidates: Sequence[Shape], objects: Sequence[Shape]) -> tuple[Int64Array, Int64Array, Int64Array]:
    """`shared_px` (n, m), and the px of each candidate (n,) and object (m,); each mask is read but once."""
    meet = _common_px(_corners(candidates), _corners(objects)) > 0
    one, other = (_packed(shapes, np.ones(len(shapes), np.bool_)) for shapes in (candidates, objects))
    return _shared(meet, one, other), one.areas, other.areas


def finds(shared: Int64Array, candidate_areas: Int64Array, object_areas: Int64Array) -> BoolArray:
    """(n, m) whether each candidate finds each object.

    shared: (n, m) px that they share; candidate_areas: (n,), object_areas: (m,), px. An object without px is never found.
    """
    enough: BoolArray = ((shared > 0) & (_OF_OBJECT * shared >= object_areas[None, :])
                         & (_OF_CANDIDATE * shared >= candidate_areas[:, None]))
    return enough


def overlaps(shared: Int64Array, candidate_areas: Int64Array, object_areas: Int64Array,
             ignored: BoolArray) -> npt.NDArray[np.float64]:
    """(n, m) intersection over union; against ignored objects (m,) the candidate's share that lies in it, as in COCO."""
    union = candidate_areas[:, None] + np.where(ignored, 0, object_areas - shared)
    return shared / np.maximum(union, 1)


def _corners(shapes: Sequence[Shape]) -> Int64Array:
    """(n, 4) the boxes: x0, y0, x1, y1."""
    flat = (edge for shape in shapes for edge in (shape.box.x0, shape.box.y0, shape.box.x1, shape.box.y1))
    return np.fromiter(flat, np.int64, 4 * len(shapes)).reshape(-1, 4)


def _common_px(one: Int64Array, other: Int64Array) -> Int64Array:
    """(n, m) the px that boxes (n, 4) and (m, 4) share."""
    sides = [np.maximum(np.minimum(one[:, None, stop], other[None, :, stop])
                        - np.maximum(one[:, None, start], other[None, :, start]), 0) for start, stop in ((0, 2), (1, 3))]
    common: Int64Array = sides[0] * sides[1]
    return common


def _counts(shape: Shape) -> Int64Array:
    """The run lengths down the columns of its box, the first of background."""
    counts, fault, _ = rle.read_counts(np.frombuffer(shape.mask_rle or b"", np.uint8), shape.box.area_px)
    if fault != rle.FINE:
        raise ValueError(f"expected the run lengths of a mask within {shape.box}, got {(shape.mask_rle or b'')[:24]!r}")
    return counts


@dataclass(frozen=True, slots=True)
class _Packed:
    """Shapes as runs down the columns of the image.

    spans: (n, 3) for each shape x0, x1 and its first column; columns: where each column's runs begin, with one end more a
    shape; runs: (runs, 2) rows from and to; areas: (n,) px.
    """

    spans: Int64Array
    columns: Int64Array
    runs: Int32Array
    areas: Int64Array


def _packed(shapes: Sequence[Shape], wanted: BoolArray) -> _Packed:
    """The wanted shapes packed; the others have no columns and no px."""
    spans, areas = np.zeros((len(shapes), 3), np.int64), np.zeros(len(shapes), np.int64)
    columns: list[Int64Array] = [_NO_COUNTS]
    runs: list[Int32Array] = [_NO_RUNS]
    n_columns = n_runs = 0
    for index, shape in enumerate(shapes):
        if not wanted[index]:
            continue
        box, is_box = shape.box, shape.mask_rle is None
        starts, of_shape, areas[index] = _column_runs(_NO_COUNTS if is_box else _counts(shape), is_box, box.width_px,
                                                      box.height_px, box.y0, n_runs)
        spans[index] = box.x0, box.x1, n_columns
        columns.append(starts)
        runs.append(of_shape)
        n_columns += len(starts)
        n_runs += len(of_shape)
    return _Packed(spans, np.concatenate(columns), np.concatenate(runs), areas)


def _shared(meet: BoolArray, one: _Packed, other: _Packed) -> Int64Array:
    """(n, m) the px that packed shapes share where their boxes meet."""
    shared = np.zeros(meet.shape, np.int64)
    _share(meet, one.spans, one.columns, one.runs, other.spans, other.columns, other.runs, shared)
    return shared


@compiled
def _column_runs(counts: Int64Array, is_box: bool, width: int, height: int, y0: int,
                 first: int) -> tuple[Int64Array, Int32Array, int]:
    """Where each column's runs begin (width + 1,), counted from `first`, the runs (n, 2), rows from and to, and their px."""
    starts = np.empty(width + 1, np.int64)
    if is_box:
        whole = np.empty((width, 2), np.int32)
        for x in range(width):
            starts[x] = first + x
            whole[x, 0], whole[x, 1] = y0, y0 + height
        starts[width] = first + width
        return starts, whole, width * height
    n_runs = area = 0
    position = 0
    for i in range(1, counts.size, 2):
        position += counts[i - 1]
        if counts[i] > 0:
            n_runs += (position + counts[i] - 1) // height - position // height + 1
        position += counts[i]
        area += counts[i]
    runs = np.empty((n_runs, 2), np.int32)
    n_runs = 0
    column = 0  # the first column whose beginning is not written
    position = 0
    for i in range(1, counts.size, 2):
        position += counts[i - 1]
        stop = position + counts[i]
        while position < stop:
            x = position // height
            while column <= x:
                starts[column] = first + n_runs
                column += 1
            foot = min(stop, (x + 1) * height)
            runs[n_runs, 0] = y0 + position - x * height
            runs[n_runs, 1] = y0 + foot - x * height
            n_runs += 1
            position = foot
    while column <= width:
        starts[column] = first + n_runs
        column += 1
    return starts, runs, area


@compiled
def _share(
    meet: BoolArray, one: Int64Array, one_columns: Int64Array, one_runs: Int32Array,
    other: Int64Array, other_columns: Int64Array, other_runs: Int32Array, shared: Int64Array,
) -> None:
    """Writes the px that shapes share, packed as `_packed` says, where their boxes meet (n, m)."""
    for i in range(meet.shape[0]):
        for j in range(meet.shape[1]):
            if not meet[i, j]:
                continue
            total = 0
            for x in range(max(one[i, 0], other[j, 0]), min(one[i, 1], other[j, 1])):
                a, b = one[i, 2] + x - one[i, 0], other[j, 2] + x - other[j, 0]
                p, p_stop = one_columns[a], one_columns[a + 1]
                q, q_stop = other_columns[b], other_columns[b + 1]
                while p < p_stop and q < q_stop:
                    head = max(one_runs[p, 0], other_runs[q, 0])
                    foot = min(one_runs[p, 1], other_runs[q, 1])
                    if foot > head:
                        total += foot - head
                    if one_runs[p, 1] < other_runs[q, 1]:
                        p += 1
                    else:
                        q += 1
            shared[i, j] = total
