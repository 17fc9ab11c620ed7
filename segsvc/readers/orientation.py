"""EXIF orientation: found in a block of EXIF, and obeyed box by box.

The eight values are those of tag 274 of TIFF 6.0 and EXIF 2.3: from 5 on rows and columns change places, after that
some flip left and right (2, 3, 6, 7) and some flip top and bottom (3, 4, 7, 8).
"""

from __future__ import annotations

import struct

from segsvc.types import Box, PixelArray

UPRIGHT = 1
TAG_ORIENTATION = 274
_TYPE_SHORT, _TYPE_LONG = 3, 4
_TRANSPOSED = frozenset({5, 6, 7, 8})
_FLIPPED_X = frozenset({2, 3, 6, 7})
_FLIPPED_Y = frozenset({3, 4, 7, 8})


def valid_orientation(value: int) -> int:
    """`value` if it is one of the eight, else upright: a wrong tag must not cost an image."""
    return value if 1 <= value <= 8 else UPRIGHT


def exif_orientation(exif: bytes) -> int:
    """The orientation (1 to 8) in a block of EXIF, with or without its `Exif\\0\\0` prefix.

    Upright where there is none or the block is damaged.
    """
    block = exif.removeprefix(b"Exif\x00\x00")
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(block[:4])
    if order is None or len(block) < 10:
        return UPRIGHT
    (start,) = struct.unpack_from(order + "I", block, 4)
    if start + 2 > len(block):
        return UPRIGHT
    (entries,) = struct.unpack_from(order + "H", block, start)
    for at in range(start + 2, min(start + 2 + 12 * entries, len(block) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", block, at)
        if tag == TAG_ORIENTATION and kind in (_TYPE_SHORT, _TYPE_LONG):
            (value,) = struct.unpack_from(order + ("H" if kind == _TYPE_SHORT else "I"), block, at + 8)
            return valid_orientation(value)
    return UPRIGHT


def oriented_size(width_px: int, height_px: int, orientation: int) -> tuple[int, int]:
    """Width and height of a stored picture as it is to be shown."""
    return (height_px, width_px) if orientation in _TRANSPOSED else (width_px, height_px)


def stored_box(box: Box, orientation: int, *, width_px: int, height_px: int) -> Box:
    """The box of the stored picture that shows as `box`; `width_px` and `height_px` are those shown."""
    x0, y0, x1, y1 = box.x0, box.y0, box.x1, box.y1
    if orientation in _FLIPPED_X:
        x0, x1 = width_px - x1, width_px - x0
    if orientation in _FLIPPED_Y:
        y0, y1 = height_px - y1, height_px - y0
    return Box(y0, x0, y1, x1) if orientation in _TRANSPOSED else Box(x0, y0, x1, y1)


def oriented(pixels: PixelArray, orientation: int) -> PixelArray:
    """Stored pixels (h, w, C) as they are to be shown: a view."""
    if orientation in _TRANSPOSED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in _FLIPPED_X:
        pixels = pixels[:, ::-1]
    if orientation in _FLIPPED_Y:
        pixels = pixels[::-1]
    return pixels


def check_box(box: Box, *, width_px: int, height_px: int) -> None:
    """Raises ValueError for a box that is not within an image of this size."""
    if box.x0 < 0 or box.y0 < 0 or box.x1 > width_px or box.y1 > height_px:
        raise ValueError(f"box must lie within 0, 0, {width_px}, {height_px}, got {box.x0, box.y0, box.x1, box.y1}")
