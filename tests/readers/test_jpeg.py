"""JPEG: equal to Pillow's pixels, whole or an error."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from PIL import Image

from segsvc.errors import ImageErrorKind
from segsvc.readers import ReadLimits
from tests.readers.support import error_of, kind_of, opened, photo, pixels

FRAME = b"\xff\xc0"
VARIANTS = {"baseline": {}, "progressive": {"progressive": True}, "restarts": {"restart_marker_blocks": 3},
            "444": {"subsampling": 0}, "422": {"subsampling": 1}, "optimised": {"optimize": True}}


def jpeg(picture: Image.Image | npt.NDArray[np.uint8], **options: object) -> bytes:
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def pillow(data: bytes) -> npt.NDArray[np.uint8]:
    picture = Image.open(io.BytesIO(data))
    return np.asarray(picture.convert("RGB") if picture.mode == "CMYK" else picture)


@pytest.mark.parametrize("variant", VARIANTS)
def test_colour_is_rgb_as_pillow_decodes_it(variant: str) -> None:
    data = jpeg(photo(), **VARIANTS[variant])
    assert np.array_equal(pixels(data), pillow(data))


def test_grey_stays_one_channel() -> None:
    data = jpeg(photo(channels=1))
    assert opened(data).channels == 1
    assert np.array_equal(pixels(data)[..., 0], pillow(data))


def test_cmyk_with_an_adobe_segment_becomes_the_rgb_that_pillow_makes_of_it() -> None:
    data = jpeg(Image.fromarray(photo()).convert("CMYK"))
    assert b"Adobe" in data
    assert np.array_equal(pixels(data), pillow(data))
    assert np.abs(pixels(data).astype(int) - photo()).mean() < 4


def test_cmyk_without_an_adobe_segment_is_not_inverted() -> None:
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 0] = 255  # all cyan
    data = imagecodecs.jpeg8_encode(ink, colorspace="CMYK", outcolorspace="CMYK", level=95)
    at = data.index(b"\xff\xee")
    plain = data[:at] + data[at + 2 + int.from_bytes(data[at + 2:at + 4], "big"):]
    assert np.abs(pixels(plain)[8, 8].astype(int) - [0, 255, 255]).max() <= 2


def test_ycck_becomes_rgb() -> None:
    cmyk = 255 - np.asarray(Image.fromarray(photo()).convert("CMYK"))
    data = imagecodecs.jpeg8_encode(np.ascontiguousarray(cmyk), colorspace="CMYK", outcolorspace="YCCK", level=95)
    assert data[data.index(b"Adobe") + 11] == 2
    assert np.array_equal(pixels(data), pillow(data))
    assert np.abs(pixels(data).astype(int) - photo()).mean() < 6


def test_chroma_sampling_that_libjpeg_turbo_has_no_name_for_is_decoded_too() -> None:
    data = bytearray(jpeg(np.full((8, 16, 3), 128, np.uint8), subsampling=0))
    at = data.index(FRAME)
    data[at + 11], data[at + 14] = 0x21, 0x21  # a unit is two blocks of Y, two of Cb, one of Cr
    scan = data.index(b"\xff\xda") + 14
    rare = bytes(data[:scan]) + b"\x28\xa0\x00" + b"\xff\xd9"  # blocks without a difference: 001010 for Y, 0000 for C
    with pytest.raises(ValueError, match="subsampling"):
        simplejpeg.decode_jpeg(rare)
    assert np.array_equal(pixels(rare), pillow(rare))
    assert (pixels(rare) == 128).all()
    assert kind_of(rare[:-3]) is ImageErrorKind.CORRUPT


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_jpeg_cut_anywhere_is_an_error_and_never_half_grey(variant: str) -> None:
    data = jpeg(photo(24, 32), **VARIANTS[variant])
    assert {kind_of(data[:cut]) for cut in range(4, len(data), 3)} == {ImageErrorKind.CORRUPT}
    assert kind_of(data[:-1]) is ImageErrorKind.CORRUPT


def test_bytes_after_the_end_are_ignored() -> None:
    data = jpeg(photo())
    assert np.array_equal(pixels(data + b"trailing \xff\xda garbage" * 50), pixels(data))


def test_twelve_bits_and_lossless_are_unsupported_and_the_message_says_so() -> None:
    twelve = imagecodecs.jpeg8_encode(photo(channels=1).astype(np.uint16) * 16, bitspersample=12)
    assert error_of(twelve).kind is ImageErrorKind.UNSUPPORTED
    assert "12" in str(error_of(twelve))
    lossless = jpeg(photo()).replace(FRAME, b"\xff\xc3", 1)
    assert kind_of(lossless) is ImageErrorKind.UNSUPPORTED


def test_two_components_are_unsupported() -> None:
    data = bytearray(jpeg(photo(channels=1)))
    data[data.index(FRAME) + 9] = 2
    assert kind_of(bytes(data)) is ImageErrorKind.UNSUPPORTED


def test_a_height_of_zero_is_corrupt() -> None:
    data = bytearray(jpeg(photo()))
    at = data.index(FRAME)
    data[at + 5:at + 7] = b"\0\0"
    assert kind_of(bytes(data)) is ImageErrorKind.CORRUPT


@pytest.mark.parametrize("progressive", [False, True])
def test_the_size_in_the_header_is_held_to_the_limit_before_decoding(progressive: bool) -> None:
    data = bytearray(jpeg(photo(), progressive=progressive))
    at = data.index(b"\xff\xc2" if progressive else FRAME)
    data[at + 5:at + 9] = struct.pack(">HH", 65000, 65000)
    without_body = bytes(data[:data.index(b"\xff\xda") + 14])
    error = error_of(without_body)
    assert error.kind is ImageErrorKind.TOO_LARGE
    assert "65000 x 65000 px" in str(error)
    assert "512 MiB" in str(error)
    assert "raise the limit" in str(error)


def test_coefficients_of_a_progressive_jpeg_count_too() -> None:
    samples = photo(64, 64).nbytes
    limits = ReadLimits(decode_bytes=3 * samples // 2)
    assert pixels(jpeg(photo(64, 64))).shape == (64, 64, 3)
    assert opened(jpeg(photo(64, 64)), limits).width_px == 64
    assert kind_of(jpeg(photo(64, 64), progressive=True), limits) is ImageErrorKind.TOO_LARGE


def test_a_progressive_jpeg_of_endless_scans_is_refused() -> None:
    data = jpeg(photo(), progressive=True)
    first = data.index(b"\xff\xda")
    second = data.index(b"\xff\xda", first + 2)
    endless = data[:second] + data[first:second] * 200 + data[second:]
    assert kind_of(endless) is ImageErrorKind.UNSUPPORTED
