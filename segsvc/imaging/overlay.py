"""What a person is shown: an 8-bit RGB picture of any image, with what was found outlined on it.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which people with any common colour vision tell
apart; the line says the same without colour: solid is accepted, dashed is to be reviewed, dotted is rejected. Every
line has a dark edge, so that it is seen on any ground.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
import numpy.typing as npt

from segsvc.imaging.intensity import percentiles
from segsvc.types import Band, Box, PixelArray

RgbArray = npt.NDArray[np.uint8]  # (h, w, 3)
Colour = tuple[int, int, int]  # red, green, blue, 0 to 255

PALETTE: tuple[Colour, ...] = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167),
                               (213, 94, 0), (0, 114, 178))
BAND_COLOURS: dict[Band, Colour] = {Band.ACCEPTED: (0, 158, 115), Band.REVIEW: (230, 159, 0),
                                    Band.REJECTED: (213, 94, 0)}
LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.8
FILL = 0.18  # how much of a mark's colour lies on the px inside it
_EDGE: Colour = (16, 16, 16)
_SHIFT = 4  # cv2 takes coordinates as multiples of 1/16 px
_LARGEST_PX = 2**24


class Line(Enum):
    """How an outline of 2 px is drawn: (px drawn, px left out) along it; (1, 0) is without a gap.

    A piece looks 2 px longer, as its ends are round.
    """

    SOLID = (1, 0)
    DASHED = (7, 7)
    DOTTED = (1, 6)


BAND_LINES: dict[Band, Line] = {Band.ACCEPTED: Line.SOLID, Band.REVIEW: Line.DASHED, Band.REJECTED: Line.DOTTED}


@dataclass(frozen=True, slots=True)
class Mark:
    """Something to be outlined: rings in px of the full image, each (n, 2) of x and y; a ring in a ring is a hole.

    Rings need not be closed. Without rings the box is outlined.
    """

    box: Box
    colour: Colour
    line: Line
    rings: tuple[npt.NDArray[np.int32], ...] = ()

    def corners(self) -> tuple[npt.NDArray[np.int32], ...]:
        """Its rings, or the box as a ring."""
        x0, y0, x1, y1 = self.box.x0, self.box.y0, self.box.x1, self.box.y1
        return self.rings or (np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.int32),)


def class_colour(number: int) -> Colour:
    """The colour of the class at this place in the list of classes; colours come again after the seventh."""
    return PALETTE[number % len(PALETTE)]


def display_range(sample: PixelArray) -> tuple[float, float]:
    """Which values become black and white: the 1st and 99.8th percentile of `sample`, of any shape and dtype.

    Where they are equal, the smallest and the largest value; where those are too, a range of 1 that begins there.
    """
    low, high = percentiles(sample, (LOW_PERCENTILE, HIGH_PERCENTILE))
    if high <= low:
        low, high = float(sample.min()), float(sample.max())
    return (low, high) if high > low else (low, low + 1.0)


def to_display(pixels: PixelArray, *, value_range: tuple[float, float] | None = None) -> RgbArray:
    """(h, w, 1 or 3) uint8, uint16 or float32 -> (h, w, 3) uint8 RGB.

    8-bit values stay as they are unless a range is given that is not (0, 255). Deeper ones are scaled by a straight
    line from `value_range`, which is `display_range` of these very px where it is None, to 0 and 255, and clipped.
    Raises ValueError for another shape.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ValueError(f"pixels must be (h, w, 1) or (h, w, 3), got {pixels.shape}")
    if pixels.dtype == np.uint8 and value_range in (None, (0.0, 255.0)):
        shown = pixels.astype(np.uint8, copy=False)
    else:
        low, high = display_range(pixels) if value_range is None else value_range
        scaled = (pixels.astype(np.float32) - np.float32(low)) * np.float32(255.0 / (high - low))
        shown = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else np.ascontiguousarray(shown)


