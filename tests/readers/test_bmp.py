"""BMP: every depth, equal to other decoders; whole or an error."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from segsvc.errors import ImageErrorKind
from tests.readers.support import error_of, kind_of, opened, photo, pixels


def bmp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "BMP")
    return buffer.getvalue()


def made(width: int, height: int, bits: int, *, compression: int = 0, palette: bytes = b"",
         header_bytes: int = 40, body: bytes | None = None) -> bytes:
    """A BMP of random pixels; `palette` holds bit fields too."""
    row_bytes = (abs(width) * bits + 31) // 32 * 4
    if body is None:
        body = np.random.default_rng(0).bytes(row_bytes * abs(height))
    start = 14 + header_bytes + len(palette)
    head = struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start)
    if header_bytes == 12:
        return head + struct.pack("<IHHHH", 12, width, height, 1, bits) + palette + body
    info = struct.pack("<IiiHHIIiiII", header_bytes, width, height, 1, bits, compression, len(body), 0, 0, 0, 0)
    return head + info + palette + body


def colours(count: int) -> bytes:
    table = np.random.default_rng(1).integers(0, 256, (count, 4)).astype(np.uint8)
    table[:, 3] = 0
    return table.tobytes()


def opencv(data: bytes) -> npt.NDArray[np.uint8]:
    decoded: npt.NDArray[np.uint8] = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    return decoded


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_what_pillow_writes_comes_back(mode: str) -> None:
    image = Image.fromarray(photo(9, 13)).convert(mode)
    expected = np.asarray(image.convert("L" if mode in ("1", "L") else "RGB"))
    decoded = pixels(bmp(image))
    assert np.array_equal(decoded, expected[..., None] if expected.ndim == 2 else expected)


@pytest.mark.parametrize("height", [7, -7])
@pytest.mark.parametrize(("bits", "palette"), [(1, 2), (4, 16), (8, 256), (16, 0), (24, 0), (32, 0)])
def test_every_depth_is_what_opencv_decodes_from_the_bottom_or_the_top(bits: int, palette: int, height: int) -> None:
    data = made(11, height, bits, palette=colours(palette))
    if bits == 16:  # OpenCV shifts five bits up without filling those below
        assert np.abs(pixels(data).astype(int) - opencv(data)).max() <= 7
    else:
        assert np.array_equal(pixels(data), opencv(data))


def test_five_six_five_and_any_other_fields_are_scaled_to_a_byte() -> None:
    data = made(2, 1, 16, compression=3, palette=struct.pack("<III", 0xF800, 0x07E0, 0x001F),
                body=struct.pack("<HH", 0xF800 | 0x0400, 0x001F))
    assert pixels(data)[0].tolist() == [[255, 130, 0], [0, 0, 255]]
    deep = made(1, 1, 32, compression=3, palette=struct.pack("<III", 0x3FF00000, 0x000FFC00, 0x000003FF),
                body=struct.pack("<I", 0x3FF00000 | 512))
    assert pixels(deep)[0].tolist() == [[255, 0, 128]]


def test_the_oldest_header_is_read() -> None:
    palette = bytes(range(6))
    data = made(10, 3, 1, header_bytes=12, palette=palette)
    assert np.array_equal(pixels(data), opencv(data))


def test_a_palette_of_greys_is_grey() -> None:
    assert opened(bmp(Image.fromarray(photo(channels=1)))).channels == 1


def test_a_bmp_cut_anywhere_is_an_error() -> None:
    data = made(5, 4, 8, palette=colours(256))
    assert {kind_of(data[:cut]) for cut in range(18, len(data))} == {ImageErrorKind.CORRUPT}


def test_bytes_after_the_end_are_ignored() -> None:
    data = made(5, 4, 24)
    assert np.array_equal(pixels(data + b"garbage"), pixels(data))


def test_run_lengths_are_unsupported_and_the_message_says_so() -> None:
    error = error_of(made(5, 4, 8, compression=1, palette=colours(256)))
    assert error.kind is ImageErrorKind.UNSUPPORTED
    assert "RLE8" in str(error)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (-5, 5)])
def test_sizes_that_a_bmp_cannot_have_are_corrupt(width: int, height: int) -> None:
    assert kind_of(made(width, height, 24, body=b"")) is ImageErrorKind.CORRUPT


@pytest.mark.parametrize("height", [2**31 - 1, -(2**31), 40_000])
def test_absurd_sizes_are_too_large_before_anything_is_decoded(height: int) -> None:
    error = error_of(made(40_000, height, 24, body=b""))
    assert error.kind is ImageErrorKind.TOO_LARGE
    assert f"40000 x {abs(height)} px" in str(error)


def test_a_field_with_holes_is_corrupt() -> None:
    fields = struct.pack("<III", 0xF0F0, 0x0F00, 0x000F)
    assert kind_of(made(2, 2, 16, compression=3, palette=fields)) is ImageErrorKind.CORRUPT
