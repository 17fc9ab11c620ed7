"""WebP: one still picture, lossy or lossless; after the WebP container specification and RFC 9649."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segsvc.readers import ReadLimits
from segsvc.readers.decoded import DecodedSource, Picture, as_stored
from segsvc.readers.limits import corrupt, hold_to_limit, read_whole, unsupported
from segsvc.readers.orientation import UPRIGHT, exif_orientation
from segsvc.types import Blob, PixelArray, Source

ANIMATION = 0x02
KEY_FRAME_START = b"\x9d\x01\x2a"


@dataclass(frozen=True, slots=True)
class WebpHeader:
    """What the chunks of a WebP say."""

    width_px: int
    height_px: int
    is_lossless: bool
    has_alpha_plane: bool
    orientation: int

    @property
    def decode_bytes(self) -> int:
        """What decoding takes: RGB, for lossless the decoder's copy of 4 bytes a pixel, and a plane of alpha."""
        return self.width_px * self.height_px * (3 + 4 * self.is_lossless + self.has_alpha_plane)


class WebpReader:
    """Opens WebP files as RGB. Alpha is dropped: colour comes as it is stored. Animations are not read."""

    name = "webp"
    endings = (".webp",)

    def sniff(self, head: bytes) -> bool:
        """Whether a file that starts with these bytes is a WebP."""
        return head.startswith(b"RIFF") and head[8:12] == b"WEBP"

    def open(self, blob: Blob, limits: ReadLimits) -> Source:
        """The picture, not yet decoded. Raises ImageError: CORRUPT, UNSUPPORTED or TOO_LARGE."""
        data = read_whole(blob, limits, format_name="WebP")
        header = webp_header(data, limits)
        return DecodedSource(Picture(
            format_name="WebP", width_px=header.width_px, height_px=header.height_px, channels=3,
            dtype=np.dtype(np.uint8), decode=lambda: _decode(data), to_pixels=as_stored,
            orientation=header.orientation), blob)

    def example(self) -> bytes:
        """A lossless WebP of 9 x 6 px."""
        import imagecodecs

        ramp = (np.arange(9 * 6 * 3) % 251).astype(np.uint8).reshape(6, 9, 3)
        return bytes(imagecodecs.webp_encode(ramp, lossless=True))


def _decode(data: bytes) -> PixelArray:
    import imagecodecs

    decoded: PixelArray = imagecodecs.webp_decode(data, hasalpha=False)
    return decoded


def _walk(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and stop of each chunk. Raises ImageError(CORRUPT) where the file ends before they do."""
    end = 8 + int.from_bytes(data[4:8], "little")
    at = 12
    while at + 8 <= min(end, len(data)):
        size = int.from_bytes(data[at + 4:at + 8], "little")
        yield data[at:at + 4], at + 8, at + 8 + size
        at += 8 + size + size % 2
    if end > len(data) or at > end + 1:  # some encoders leave the padding of the last chunk out
        raise corrupt(f"the WebP is truncated: expected {max(end, at)} bytes, got {len(data)}")


def webp_header(data: bytes, limits: ReadLimits) -> WebpHeader:
    """What a WebP holds, its size held to the limit before the end of the file is looked at.

    Raises ImageError: CORRUPT, TOO_LARGE, or UNSUPPORTED for animations.
    """
    size: tuple[int, int] | None = None
    is_lossless = has_alpha_plane = False
    orientation = UPRIGHT
    for kind, start, stop in _walk(data):
        if kind == b"VP8X":
            if len(data) > start and data[start] & ANIMATION:
                raise unsupported("the WebP is an animation, which is not read; "
                                  "save its frames as a TIFF of several pages")
        elif kind == b"ALPH":
            has_alpha_plane = True
        elif kind in (b"VP8 ", b"VP8L") and size is None:
            is_lossless = kind == b"VP8L"
            size = _lossless_size(data[start:start + 5]) if is_lossless else _lossy_size(data[start:start + 10])
            header = WebpHeader(*size, is_lossless, has_alpha_plane, UPRIGHT)
            hold_to_limit(header.decode_bytes, limits, what=f"a WebP of {size[0]} x {size[1]} px")
        elif kind == b"EXIF":
            orientation = exif_orientation(data[start:stop])
    if size is None:
        raise corrupt("the WebP is truncated or damaged: it holds no picture")
    return WebpHeader(*size, is_lossless, has_alpha_plane, orientation)


def _lossy_size(head: bytes) -> tuple[int, int]:
    """Width and height from the start of a VP8 key frame (RFC 6386, section 9.1)."""
    if len(head) < 10 or head[3:6] != KEY_FRAME_START or head[0] & 1:
        raise corrupt("the WebP is truncated or damaged: its picture does not begin with a key frame")
    width_px, height_px = (int.from_bytes(head[i:i + 2], "little") & 0x3FFF for i in (6, 8))
    if width_px == 0 or height_px == 0:
        raise corrupt(f"expected a WebP of at least 1 x 1 px, got {width_px} x {height_px}")
    return width_px, height_px


def _lossless_size(head: bytes) -> tuple[int, int]:
    """Width and height from the start of a VP8L picture (RFC 9649, section 3.4)."""
    if len(head) < 5 or head[0] != 0x2F:
        raise corrupt("the WebP is truncated or damaged: its picture does not begin as a lossless one does")
    bits = int.from_bytes(head[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


PLUGIN = WebpReader()
