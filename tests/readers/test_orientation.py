"""EXIF orientation: all eight values, in every format that has it, whole and by boxes."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from segsvc.readers.orientation import exif_orientation
from segsvc.types import Box
from tests.readers.support import exif, opened, photo, pixels, png, png_chunk

BOX = Box(3, 5, 12, 21)


def oriented_by_pillow(upright: np.ndarray, orientation: int) -> np.ndarray:
    image = Image.fromarray(upright)
    image.getexif()[274] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def stored_as(format_name: str, orientation: int) -> bytes:
    """A picture of 40 x 24 px with that orientation."""
    if format_name == "png":
        plain = png(40, 24, depth=16, colour=2)
        return plain[:33] + png_chunk(b"eXIf", exif(orientation, ">")) + plain[33:]
    buffer = io.BytesIO()
    if format_name == "tiff":
        tifffile.imwrite(buffer, photo(24, 40), photometric="rgb", tile=(16, 16), compression="zlib",
                         extratags=[(274, 3, 1, orientation, True)])
        return buffer.getvalue()
    with_exif = Image.Exif()
    with_exif[274] = orientation
    options = {"quality": 90} if format_name == "jpeg" else {"lossless": True}
    Image.fromarray(photo(24, 40)).save(buffer, format_name.upper(), exif=with_exif, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["jpeg", "png", "webp", "tiff"])
def test_width_height_and_pixels_are_as_the_picture_is_shown(format_name: str, orientation: int) -> None:
    upright = pixels(stored_as(format_name, 1))
    expected = upright.astype(np.uint8) if format_name != "png" else (upright >> 8).astype(np.uint8)
    expected = oriented_by_pillow(expected, orientation)
    source = opened(stored_as(format_name, orientation))
    shown = pixels(stored_as(format_name, orientation))
    assert (source.width_px, source.height_px) == ((24, 40) if orientation >= 5 else (40, 24))
    assert (source.levels[0].width_px, source.levels[0].height_px) == (source.width_px, source.height_px)
    assert np.array_equal(shown if format_name != "png" else shown >> 8, expected)
    assert np.array_equal(source.read(BOX), shown[BOX.y0:BOX.y1, BOX.x0:BOX.x1])


@pytest.mark.parametrize("block", [b"", b"Exif\0\0", b"II*\0", exif(3)[:12], exif(3)[:17], exif(9), exif(0),
                                   b"II*\0" + struct.pack("<I", 0xFFFFFFFF) + bytes(40), b"garbage" * 9])
def test_damaged_exif_leaves_the_picture_upright(block: bytes) -> None:
    assert exif_orientation(block) == 1


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_read_in_both_byte_orders_with_and_without_its_prefix(prefix: bytes, order: str) -> None:
    assert exif_orientation(prefix + exif(6, order)) == 6
