"""WebP: equal to Pillow's pixels, whole or an error."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from segsvc.errors import ImageErrorKind
from segsvc.readers import ReadLimits
from tests.readers.support import error_of, kind_of, opened, photo, pixels

VARIANTS = {"lossy": {"quality": 80}, "lossless": {"lossless": True}}


def webp(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_still_picture_is_rgb_as_pillow_decodes_it(variant: str) -> None:
    data = webp(Image.fromarray(photo()), **VARIANTS[variant])
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("variant", VARIANTS)
def test_alpha_is_dropped_and_colour_comes_as_it_is_stored(variant: str) -> None:
    image = Image.fromarray(photo())
    image.putalpha(Image.fromarray(photo(channels=1, seed=3)))
    data = webp(image, exact=True, **VARIANTS[variant])
    assert opened(data).channels == 3
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)))[..., :3])


def test_an_animation_is_unsupported_and_the_message_says_so() -> None:
    frames = [Image.fromarray(photo(seed=seed)) for seed in (0, 1)]
    data = webp(frames[0], save_all=True, append_images=frames[1:])
    assert error_of(data).kind is ImageErrorKind.UNSUPPORTED
    assert "animation" in str(error_of(data))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_webp_cut_anywhere_is_an_error(variant: str) -> None:
    data = webp(Image.fromarray(photo(20, 30)), **VARIANTS[variant])
    assert {kind_of(data[:cut]) for cut in range(12, len(data))} == {ImageErrorKind.CORRUPT}


def test_bytes_after_the_end_are_ignored() -> None:
    data = webp(Image.fromarray(photo()))
    assert np.array_equal(pixels(data + b"garbage" * 9), pixels(data))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_size_in_the_header_is_held_to_the_limit_before_decoding(variant: str) -> None:
    data = bytearray(webp(Image.fromarray(photo()), **VARIANTS[variant]))
    if variant == "lossy":
        data[26:30] = b"\xff\x3f\xff\x3f"
    else:
        data[21:25] = b"\xff\xff\xff\x0f"
    error = error_of(bytes(data[:40]))  # there is no body
    assert error.kind is ImageErrorKind.TOO_LARGE
    assert "1638" in str(error)


def test_a_small_limit_is_kept() -> None:
    assert kind_of(webp(Image.fromarray(photo())), ReadLimits(decode_bytes=5000)) is ImageErrorKind.TOO_LARGE
