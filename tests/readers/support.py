"""What the tests of readers share: a blob in memory that counts what is read of it, and a maker of PNGs."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
import tifffile

from segsvc import plugins
from segsvc.errors import ImageError, ImageErrorKind
from segsvc.plugins import PluginKind
from segsvc.readers import ReadLimits, open_source
from segsvc.types import Box, PixelArray, Source

LIMITS = ReadLimits()
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class MemoryBlob:
    """A `Blob` of bytes; `read_bytes` counts those that were read, `size_bytes` may claim more than there are."""

    def __init__(self, data: bytes, *, size_bytes: int | None = None) -> None:
        self._data = data
        self.size_bytes = len(data) if size_bytes is None else size_bytes
        self.read_bytes = 0
        self.reads_of_all = 0
        self.closed = 0

    def read(self, start: int, stop: int) -> bytes:
        data = self._data[start:stop]
        self.read_bytes += len(data)
        return data

    def read_all(self) -> bytes:
        self.reads_of_all += 1
        self.read_bytes += len(self._data)
        return self._data

    def close(self) -> None:
        self.closed += 1


def opened(data: bytes, limits: ReadLimits = LIMITS, *, name: str | None = None) -> Source:
    """`data` opened by the reader of that name, or by the one that knows its first bytes."""
    if name is None:
        return open_source(MemoryBlob(data), limits)
    source: Source = plugins.load(PluginKind.READER, name).open(MemoryBlob(data), limits)
    return source


def whole(source: Source, *, level: int = 0, frame: int = 0) -> PixelArray:
    """All pixels of a level and frame."""
    size = source.levels[level]
    return source.read(Box(0, 0, size.width_px, size.height_px), level=level, frame=frame)


def pixels(data: bytes) -> PixelArray:
    """All pixels of a picture of one frame."""
    return whole(opened(data))


def error_of(data: bytes, limits: ReadLimits = LIMITS) -> ImageError:
    """The error that opening and reading `data` ends in."""
    try:
        whole(opened(data, limits))
    except ImageError as error:
        return error
    raise LookupError("expected an ImageError, got pixels")


def kind_of(data: bytes, limits: ReadLimits = LIMITS) -> ImageErrorKind:
    return error_of(data, limits).kind


def photo(height_px: int = 40, width_px: int = 56, channels: int = 3, *, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A picture with smooth and rough parts, (h, w, channels) uint8, or (h, w) for one channel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height_px, :width_px]
    waves = np.stack([120 + 70 * np.sin(x / (5 + c)) + 50 * np.cos(y / (4 + c)) for c in range(channels)], axis=-1)
    picture = np.clip(waves + rng.normal(0, 6, waves.shape), 0, 255).astype(np.uint8)
    return picture[..., 0] if channels == 1 else picture


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width_px: int, height_px: int, *, depth: int, colour: int, interlaced: bool = False, extra: bytes = b"",
        rows: bytes | None = None, seed: int = 0) -> bytes:
    """A PNG of random samples with all five filters in turn; `extra` stands before, and `rows` in place of, its rows."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    rng = np.random.default_rng(seed)
    if rows is None:
        rows = b""
        for x0, y0, dx, dy in ADAM7 if interlaced else ((0, 0, 1, 1),):
            across, down = -(-(width_px - x0) // dx), -(-(height_px - y0) // dy)
            row_bytes = (across * samples * depth + 7) // 8
            if across > 0:
                rows += b"".join(bytes([y % 5]) + rng.bytes(row_bytes) for y in range(down))
    header = struct.pack(">IIBBBBB", width_px, height_px, depth, colour, 0, 0, interlaced)
    return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows))
            + png_chunk(b"IEND", b""))


def exif(orientation: int, order: str = "<") -> bytes:
    """A block of EXIF that holds an orientation."""
    return ((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 1)
            + struct.pack(order + "HHIHH", 274, 3, 1, orientation, 0) + bytes(4))


def tiff(picture: npt.NDArray[np.generic], **options: object) -> bytes:
    """A TIFF by tifffile; three channels are RGB unless `photometric` says else."""
    buffer = io.BytesIO()
    if picture.ndim >= 3 and 3 in (picture.shape[-1], picture.shape[-3]) and "photometric" not in options:
        options["photometric"] = "rgb"
    tifffile.imwrite(buffer, picture, **options)
    return buffer.getvalue()
