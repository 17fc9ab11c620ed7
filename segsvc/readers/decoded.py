"""A picture that is decoded as a whole: the `Source` of JPEG, PNG, WebP and BMP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from segsvc.readers.limits import corrupt, decoding
from segsvc.readers.orientation import UPRIGHT, check_box, oriented, oriented_size, stored_box
from segsvc.types import Blob, Box, Level, PixelArray


@dataclass(frozen=True, slots=True)
class Picture:
    """What a header says of a picture, and how its bytes become pixels.

    `decode` gives the stored samples (height, width, S) and is called at the first read; `to_pixels` turns any crop
    of them into (h, w, `channels`) of `dtype`: that way a palette or CMYK is never expanded as a whole. Sizes are
    as stored, before `orientation`.
    """

    format_name: str
    width_px: int
    height_px: int
    channels: int
    dtype: np.dtype[np.generic]
    decode: Callable[[], PixelArray]
    to_pixels: Callable[[PixelArray], PixelArray]
    orientation: int = UPRIGHT


class DecodedSource:
    """A `Source` of one level and one frame over a `Picture`: decoded at the first read, kept until `close`.

    What `read` gives may be a read-only view of the decoded picture.
    """

    def __init__(self, picture: Picture, blob: Blob) -> None:
        self._picture: Picture | None = picture
        self._blob = blob
        self._stored: PixelArray | None = None
        self._name = picture.format_name
        self._dtype = picture.dtype
        self._channels = picture.channels
        self._width_px, self._height_px = oriented_size(picture.width_px, picture.height_px, picture.orientation)

    @property
    def width_px(self) -> int:
        return self._width_px

    @property
    def height_px(self) -> int:
        return self._height_px

    @property
    def frames(self) -> int:
        return 1

    @property
    def levels(self) -> tuple[Level, ...]:
        return (Level(self._width_px, self._height_px, 1.0),)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self._dtype

    @property
    def channels(self) -> int:
        return self._channels

    @property
    def pixel_size_um(self) -> float | None:
        return None

    @property
    def in_parts(self) -> bool:
        return False

    def read(self, box: Box, *, level: int = 0, frame: int = 0) -> PixelArray:
        """The pixels in `box` as (h, w, C); see `Source.read`."""
        picture = self._picture
        if picture is None:
            raise ValueError(f"this {self._name} is closed")
        if level != 0 or frame != 0:
            raise ValueError(f"a {self._name} has level 0 and frame 0 alone, got level {level}, frame {frame}")
        check_box(box, width_px=self._width_px, height_px=self._height_px)
        if self._stored is None:
            self._stored = _decoded(picture)
            self._picture = picture = replace(picture, decode=_decoded_before)  # lets go of the compressed bytes
        inner = stored_box(box, picture.orientation, width_px=self._width_px, height_px=self._height_px)
        pixels = picture.to_pixels(self._stored[inner.y0:inner.y1, inner.x0:inner.x1])
        return np.ascontiguousarray(oriented(pixels, picture.orientation))

    def close(self) -> None:
        """Frees the decoded picture and the file; a second time does nothing."""
        if self._picture is not None:
            self._picture = self._stored = None
            self._blob.close()


def _decoded(picture: Picture) -> PixelArray:
    what = f"a {picture.format_name} of {picture.width_px} x {picture.height_px} px"
    with decoding(what):
        stored = picture.decode()
    if stored.shape[:2] != (picture.height_px, picture.width_px):
        raise corrupt(f"{what} decoded to {stored.shape[1]} x {stored.shape[0]} px")
    stored.flags.writeable = False
    return stored


def _decoded_before() -> PixelArray:
    raise ValueError("a picture is decoded once")


def as_stored(samples: PixelArray) -> PixelArray:
    """`to_pixels` of pictures whose samples are their pixels."""
    return samples
