"""The images that training looks at again and again: read once by the same readers as at inference, then kept in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from segsvc.card import IntensityScale, Normalisation
from segsvc.imaging.intensity import Affine, affine, to_channels, to_input
from segsvc.loaded import ArraySource
from segsvc.readers import ReadLimits, opened
from segsvc.segment import intensity_sample
from segsvc.stores import store_of
from segsvc.types import Box, ImageRef, PixelArray, Source

Floats = npt.NDArray[np.float32]
_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")
_MOST_BYTES = 2 << 30
_LARGE_BYTES = 256 << 20  # an image beyond this is not kept but read by windows


@dataclass(frozen=True, slots=True)
class _Picture:
    """What is known of an image: its size, its scale, and its pixels where they are kept."""

    width_px: int
    height_px: int
    to: Affine
    pixels: PixelArray | None


class Kept(Generic[_Key, _Value]):
    """What was made last of what is asked for again and again, within so many bytes; may be used by several threads."""

    def __init__(self, make: Callable[[_Key], tuple[_Value, int]], *, most_bytes: int) -> None:
        """make: what belongs to a key, and its bytes."""
        self._make, self._most_bytes = make, most_bytes
        self._values: OrderedDict[_Key, tuple[_Value, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __getitem__(self, key: _Key) -> _Value:
        with self._lock:
            if (kept := self._values.get(key)) is not None:
                self._values.move_to_end(key)
                return kept[0]
        made = self._make(key)
        with self._lock:
            if key not in self._values:
                self._values[key] = made
                self._bytes += made[1]
            while self._bytes > self._most_bytes and len(self._values) > 1:
                self._bytes -= self._values.popitem(last=False)[1][1]
        return made[0]


class Pictures:
    """Images by windows, as float32 on the scale 0 to 1; may be used by several threads."""

    def __init__(self, *, channels: int, normalisation: Normalisation, limits: ReadLimits,
                 most_bytes: int = _MOST_BYTES) -> None:
        self._channels = channels
        self._percentile = normalisation.scale is IntensityScale.PERCENTILE
        self._scale = normalisation.model_copy(update={"mean": (0.0,) * channels, "std": (1.0,) * channels})
        self._limits = limits
        self._kept: Kept[tuple[str, str], _Picture] = Kept(self._read, most_bytes=most_bytes)
        self._refs: dict[tuple[str, str], ImageRef] = {}

    def size_px(self, ref: ImageRef) -> tuple[int, int]:
        """Width and height. Raises ImageError where the image cannot be read, as all methods do."""
        picture = self._picture(ref)
        return picture.width_px, picture.height_px

    def window(self, ref: ImageRef, box: Box) -> Floats:
        """(box height, box width, channels) float32 of the pixels in a box within the image."""
        picture = self._picture(ref)
        if picture.pixels is not None:
            pixels = picture.pixels[box.y0: box.y1, box.x0: box.x1]
        else:
            with opened(store_of(ref.uri).open(ref), self._limits) as source:
                pixels = to_channels(source.read(box), self._channels)
        return np.ascontiguousarray(np.moveaxis(to_input(pixels, picture.to)[0], 0, 2))

    @contextmanager
    def source(self, ref: ImageRef) -> Iterator[Source]:
        """The image, opened as at inference."""
        picture = self._picture(ref)
        if picture.pixels is not None:
            yield ArraySource(picture.pixels)
        else:
            with opened(store_of(ref.uri).open(ref), self._limits) as source:
                yield source

    def _picture(self, ref: ImageRef) -> _Picture:
        key = ref.uri, ref.version
        self._refs[key] = ref
        return self._kept[key]

    def _read(self, key: tuple[str, str]) -> tuple[_Picture, int]:
        ref = self._refs[key]
        with opened(store_of(ref.uri).open(ref), self._limits) as source:
            sample = to_channels(intensity_sample(source, 0), self._channels) if self._percentile else None
            to = affine(self._scale, dtype=source.dtype, sample=sample)
            width, height = source.width_px, source.height_px
            pixels = None
            if width * height * source.channels * source.dtype.itemsize <= _LARGE_BYTES:
                pixels = np.ascontiguousarray(to_channels(source.read(Box(0, 0, width, height)), self._channels))
        return _Picture(width, height, to, pixels), pixels.nbytes if pixels is not None else 0
