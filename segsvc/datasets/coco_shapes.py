"""What an annotation of a COCO file says of an object's px: polygons, run lengths, or a box alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from segsvc.datasets import ProblemKind
from segsvc.imaging.outlines import Mask, counts_mask, frame_mask, polygons_mask
from segsvc.types import Box

_FEWEST_NUMBERS = 6  # of a polygon: three corners
_BOX_NUMBERS = 4
_BEYOND_PX = 1.0  # so far beyond the edge is rounding; more is said
_NUMBERS = frozenset({int, float})
_Bounds = tuple[float, float, float, float]


class BadShape(Exception):  # noqa: N818 - it reads as what it says
    """An annotation that makes no object."""

    def __init__(self, kind: ProblemKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Shape:
    """An object's tight box and its mask within it; no box where it covers no px, no mask where a box is all there is."""

    box: Box | None
    mask_rle: bytes | None
    ignored: bool
    warnings: tuple[tuple[ProblemKind, str], ...] = ()


def read_shape(annotation: Mapping[str, Any], *, width_px: int, height_px: int) -> Shape:
    """The shape of an annotation in an image of that size; what lies beyond the image is cut off and said.

    Raises BadShape for what makes no mask, and for what lies outside the image by half or more.
    """
    ignored = any(annotation.get(flag) in (1, True) for flag in ("iscrowd", "ignore"))
    segmentation = annotation.get("segmentation")
    warnings: list[tuple[ProblemKind, str]] = []
    if segmentation in (None, [], {}, "") or annotation.get("has_mask") is False:
        bounds = _box_bounds(annotation.get("bbox"))
        _within(bounds, width_px, height_px, warnings)
        box = Box(max(0, math.floor(bounds[0])), max(0, math.floor(bounds[1])),
                  min(width_px, math.ceil(bounds[2])), min(height_px, math.ceil(bounds[3])))
        if box.area_px == 0:
            raise BadShape(ProblemKind.BAD_OBJECT, f"expected a bbox that holds a px, got {annotation.get('bbox')!r:.80}")
        return Shape(box, None, ignored, tuple(warnings))
    if isinstance(segmentation, dict):
        mask = _encoded(segmentation, width_px, height_px)
    else:
        rings = _rings(segmentation)
        xs, ys = ([number for ring in rings for number in ring[first::2]] for first in (0, 1))
        _within((min(xs), min(ys), max(xs), max(ys)), width_px, height_px, warnings)
        corners = [np.array(ring, np.float64).reshape(-1, 2) for ring in rings]
        try:
            mask = polygons_mask(corners, width_px=width_px, height_px=height_px)
        except ValueError as error:
            raise BadShape(ProblemKind.BAD_OBJECT, str(error)) from error
    if mask is None:
        warnings.append((ProblemKind.BAD_OBJECT, "expected an object of at least one px, got an outline that covers none: "
                         "it is left out"))
        return Shape(None, None, ignored, tuple(warnings))
    return Shape(*mask, ignored, tuple(warnings))


def _numbers(values: Any, what: str) -> list[float]:
    if not isinstance(values, list) or not set(map(type, values)) <= _NUMBERS:
        raise BadShape(ProblemKind.BAD_OBJECT, f"expected {what}, got {values!r:.80}")
    try:
        finite = all(map(math.isfinite, values))
    except OverflowError:  # an integer that no float holds
        finite = False
    if not finite:
        raise BadShape(ProblemKind.BAD_OBJECT, f"expected {what}, all of them finite; got {values!r:.80}")
    return values


def _box_bounds(bbox: Any) -> _Bounds:
    what = "a segmentation, or a bbox of x, y, width and height"
    numbers = _numbers(bbox, what)
    if len(numbers) != _BOX_NUMBERS or numbers[2] <= 0 or numbers[3] <= 0:
        raise BadShape(ProblemKind.BAD_OBJECT, f"expected {what} above 0, got {bbox!r:.80}")
    x, y, width, height = numbers
    return x, y, x + width, y + height


def _rings(segmentation: Any) -> list[list[float]]:
    """The numbers of each polygon."""
    what = "a segmentation of polygons, each a list x1, y1, x2, y2 ... of at least three corners"
    if not isinstance(segmentation, list) or not set(map(type, segmentation)) <= {list}:
        raise BadShape(ProblemKind.BAD_OBJECT, f"expected {what}, or an encoding; got {segmentation!r:.80}")
    for ring in segmentation:
        if len(_numbers(ring, what)) < _FEWEST_NUMBERS or len(ring) % 2:
            raise BadShape(ProblemKind.BAD_OBJECT, f"expected {what}; got {len(ring)} numbers: {ring!r:.60}")
    return segmentation


def _encoded(segmentation: Mapping[str, Any], width_px: int, height_px: int) -> Mask | None:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height_px, width_px]:
        raise BadShape(ProblemKind.OTHER_SIZE, f"expected an encoding of the image's size [{height_px}, {width_px}] "
                       f"(height, width), got {size!r:.60}")
    try:
        if isinstance(counts, str):
            return frame_mask(counts.encode("utf-8", "surrogatepass"), width_px=width_px, height_px=height_px)
        if isinstance(counts, list) and all(type(count) is int for count in counts):
            return counts_mask(counts, width_px=width_px, height_px=height_px)
    except ValueError as error:
        raise BadShape(ProblemKind.BAD_OBJECT, str(error)) from error
    raise BadShape(ProblemKind.BAD_OBJECT, f"expected counts as a string or a list of whole numbers, got {counts!r:.60}")


def _within(bounds: _Bounds, width_px: int, height_px: int, warnings: list[tuple[ProblemKind, str]]) -> None:
    """Says what reaches beyond the image.

    Raises BadShape where more than half of the bounds does, so that what passes is not much larger than the image.
    """
    x0, y0, x1, y1 = bounds
    if x0 >= 0 and y0 >= 0 and x1 <= width_px and y1 <= height_px and x0 < width_px and y0 < height_px:
        return
    inside = min(x1, width_px) - max(x0, 0.0), min(y1, height_px) - max(y0, 0.0)
    expected = (f"expected an object within the image of {width_px} x {height_px} px, got one over x {x0:g} to {x1:g}, y "
                f"{y0:g} to {y1:g}")
    if inside[0] < (x1 - x0) / 2 or inside[1] < (y1 - y0) / 2 or x0 >= width_px or y0 >= height_px:
        raise BadShape(ProblemKind.OUT_OF_IMAGE, f"{expected}: is this the right image, in the size it was labelled in?")
    if min(x0, y0, width_px - x1, height_px - y1) < -_BEYOND_PX:
        warnings.append((ProblemKind.OUT_OF_IMAGE, f"{expected}: it is cut off at the edge"))
