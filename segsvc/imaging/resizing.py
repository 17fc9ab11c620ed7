"""A whole image brought to a classifier's input."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from segsvc.card import Resize
from segsvc.imaging.intensity import full_scale
from segsvc.types import Box, PixelArray, Source

_BAND_PX = 16_000_000  # a large image is reduced in bands of about this many px


def model_view(source: Source, resize: Resize, *, frame: int = 0) -> PixelArray:
    """(crop_px, crop_px, C) of the source's dtype: the shorter side to `shorter_side_px`, then a centre crop.

    Resampling is antialiased (Pillow). A large image is first reduced by whole-number area averaging, from the
    smallest resolution level that is still large enough, so that memory stays bounded.
    """
    pixels = _reduced(source, wanted_px=2 * resize.shorter_side_px, frame=frame)
    height, width = pixels.shape[:2]
    scale = resize.shorter_side_px / min(height, width)
    size = max(resize.crop_px, round(width * scale)), max(resize.crop_px, round(height * scale))
    return _centre(_resample(pixels, size, resize.interpolation), resize.crop_px)


def _reduced(source: Source, *, wanted_px: int, frame: int) -> PixelArray:
    level = max((number for number, each in enumerate(source.levels)
                 if number == 0 or min(each.width_px, each.height_px) >= wanted_px),
                key=lambda number: source.levels[number].downsample)
    size = source.levels[level]
    factor = max(1, min(size.width_px, size.height_px) // wanted_px)
    if factor == 1 or size.width_px * size.height_px <= _BAND_PX:
        return source.read(Box(0, 0, size.width_px, size.height_px), level=level, frame=frame)
    rows = max(1, _BAND_PX // size.width_px // factor) * factor
    bands = []
    for y0 in range(0, size.height_px, rows):
        band = source.read(Box(0, y0, size.width_px, min(y0 + rows, size.height_px)), level=level, frame=frame)
        reduced = max(1, band.shape[1] // factor), max(1, band.shape[0] // factor)
        bands.append(cv2.resize(band, reduced, interpolation=cv2.INTER_AREA).reshape(*reduced[::-1], band.shape[2]))
    return np.concatenate(bands)


def _resample(pixels: PixelArray, size: tuple[int, int], interpolation: str) -> PixelArray:
    if pixels.shape[1::-1] == size:
        return pixels
    method = Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
    if pixels.dtype == np.uint8 and pixels.shape[2] in (1, 3):
        flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
        return np.asarray(Image.fromarray(np.ascontiguousarray(flat)).resize(size, method)).reshape(*size[::-1], -1)
    channels = [np.asarray(Image.fromarray(pixels[:, :, channel].astype(np.float32)).resize(size, method))
                for channel in range(pixels.shape[2])]
    stacked = np.stack(channels, axis=2)
    if np.issubdtype(pixels.dtype, np.integer):
        stacked = np.clip(np.rint(stacked), 0, full_scale(pixels.dtype))
    return stacked.astype(pixels.dtype)


def _centre(pixels: PixelArray, crop_px: int) -> PixelArray:
    top, left = (pixels.shape[0] - crop_px) // 2, (pixels.shape[1] - crop_px) // 2
    return pixels[top: top + crop_px, left: left + crop_px]
