"""Crops of images for the page, at any scale: decoded and encoded anew, so that nothing in a file but its px comes out.

Tiled formats are read by ranges. Others are decoded once into a pyramid (`review_ui.pyramid`), which is kept on the disk.
Only images that a run has read are opened, in that very version, within the limits on decoding.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from review_ui.picture_cache import PictureCache
from review_ui.pyramid import encoded, write_pyramid
from segsvc.errors import SegsvcError
from segsvc.imaging.overlay import to_display
from segsvc.readers import ReadLimits, open_source
from segsvc.readers.tiff_boxes import KEPT_BYTES
from segsvc.stores import store_of
from segsvc.types import Box, ImageRef, Level, Source, stable_id
from segsvc.writers.cutout import frame_range

MOST_SIDE_PX = 4096  # of a crop as it is sent
MOST_READ_PX = 48_000_000  # of the image, for one crop: only images without smaller copies of themselves come near it
QUALITY = 90
_KEPT_OPEN, _KEPT_BYTES = 64, 512 << 20  # images that are held open, and what they may have decoded
_LOCKS = 64
_LOOK = 1  # another number wherever the same region comes out as other bytes: browsers keep them for ever


class RegionError(SegsvcError):
    """A region that cannot be shown: not within the image, or too large; says what can be."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a frame, px of the full image, and how wide it is shown; its height follows from its shape."""

    box: Box
    width_px: int
    frame: int = 0

    def __post_init__(self) -> None:
        if self.box.width_px < 1 or self.box.height_px < 1:
            raise RegionError(f"a region needs at least 1 x 1 px, got {self.box.width_px} x {self.box.height_px}")
        if not (1 <= self.width_px <= MOST_SIDE_PX and self.height_px <= MOST_SIDE_PX):
            raise RegionError(f"a region is shown at 1 to {MOST_SIDE_PX} px a side, got {self.width_px} x {self.height_px}; "
                              "ask for a smaller width")

    @property
    def height_px(self) -> int:
        """As it is shown."""
        return max(1, round(self.box.height_px * self.width_px / self.box.width_px))

    def tag(self, image_id: str) -> str:
        """What tells this picture from all others; an image's id stands for its content."""
        box = self.box
        return stable_id(image_id, box.x0, box.y0, box.x1, box.y1, self.width_px, self.frame, _LOOK)

    def check_within(self, *, width_px: int, height_px: int, frames: int) -> None:
        """Raises RegionError where it is not all within an image of that size."""
        box = self.box
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width_px or box.y1 > height_px:
            raise RegionError(f"expected a region within the image, 0, 0 to {width_px}, {height_px}, "
                              f"got {box.x0}, {box.y0} to {box.x1}, {box.y1}")
        if not 0 <= self.frame < frames:
            raise RegionError(f"expected a frame from 0 to {frames - 1}, got {self.frame}")


