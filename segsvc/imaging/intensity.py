"""Stored pixel values -> the numbers that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segsvc.card import IntensityScale, Normalisation
from segsvc.types import PixelArray


@dataclass(frozen=True, slots=True)
class Affine:
    """value * gain + offset, for each channel; values that are no finite number become black."""

    gain: npt.NDArray[np.float32]  # (C,)
    offset: npt.NDArray[np.float32]  # (C,)
    black: npt.NDArray[np.float32]  # (C,), what 0 on the scale becomes


def to_channels(pixels: PixelArray, channels: int) -> PixelArray:
    """(h, w, 1 or 3) -> (h, w, channels), same dtype: grey is repeated; RGB becomes luma (ITU-R BT.601)."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    luma: PixelArray = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    return luma[:, :, None]


def affine(normalisation: Normalisation, *, dtype: np.dtype[np.generic], sample: PixelArray | None) -> Affine:
    """How values of `dtype` become model input: scale to 0..1, then (value - mean) / std.

    sample: (h, w, C) of the image, wanted where the scale is PERCENTILE; percentiles are taken over all channels.
    """
    if normalisation.scale is IntensityScale.PERCENTILE:
        if sample is None:
            raise ValueError("a percentile scale needs a sample of the image, got None")
        low, high = percentiles(sample, (normalisation.low_percentile, normalisation.high_percentile))
    else:
        low, high = 0.0, full_scale(dtype)
    mean = np.asarray(normalisation.mean, np.float64)
    std = np.asarray(normalisation.std, np.float64)
    span = high - low if high > low else 1.0
    gain = 1.0 / (span * std)
    black = -mean / std
    return Affine(gain.astype(np.float32), (-low * gain + black).astype(np.float32), black.astype(np.float32))


def full_scale(dtype: np.dtype[np.generic]) -> float:
    """The value of white: the largest of an integer type, 1.0 of a float."""
    return {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(dtype, 1.0)


def percentiles(sample: PixelArray, wanted: tuple[float, float]) -> tuple[float, float]:
    """The two percentiles of all finite values, by linear interpolation as numpy.percentile does; integers by histogram.

    Without any finite value both are 0.
    """
    if sample.dtype in (np.uint8, np.uint16):
        bins = 256 if sample.dtype == np.uint8 else 65536
        counts = np.bincount(sample.reshape(-1), minlength=bins)
        last = np.cumsum(counts)  # values <= v
        place = np.asarray(wanted) / 100.0 * (sample.size - 1)
        below = np.floor(place).astype(np.int64)
        low_values = np.searchsorted(last, below, side="right")
        high_values = np.searchsorted(last, np.minimum(below + 1, sample.size - 1), side="right")
        mixed = low_values + (place - below) * (high_values - low_values)
        return float(mixed[0]), float(mixed[1])
    finite = sample[np.isfinite(sample)].astype(np.float64)
    low, high = np.percentile(finite, wanted) if finite.size else (0.0, 0.0)
    return float(low), float(high)


def to_input(tile: PixelArray, to: Affine) -> npt.NDArray[np.float32]:
    """(h, w, C) of any dtype -> (1, C, h, w) float32, contiguous and finite."""
    out = np.empty((1, tile.shape[2], *tile.shape[:2]), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for channel in range(tile.shape[2]):
            plane = out[0, channel]
            np.multiply(tile[:, :, channel], to.gain[channel], out=plane, dtype=np.float32, casting="unsafe")
            plane += to.offset[channel]
            if np.issubdtype(tile.dtype, np.floating):  # "no data" as NaN would spread over the whole tile
                plane[~np.isfinite(plane)] = to.black[channel]
    return out
