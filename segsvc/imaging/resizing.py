"""A whole image brought to a classifier's input."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from segsvc.card import Fit, Resize
from segsvc.imaging.intensity import full_scale
from segsvc.types import Box, PixelArray, Source

_BAND_PX = 16_000_000  # a large image is reduced in bands of about this many px
_SUPPORT_PX = 2  # how far the bicubic filter reaches, in px of the coarser of the two images


def model_view(source: Source, resize: Resize, *, frame: int = 0) -> PixelArray:
    """(crop_px, crop_px, C) of the source's dtype: the middle of the image, or all of it, as `resize` says.

    Resampling is antialiased (Pillow). A large image is first reduced by whole-number area averaging, from the
    smallest resolution level that is still large enough. Only what the crop is made of is read and resampled, so that
    memory stays bounded however long the image is.
    """
    sides = source.width_px, source.height_px
    whole = resize.fit is Fit.PAD
    wanted = resize.crop_px * min(sides) / max(sides) if whole else resize.shorter_side_px
    level, factor = _resolution(source, wanted_px=max(1, round(2 * wanted)))
    size = source.levels[level]
    scale = wanted / min(size.width_px, size.height_px)
    seen = [max(1, round(side * scale)) if whole else resize.crop_px for side in (size.width_px, size.height_px)]
    across = _Span.of(size.width_px, resized_px=round(size.width_px * scale), crop_px=seen[0], factor=factor)
    down = _Span.of(size.height_px, resized_px=round(size.height_px * scale), crop_px=seen[1], factor=factor)
    pixels = _reduced(source, across, down, level=level, factor=factor, frame=frame)
    box = (across.start - across.first, down.start - down.first, across.stop - across.first, down.stop - down.first)
    return _centred(_resample(pixels, box, (seen[0], seen[1]), resize.interpolation), resize.crop_px)


def _centred(pixels: PixelArray, side_px: int) -> PixelArray:
    """(side_px, side_px, C) with black around what is smaller."""
    missing = [side_px - length for length in pixels.shape[:2]]
    if not any(missing):
        return pixels
    return np.pad(pixels, [(each // 2, each - each // 2) for each in missing] + [(0, 0)])


@dataclass(frozen=True, slots=True)
class _Span:
    """What the crop takes of one axis: `start` to `stop`, and the px `first` to `last` that the filter looks at.

    In px of the level after it is reduced by `factor`.
    """

    start: float
    stop: float
    first: int
    last: int

    @classmethod
    def of(cls, size_px: int, *, resized_px: int, crop_px: int, factor: int) -> _Span:
        """The crop's share of a level's axis of `size_px` that is resized, to no less than the crop."""
        resized = max(crop_px, resized_px)
        step = size_px / factor / resized
        start = (resized - crop_px) // 2 * step
        stop = min(start + crop_px * step, size_px / factor)
        margin = _SUPPORT_PX * max(1.0, step) + 1
        return cls(start, stop, max(0, math.floor(start - margin)), min(-(-size_px // factor), math.ceil(stop + margin)))


def _resolution(source: Source, *, wanted_px: int) -> tuple[int, int]:
    """The level to read, and the whole number by which it is still to be reduced."""
    level = max((number for number, each in enumerate(source.levels)
                 if number == 0 or min(each.width_px, each.height_px) >= wanted_px),
                key=lambda number: source.levels[number].downsample)
    size = source.levels[level]
    factor = max(1, min(size.width_px, size.height_px) // wanted_px)
    return level, factor if size.width_px * size.height_px > _BAND_PX else 1


def _reduced(source: Source, across: _Span, down: _Span, *, level: int, factor: int, frame: int) -> PixelArray:
    """The px that the two spans take, each the mean of `factor` x `factor` px of the level, whose last px is repeated."""
    size = source.levels[level]
    width = (across.last - across.first) * factor
    rows = max(1, _BAND_PX // width // factor)
    bands = []
    for first in range(down.first, down.last, rows):
        last = min(first + rows, down.last)
        band = source.read(Box(across.first * factor, first * factor, min(across.last * factor, size.width_px),
                               min(last * factor, size.height_px)), level=level, frame=frame)
        if factor > 1:
            reduced = across.last - across.first, last - first
            missing = (last - first) * factor - band.shape[0], width - band.shape[1]
            band = np.pad(band, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge") if any(missing) else band
            band = cv2.resize(band, reduced, interpolation=cv2.INTER_AREA).reshape(*reduced[::-1], band.shape[2])
        bands.append(band)
    return bands[0] if len(bands) == 1 else np.concatenate(bands)


def _resample(pixels: PixelArray, box: tuple[float, float, float, float], size: tuple[int, int],
              interpolation: str) -> PixelArray:
    """What lies in `box` (x0, y0, x1, y1 in px), resampled to `size` (width, height): (height, width, C).

    The filter looks beyond the box.
    """
    method = Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
    if pixels.dtype == np.uint8 and pixels.shape[2] in (1, 3):
        flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
        return np.asarray(Image.fromarray(np.ascontiguousarray(flat)).resize(size, method, box)).reshape(*size[::-1], -1)
    channels = [np.asarray(Image.fromarray(pixels[:, :, channel].astype(np.float32)).resize(size, method, box))
                for channel in range(pixels.shape[2])]
    stacked = np.stack(channels, axis=2)
    if np.issubdtype(pixels.dtype, np.integer):
        stacked = np.clip(np.rint(stacked), 0, full_scale(pixels.dtype))
    return stacked.astype(pixels.dtype)
