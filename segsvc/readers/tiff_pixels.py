"""From the samples of a TIFF to pixels: bits to bytes, palettes, inks and YCbCr to RGB, other types to float32."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segsvc.readers.jpeg_codec import cmyk_to_rgb
from segsvc.readers.limits import corrupt
from segsvc.readers.tiff_page import PICTURES, Compression, Page, Photometric, Tag
from segsvc.types import PixelArray


def to_pixels(samples: PixelArray, page: Page) -> PixelArray:
    """Samples (h, w, `page.colours`) of `page.dtype` as pixels (h, w, `page.channels`) of `page.out_dtype`.

    Grey of 1 to 7 bits is spread over 0..255; grey of 9 to 15 bits stays as it is stored. Integers of other types
    become float32, rounded to its 24 bits; what is not a finite number becomes 0. CMYK and YCbCr become RGB without a
    colour profile.
    """
    if page.photometric is Photometric.PALETTE:
        return _palette(page)[samples[..., 0].astype(np.uint8, copy=False)]
    if page.photometric is Photometric.WHITE_IS_ZERO:
        samples = np.subtract((1 << page.bits) - 1, samples, dtype=page.dtype)
    elif page.photometric is Photometric.CMYK:
        samples = cmyk_to_rgb(samples)
    elif is_ycbcr(page):
        samples = ycbcr_to_rgb(samples)
    if page.dtype == np.uint8 and page.bits < 8:
        highest = (1 << page.bits) - 1
        return ((samples.astype(np.uint16) * 255 + highest // 2) // highest).astype(np.uint8)
    if page.out_dtype != np.float32:
        return samples
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = samples.astype(np.float32)
    if page.dtype.kind == "f":
        numbers[~np.isfinite(numbers)] = 0
    return numbers


def is_ycbcr(page: Page) -> bool:
    """Whether the samples are YCbCr once decompressed; most decoders of pictures give RGB."""
    if page.compression is Compression.JPEG2000_YCBCR:
        return page.colours == 3
    return page.photometric is Photometric.YCBCR and page.compression not in PICTURES


def _palette(page: Page) -> npt.NDArray[np.uint8]:
    """The palette as (2 ** bits, 3) uint8; the file's 16 bits are cut to 8 unless all of them are below 256."""
    size = 1 << page.bits
    values = page.directory.integers(Tag.COLOUR_MAP, 3 * size)
    if len(values) < 3 * size:
        raise corrupt(f"the TIFF is damaged: its palette has {len(values)} values, expected {3 * size}")
    if values.max() > 255:
        values = values >> 8
    return np.ascontiguousarray(values.astype(np.uint8).reshape(3, size).T)


def ycbcr_to_rgb(samples: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """RGB of full-range YCbCr, (h, w, 3) uint8 (ITU-T T.871, section 7)."""
    luma, blue, red = (samples[..., i].astype(np.float32) for i in range(3))
    blue -= 128
    red -= 128
    rgb = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=-1)
    rounded: npt.NDArray[np.uint8] = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return rounded
