"""PNG: every colour type, equal to other decoders; whole or an error."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from segsvc.errors import ImageErrorKind
from segsvc.readers import ReadLimits
from tests.readers.support import error_of, kind_of, opened, photo, pixels, png, png_chunk

KINDS = [(colour, depth) for colour, depths in ((0, (1, 2, 4, 8, 16)), (2, (8, 16)), (3, (1, 2, 4, 8)), (4, (8, 16)),
                                                (6, (8, 16))) for depth in depths]
PALETTE = png_chunk(b"PLTE", np.random.default_rng(1).bytes(768))


def libpng(data: bytes) -> npt.NDArray[np.generic]:
    """Pixels by libpng, alpha dropped."""
    decoded: npt.NDArray[np.generic] = imagecodecs.png_decode(data)
    if decoded.ndim == 2:
        return decoded[..., None]
    return decoded[..., :1] if decoded.shape[2] <= 2 else decoded[..., :3]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (13, 9), (32, 17)])
@pytest.mark.parametrize(("colour", "depth"), KINDS)
def test_every_kind_decodes_as_libpng_does(colour: int, depth: int, size: tuple[int, int], interlaced: bool) -> None:
    extra = png_chunk(b"PLTE", np.random.default_rng(1).bytes(3 << depth)) if colour == 3 else b""
    data = png(*size, depth=depth, colour=colour, interlaced=interlaced, extra=extra)
    source = opened(data)
    decoded = pixels(data)
    assert decoded.dtype == source.dtype == (np.uint16 if depth == 16 else np.uint8)
    assert decoded.shape == (source.height_px, source.width_px, source.channels)
    assert np.array_equal(decoded, libpng(data))


def test_sixteen_bits_of_colour_are_those_of_opencv() -> None:
    data = png(21, 14, depth=16, colour=2)
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(pixels(data), other[..., ::-1])


@pytest.mark.parametrize(("colour", "transparency"), [(0, b"\0\1"), (2, b"\0\1\0\1\0\1"), (3, bytes(range(200)))])
def test_transparency_is_dropped_and_colour_comes_as_it_is_stored(colour: int, transparency: bytes) -> None:
    palette = PALETTE if colour == 3 else b""
    with_it = png(12, 10, depth=8, colour=colour, extra=palette + png_chunk(b"tRNS", transparency))
    assert np.array_equal(pixels(with_it), pixels(png(12, 10, depth=8, colour=colour, extra=palette)))


def test_a_palette_of_greys_is_grey() -> None:
    ramp = np.repeat(np.arange(255, -1, -1, dtype=np.uint8), 3).tobytes()
    data = png(20, 10, depth=8, colour=3, extra=png_chunk(b"PLTE", ramp))
    assert opened(data).channels == 1
    assert np.array_equal(pixels(data), libpng(data)[..., :1])


def test_indices_beyond_a_short_palette_are_black() -> None:
    rows = b"\0" + bytes([0, 1, 2, 200])
    data = png(4, 1, depth=8, colour=3, extra=png_chunk(b"PLTE", bytes([9, 8, 7, 6, 5, 4])), rows=rows)
    assert pixels(data)[0].tolist() == [[9, 8, 7], [6, 5, 4], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_what_pillow_writes_comes_back(mode: str) -> None:
    image = (Image.fromarray(photo(channels=1).astype(np.uint16) * 200) if mode == "I;16"
             else Image.fromarray(photo()).convert(mode))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    stored = np.asarray(image.convert("RGB") if mode == "P" else image)
    expected = stored.astype(np.uint8) * 255 if mode == "1" else stored
    expected = expected[..., None] if expected.ndim == 2 else expected[..., :1 if mode == "LA" else 3]
    assert np.array_equal(pixels(buffer.getvalue()), expected)


def test_rows_in_many_chunks_are_one_picture() -> None:
    data = png(30, 20, depth=8, colour=2)
    at = data.index(b"IDAT")
    size = int.from_bytes(data[at - 4:at], "big")
    rows = data[at + 4:at + 4 + size]
    split = b"".join(png_chunk(b"IDAT", rows[i:i + 7]) for i in range(0, size, 7))
    assert np.array_equal(pixels(data[:at - 4] + split + data[at + 8 + size:]), pixels(data))


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_cut_anywhere_is_an_error(interlaced: bool) -> None:
    data = png(20, 15, depth=8, colour=2, interlaced=interlaced)
    assert {kind_of(data[:cut]) for cut in range(8, len(data))} == {ImageErrorKind.CORRUPT}


def test_a_byte_changed_anywhere_in_the_chunks_that_count_is_an_error() -> None:
    data = png(9, 7, depth=8, colour=2)
    for at in range(8, len(data)):
        changed = data[:at] + bytes([data[at] ^ 0x21]) + data[at + 1:]
        assert kind_of(changed) in (ImageErrorKind.CORRUPT, ImageErrorKind.UNSUPPORTED, ImageErrorKind.TOO_LARGE)


def test_bytes_after_the_end_are_ignored() -> None:
    data = png(9, 7, depth=8, colour=2)
    assert np.array_equal(pixels(data + b"garbage" * 9), pixels(data))


@pytest.mark.parametrize("rows", [b"\0" + bytes(11), b"\0" + bytes(12) + b"\0", b"\7" + bytes(12)])
def test_rows_that_are_not_those_of_the_header_are_corrupt(rows: bytes) -> None:
    assert kind_of(png(4, 1, depth=8, colour=2, rows=rows)) is ImageErrorKind.CORRUPT


def test_an_animation_and_an_unknown_chunk_that_counts_are_unsupported() -> None:
    animated = png(4, 4, depth=8, colour=0, extra=png_chunk(b"acTL", struct.pack(">II", 3, 0)))
    assert "animation" in str(error_of(animated))
    assert kind_of(animated) is ImageErrorKind.UNSUPPORTED
    assert kind_of(png(4, 4, depth=8, colour=0, extra=png_chunk(b"CgBI", bytes(4)))) is ImageErrorKind.UNSUPPORTED


def test_a_palette_that_is_missing_is_corrupt() -> None:
    assert kind_of(png(4, 4, depth=8, colour=3)) is ImageErrorKind.CORRUPT


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (1 << 31, 5)])
def test_sizes_that_a_png_cannot_have_are_corrupt(width: int, height: int) -> None:
    assert kind_of(png(width, height, depth=8, colour=0, rows=b"")) is ImageErrorKind.CORRUPT


def test_thirty_thousand_px_square_is_too_large_before_anything_is_decoded() -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0))
    error = error_of(b"\x89PNG\r\n\x1a\n" + header)  # there is no body
    assert error.kind is ImageErrorKind.TOO_LARGE
    for part in ("30000 x 30000 px", "858 MiB", "512 MiB", "tiled TIFF", "raise the limit"):
        assert part in str(error)


def test_what_a_png_inflates_to_is_bounded_by_its_header() -> None:
    bomb = zlib.compress(bytes(64 << 20), 9)
    data = png(8, 8, depth=8, colour=0, rows=b"")
    data = data.replace(png_chunk(b"IDAT", zlib.compress(b"")), png_chunk(b"IDAT", bomb))
    assert kind_of(data, ReadLimits(decode_bytes=1 << 20)) is ImageErrorKind.CORRUPT