def resized(picture: RgbArray, *, longest_side_px: int) -> RgbArray:
    """(h, w, 3) uint8 -> the same, smaller by averaging where a side is longer than that, else twice to eight times as
    large (by whole factors) while it stays within it, so that small images can be seen."""
    height, width = picture.shape[:2]
    longest = max(height, width)
    if longest > longest_side_px:
        size = (max(1, round(width * longest_side_px / longest)), max(1, round(height * longest_side_px / longest)))
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    factor = min(8, longest_side_px // longest)
    return np.ascontiguousarray(picture.repeat(factor, axis=0).repeat(factor, axis=1))


def draw(picture: RgbArray, marks: Sequence[Mark], *, window: Box, line_px: int = 2) -> RgbArray:
    """A copy of `picture` ((h, w, 3) uint8 RGB, which shows `window`, px of the full image) with the marks drawn on it.

    Marks are filled lightly, then outlined in their order, so that the last lies on top. What lies outside is cut off.
    Raises ValueError for another shape or dtype of the picture.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"the picture must be (h, w, 3) uint8, got {picture.shape} {picture.dtype}")
    scale = np.array([picture.shape[1] / window.width_px, picture.shape[0] / window.height_px])
    offset = np.array([window.x0, window.y0], float)
    shown = picture.copy()
    placed = [(mark, [(ring - offset) * scale for ring in mark.corners()]) for mark in marks]
    for mark, rings in placed:
        _fill(shown, rings, mark.colour)
    for mark, rings in placed:
        for ring in rings:
            _outline(shown, ring, mark, line_px=line_px)
    return shown


def _fill(picture: RgbArray, rings: Sequence[npt.NDArray[np.float64]], colour: Colour) -> None:
    height, width = picture.shape[:2]
    points = np.concatenate(rings)
    x0, y0 = np.clip(np.floor(points.min(axis=0)), 0, (width, height)).astype(int)
    x1, y1 = np.clip(np.ceil(points.max(axis=0)), 0, (width, height)).astype(int)
    if x1 <= x0 or y1 <= y0:
        return
    inside = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(inside, [_fixed(ring - (x0, y0)) for ring in rings], 1, shift=_SHIFT)
    part = picture[y0:y1, x0:x1]
    mixed = np.rint(part * (1 - FILL) + np.array(colour) * FILL).astype(np.uint8)
    np.copyto(part, mixed, where=inside[:, :, None] == 1)


def _outline(picture: RgbArray, ring: npt.NDArray[np.float64], mark: Mark, *, line_px: int) -> None:
    drawn, gap = mark.line.value
    unit = line_px / 2
    pieces = [np.vstack([ring, ring[:1]])] if gap == 0 else _dashes(ring, drawn=drawn * unit, gap=gap * unit)
    lines = [_fixed(piece) for piece in pieces]
    cv2.polylines(picture, lines, False, _EDGE, line_px + 2, cv2.LINE_AA, _SHIFT)
    cv2.polylines(picture, lines, False, mark.colour, line_px, cv2.LINE_AA, _SHIFT)


def _dashes(ring: npt.NDArray[np.float64], *, drawn: float, gap: float) -> list[npt.NDArray[np.float64]]:
    """The closed ring cut into pieces of `drawn` px with `gap` px between them, stretched so that they close evenly."""
    closed = np.vstack([ring, ring[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    count = max(1, round(along[-1] / (drawn + gap)))
    period = along[-1] / count
    pieces = []
    for number in range(count):
        start, stop = number * period, number * period + period * drawn / (drawn + gap)
        between = along[(along > start) & (along < stop)]
        places = np.concatenate([[start], between, [stop]])
        pieces.append(np.column_stack([np.interp(places, along, closed[:, axis]) for axis in (0, 1)]))
    return pieces


def _fixed(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """cv2's fixed-point coordinates; cv2 counts from the centre of a px, boxes from its corner."""
    within = np.clip(points - 0.5, -_LARGEST_PX, _LARGEST_PX)
    fixed: npt.NDArray[np.int32] = np.rint(within * 2**_SHIFT).astype(np.int32)
    return fixed
