"""Masks as run-length encodings: COCO's compressed form, within a candidate's box.

An encoding is what pycocotools has as `counts`: run lengths down the columns, first of background, as ASCII. A mask's
size is not part of it and is given beside it: a candidate's is that of its box.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segsvc.imaging import rle as kernels
from segsvc.imaging.region_masks import write_counts
from segsvc.types import Box

BoolArray = npt.NDArray[np.bool_]
Ring = npt.NDArray[np.int32]  # (n, 2) corners x, y in px of the full image; the last joins the first

MOST_PX = 2**53  # more than any address space holds; integers up to here are exact everywhere
_TRIANGLE = 3  # the fewest corners that enclose something
_RECTANGLE = 4

_FAULTS = {
    kernels.ENDS_EARLY: "a number's last character",
    kernels.BAD_CHARACTER: "a character from '0' to 'o'",
    kernels.TOO_LONG: "a number of at most 60 bits",
    kernels.BAD_COUNT: "a run of at least 0 px that ends within the mask",
}


@dataclass(frozen=True, slots=True)
class Polygon:
    """An outer ring and the holes in it; int32 (n, 2) corners x, y in px of the full image, px edges being integers.

    Outer rings run clockwise as seen (y points down), holes the other way. A ring is not closed: its last corner joins
    its first.
    """

    outer: Ring
    holes: tuple[Ring, ...]


def encode(mask: BoolArray) -> bytes:
    """The encoding of a mask: bool (h, w). The same bytes as pycocotools gives."""
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise ValueError(f"expected a mask of bool (h, w), got {mask.dtype} {mask.shape}")
    down = mask.T.ravel()
    changes = np.flatnonzero(down[1:] != down[:-1]) + 1
    first = [0, 0] if down.size and down[0] else [0]
    return write_counts(np.diff(np.concatenate((first, changes, [down.size]))).astype(np.int64)).tobytes()


def decode(rle: bytes, *, height_px: int, width_px: int) -> BoolArray:
    """The mask bool (height_px, width_px) of an encoding.

    Raises ValueError for bytes that are no encoding of a mask of that size; nothing is allocated for the mask before.
    """
    counts = _counts(rle, height_px, width_px)
    canvas = np.zeros((height_px, width_px), np.uint8)
    kernels.paint(counts, height_px, 0, 0, 1, canvas)
    return canvas.view(np.bool_)


def area_px(rle: bytes, *, height_px: int, width_px: int) -> int:
    """How many px the mask has. Raises ValueError as `decode` does."""
    return int(_counts(rle, height_px, width_px)[1::2].sum())


def full_frame_rle(rle: bytes, box: Box, *, width_px: int, height_px: int) -> bytes:
    """The encoding of a candidate's mask in its whole image (height_px, width_px), as COCO files have it.

    Works on run lengths, in a time that grows with the outline and not with the image. Raises ValueError as `decode`
    does, and for a box that is not within the image.
    """
    if box.x0 < 0 or box.y0 < 0 or box.x1 > width_px or box.y1 > height_px:
        raise ValueError(f"expected a box within {width_px} x {height_px} px, got {box}")
    _check_size(height_px, width_px)
    counts = _counts(rle, box.height_px, box.width_px)
    return write_counts(kernels.reframe(counts, box.height_px, box.x0, box.y0, width_px, height_px)).tobytes()


def compose(
    masks: Iterable[tuple[bytes, Box, int]], *, window: Box, dtype: type[np.uint8] | type[np.uint16] = np.uint8
) -> kernels.IndexArray:
    """The index mask (window height, window width) of `dtype` of what lies in `window` (px of the full image).

    masks: encoding, box in px of the full image, and the value of its px. 0 is where no mask is; where masks overlap
    the later one holds. A large image is composed window by window. Raises ValueError as `decode` does, and for values
    that `dtype` does not hold.
    """
    shape = window.height_px, window.width_px
    canvas: kernels.IndexArray = np.zeros(shape, np.uint8) if dtype is np.uint8 else np.zeros(shape, np.uint16)
    for rle, box, value in masks:
        if not 0 <= value <= np.iinfo(dtype).max:
            raise ValueError(f"expected a value from 0 to {np.iinfo(dtype).max}, got {value}")
        if box.x0 < window.x1 and window.x0 < box.x1 and box.y0 < window.y1 and window.y0 < box.y1:
            counts = _counts(rle, box.height_px, box.width_px)
            kernels.paint(counts, box.height_px, box.x0 - window.x0, box.y0 - window.y0, value, canvas)
    return canvas


def polygons(rle: bytes, box: Box, *, max_vertices: int | None = None) -> tuple[Polygon, ...]:
    """The outlines of a candidate's mask in px of the full image, the largest first.

    They run along the edges of px, not through their centres, so that filling them gives the very mask again: px (x, y)
    covers x to x + 1 and y to y + 1. Px that touch by a corner alone are parted there, so that every ring is simple and
    the polygons are valid for GIS tools. Each 4-connected part of the mask is one polygon.

    With more than `max_vertices` corners (at least 4) the outlines are simplified by Douglas-Peucker with a tolerance
    that grows until they fit; parts and holes below the tolerance are left out then, the largest part never. Needs
    memory for the box's px. Raises ValueError as `decode` does.
    """
    if max_vertices is not None and max_vertices < _RECTANGLE:
        raise ValueError(f"max_vertices must be at least {_RECTANGLE}, got {max_vertices}")
    flags = np.pad(decode(rle, height_px=box.height_px, width_px=box.width_px), 1).view(np.uint8)
    corners, ends = kernels.trace(flags, np.zeros(flags.shape, np.int32))
    if not ends.size:
        return ()
    starts = np.concatenate(([0], ends[:-1]))
    areas = _signed_areas_px(corners, starts, ends)
    order = np.lexsort((np.arange(ends.size), -np.abs(areas)))
    limit = len(corners) if max_vertices is None else max_vertices
    if len(corners) > limit:
        order = order[:limit // _TRIANGLE]  # more rings cannot remain
    parts = _parts(flags, corners[starts[order]], corners[starts[order] + 1], n_outer=int((areas > 0).sum()))
    rings = [corners[starts[i]:ends[i]] for i in order.tolist()]
    if len(corners) > limit:
        rings = _simplified(rings, limit)
    shift = np.array([box.x0 - 1, box.y0 - 1], np.int32)
    outer: dict[int, Ring] = {}  # by part, the largest first
    holes: dict[int, list[Ring]] = {}
    for ring, part, is_outer in zip(rings, parts, (areas[order] > 0).tolist(), strict=True):
        if len(ring) >= _TRIANGLE and is_outer:
            outer[part] = ring + shift
        elif len(ring) >= _TRIANGLE:
            holes.setdefault(part, []).append(ring + shift)
    return tuple(Polygon(ring, tuple(holes.get(part, ()))) for part, ring in outer.items())


def _counts(rle: bytes, height_px: int, width_px: int) -> kernels.Int64Array:
    _check_size(height_px, width_px)
    counts, fault, at = kernels.read_counts(np.frombuffer(rle, np.uint8), height_px * width_px)
    if fault == kernels.FINE:
        return counts
    size = f"of a mask of {height_px} x {width_px} px (height x width)"
    if fault == kernels.BAD_SUM:
        raise ValueError(f"expected run lengths {size} with the sum {height_px * width_px}, got {int(counts.sum())}")
    raise ValueError(f"expected {_FAULTS[fault]} in the run lengths {size}, got {rle[at:at + 8]!r} at byte {at}")


def _check_size(height_px: int, width_px: int) -> None:
    if height_px < 0 or width_px < 0 or height_px * width_px > MOST_PX:
        raise ValueError(f"expected a size from 0 to {MOST_PX} px in all, got {height_px} x {width_px} px")


def _signed_areas_px(corners: Ring, starts: kernels.Int64Array, ends: kernels.Int64Array) -> kernels.Int64Array:
    """The area in each ring (corners starts:ends), positive where it runs clockwise as seen (the shoelace formula)."""
    following = np.arange(1, len(corners) + 1)
    following[ends - 1] = starts
    x, y = corners[:, 0].astype(np.int64), corners[:, 1].astype(np.int64)
    return np.add.reduceat(x * y[following] - x[following] * y, starts) // 2


def _parts(flags: kernels.ByteArray, first: Ring, second: Ring, *, n_outer: int) -> list[int]:
    """For each ring, given by its first two corners, a number of the 4-connected part of the mask that it bounds."""
    if n_outer == 1:
        return [0] * len(first)
    import cv2

    labels = cv2.connectedComponents(flags & kernels.FOREGROUND, connectivity=4)[1]
    (x, y), (x_next, y_next) = first.T, second.T
    rows = np.minimum(y, y_next) - (x_next < x)  # of the px on the right of the edge between them
    columns = np.minimum(x, x_next) - (y_next > y)
    part: list[int] = labels[rows, columns].tolist()
    return part


def _simplified(rings: list[Ring], max_vertices: int) -> list[Ring]:
    """The rings, the largest first, with at most `max_vertices` corners in all; those left out have fewer than 3."""
    import cv2

    tolerance_px = 0.5
    while True:
        simpler: list[Ring] = [cv2.approxPolyDP(ring[:, None], tolerance_px, True)[:, 0] for ring in rings]
        if len(simpler[0]) < _TRIANGLE:
            (x0, y0), (x1, y1) = rings[0].min(axis=0), rings[0].max(axis=0)
            simpler[0] = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.int32)
        if sum(len(ring) for ring in simpler if len(ring) >= _TRIANGLE) <= max_vertices:
            return simpler
        tolerance_px *= 1.5