@dataclass(frozen=True, slots=True)
class _Opened:
    """An image as it is looked at; `lock` is held while it is read."""

    source: Source
    frame: int  # of `source`
    scale: tuple[float, float]  # which values are black and white
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def most_bytes(self) -> int:
        """What it may hold of decoded tiles: all levels, within what the reader keeps."""
        source = self.source
        return min(KEPT_BYTES, source.width_px * source.height_px * source.channels * source.dtype.itemsize * 4 // 3)


class Pictures:
    """Crops of images; safe to use from several threads."""

    def __init__(self, cache: PictureCache, limits: ReadLimits) -> None:
        self._cache = cache
        self._limits = limits
        self._guard = threading.Lock()
        self._open: OrderedDict[tuple[str, int], _Opened] = OrderedDict()
        self._making = [threading.Lock() for _ in range(_LOCKS)]

    def is_ready(self, image_id: str, frame: int) -> bool:
        """Whether a crop of the frame can be had without opening its image, which may take long."""
        with self._guard:
            return (image_id, frame) in self._open or _file_name(image_id, frame) in self._cache

    def crop(self, ref: ImageRef, region: Region) -> bytes:
        """A JPEG of the region. Opens the image first where that was not done yet, which may take long.

        Raises ImageError (MISSING or CHANGED where the image is gone), RegionError, and StoreError.
        """
        return _crop(self._find(ref, region.frame), region)

    def _find(self, ref: ImageRef, frame: int) -> _Opened:
        key = ref.image_id, frame
        with self._making[hash(key) % _LOCKS]:  # each image is decoded once, however many ask for it
            with self._guard:
                if key in self._open:
                    self._open.move_to_end(key)
                    return self._open[key]
            found = self._kept(key) or self._made(ref, frame)
            if found.source.in_parts:  # others hold all of their px: they are used once
                with self._guard:
                    self._open[key] = found
                    self._let_go()
            return found

    def _let_go(self) -> None:
        """Closes what was looked at longest ago, until the others are within their limits."""
        held_bytes = sum(each.most_bytes for each in self._open.values())
        while held_bytes > _KEPT_BYTES or len(self._open) > _KEPT_OPEN:
            held_bytes -= self._open.popitem(last=False)[1].most_bytes  # whoever still reads it holds it until then

    def _kept(self, key: tuple[str, int]) -> _Opened | None:
        name = _file_name(*key)
        path = self._cache.find(name)
        if path is None:
            return None
        try:
            return self._pyramid(str(path))
        except SegsvcError:  # damaged: made anew
            self._cache.discard(name)
            return None

    def _made(self, ref: ImageRef, frame: int) -> _Opened:
        source = open_source(store_of(ref.uri).open(ref), self._limits)
        if not 0 <= frame < source.frames:
            source.close()
            raise RegionError(f"expected a frame from 0 to {source.frames - 1}, got {frame}")
        if source.in_parts:
            return _Opened(source, frame, frame_range(source, frame=frame))
        path = self._cache.keep(_file_name(ref.image_id, frame),
                                lambda file: write_pyramid(file, source, frame=frame))
        if path is None:
            return _Opened(source, frame, frame_range(source, frame=frame))
        source.close()
        return self._pyramid(str(path))

    def _pyramid(self, path: str) -> _Opened:
        store = store_of(path)
        return _Opened(open_source(store.open(store.find(path)), self._limits), 0, (0.0, 255.0))


def _file_name(image_id: str, frame: int) -> str:
    return f"{image_id}-{frame}.tif"


def _crop(opened: _Opened, region: Region) -> bytes:
    source = opened.source
    region.check_within(width_px=source.width_px, height_px=source.height_px, frames=max(source.frames, region.frame + 1))
    number = _level(source.levels, region)
    level = source.levels[number]
    across, down = level.width_px / source.width_px, level.height_px / source.height_px
    start, size = (region.box.x0 * across, region.box.y0 * down), (region.box.width_px * across, region.box.height_px * down)
    box = Box(math.floor(start[0]), math.floor(start[1]), min(level.width_px, math.ceil(start[0] + size[0])),
              min(level.height_px, math.ceil(start[1] + size[1])))
    if box.area_px > MOST_READ_PX:
        raise RegionError(f"the image has no smaller copy of itself, so at most {MOST_READ_PX:,} px of it are shown at "
                          f"once, got {box.area_px:,}; zoom in")
    with opened.lock:
        pixels = source.read(box, level=number, frame=opened.frame)
    shown = to_display(pixels, value_range=opened.scale)[:, :, :source.channels]
    return encoded(_resampled(shown, region, start=(start[0] - box.x0, start[1] - box.y0), size=size), quality=QUALITY)


def _level(levels: tuple[Level, ...], region: Region) -> int:
    """The smallest level that has as many px of the region as are shown."""
    whole = levels[0].width_px
    enough = [number for number, level in enumerate(levels)
              if number == 0 or region.box.width_px * level.width_px >= region.width_px * whole]
    return min(enough, key=lambda number: levels[number].width_px)


def _resampled(shown: npt.NDArray[np.uint8], region: Region, *, start: tuple[float, float], size: tuple[float, float]
               ) -> npt.NDArray[np.uint8]:
    """What lies in `shown` (h, w, C) from `start` (x, y) on, `size` px of it, as high and wide as the region is shown.

    At a smaller level neither need be whole. Larger by lines between px; smaller first by means of whole squares of px.
    """
    target = region.width_px, region.height_px
    factor = max(1, int(min(size[0] / target[0], size[1] / target[1])))
    if factor > 1:
        shown, start, size = _reduced(shown, factor), (start[0] / factor, start[1] / factor), (
            size[0] / factor, size[1] / factor)
    if start == (0.0, 0.0) and size == (float(shown.shape[1]), float(shown.shape[0])):  # all of it: the quick way
        is_smaller = target[0] < size[0] or target[1] < size[1]
        method = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(shown, target, interpolation=method), np.uint8).reshape(target[1], target[0], -1)
    steps = size[0] / target[0], size[1] / target[1]
    back = np.array([[steps[0], 0, start[0] + steps[0] / 2 - 0.5], [0, steps[1], start[1] + steps[1] / 2 - 0.5]])
    return np.asarray(cv2.warpAffine(shown, back, target, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                                     borderMode=cv2.BORDER_REPLICATE), np.uint8).reshape(target[1], target[0], -1)


def _reduced(shown: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Each px the mean of `factor` x `factor`; the last row and column are repeated."""
    height, width, channels = shown.shape
    whole = np.pad(shown, ((0, -height % factor), (0, -width % factor), (0, 0)), mode="edge")
    size = whole.shape[1] // factor, whole.shape[0] // factor
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8).reshape(size[1], size[0], channels)
