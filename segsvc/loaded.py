"""A model in this process: an image in, candidates out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from segsvc.card import ModelCard
from segsvc.errors import ImageError, ImageErrorKind
from segsvc.models.library import find_model
from segsvc.models.runtime import Predictor, choose_runtime
from segsvc.readers import ReadLimits, opened
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.types import Blob, Box, Level, PixelArray, Segmentation, Source

Image = str | os.PathLike[str] | bytes | PixelArray


class LoadedModel:
    """A model that is loaded; `segment` may be called by several threads."""

    def __init__(self, predictor: Predictor, limits: ReadLimits) -> None:
        self._predictor = predictor
        self._limits = limits

    @property
    def card(self) -> ModelCard:
        """What the model is."""
        return self._predictor.card

    def segment(self, image: Image) -> Segmentation:
        """The candidates in an image, as a run would store them.

        image: a path or URI, the bytes of a file, or an array (H, W) or (H, W, 1 or 3; a fourth channel, alpha, is
        dropped) of uint8, uint16 or float32 in [0, 1], RGB.

        Raises ImageError where the image cannot be read or is no image.
        """
        if isinstance(image, np.ndarray):
            return self._segment(ArraySource(image))
        if isinstance(image, (bytes, bytearray)):
            return self._open(BytesBlob(bytes(image)))
        if not isinstance(image, (str, os.PathLike)):
            raise TypeError(f"image: expected a path, bytes or an array, got {type(image).__name__}")
        place = os.fspath(image)
        store = store_of(place)
        return self._open(store.open(store.find(place)))

    def _open(self, blob: Blob) -> Segmentation:
        with opened(blob, self._limits) as source:
            return self._segment(source)

    def _segment(self, source: Source) -> Segmentation:
        from segsvc.segment import Stopwatch, segment_source  # loads compiled kernels: not for who wants but a name

        return segment_source(source, self._predictor, Stopwatch())


def load_model(name: str | Path, *, threads: int | None = None) -> LoadedModel:
    """The model of that name or folder, on the runtime that this machine has for it."""
    values = settings()
    model = find_model(str(name))
    chosen = choose_runtime(model, values.runtime)
    predictor = Predictor(model, chosen.runtime, threads=threads or available_cores())
    return LoadedModel(predictor, ReadLimits(decode_bytes=values.decode_limit_bytes))


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class BytesBlob:
    """Bytes in memory, read as a store's blob is."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size_bytes(self) -> int:
        return len(self._data)

    def read(self, start: int, stop: int) -> bytes:
        return self._data[max(0, start): max(0, stop)]

    def read_all(self) -> bytes:
        return self._data

    def close(self) -> None:
        self._data = b""


class ArraySource:
    """An array (H, W[, C]) as an opened image."""

    def __init__(self, pixels: PixelArray) -> None:
        shaped = pixels[:, :, None] if pixels.ndim == 2 else pixels
        if shaped.ndim != 3 or shaped.shape[2] not in (1, 3, 4) or 0 in shaped.shape:
            raise ImageError(ImageErrorKind.UNSUPPORTED,
                             f"expected an array (H, W) or (H, W, 1, 3 or 4), got shape {pixels.shape}")
        if shaped.dtype not in (np.uint8, np.uint16, np.float32):
            raise ImageError(ImageErrorKind.UNSUPPORTED,
                             f"expected an array of uint8, uint16 or float32, got {pixels.dtype}")
        self._pixels = np.ascontiguousarray(shaped[:, :, :3] if shaped.shape[2] == 4 else shaped)

    @property
    def width_px(self) -> int:
        return int(self._pixels.shape[1])

    @property
    def height_px(self) -> int:
        return int(self._pixels.shape[0])

    @property
    def frames(self) -> int:
        return 1

    @property
    def levels(self) -> tuple[Level, ...]:
        return (Level(self.width_px, self.height_px, 1.0),)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self._pixels.dtype

    @property
    def channels(self) -> int:
        return int(self._pixels.shape[2])

    @property
    def pixel_size_um(self) -> float | None:
        return None

    @property
    def in_parts(self) -> bool:
        return True

    def read(self, box: Box, *, level: int = 0, frame: int = 0) -> PixelArray:
        """The pixels in `box`. Raises ValueError for a box outside the image."""
        if level or frame or box.x0 < 0 or box.y0 < 0 or box.x1 > self.width_px or box.y1 > self.height_px:
            raise ValueError(f"expected a box within {self.width_px} x {self.height_px} px, level 0, frame 0; "
                             f"got {box}, level {level}, frame {frame}")
        return self._pixels[box.y0: box.y1, box.x0: box.x1]

    def close(self) -> None:
        """Nothing to close: the array is the caller's."""
