"""A PNG written row by row, so that memory is bounded by the rows given at once (ISO/IEC 15948)."""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

LEVEL = 6
CHUNK_BYTES = 1 << 18
LARGEST_SIDE_PX = 2**31 - 1


class Colour(IntEnum):
    """PNG's colour types that are written here; how many samples a pixel has."""

    GREY = 0
    RGB_ALPHA = 6

    @property
    def samples(self) -> int:
        return 1 if self is Colour.GREY else 4


class RowFilter(IntEnum):
    """What is stored of a row: its bytes, or their differences to the row above (smaller for photographs)."""

    NONE = 0
    UP = 2


class PngStream:
    """Takes rows from top to bottom and writes them to `file`; `finish` ends the picture."""

    def __init__(self, file: BinaryIO, *, width_px: int, height_px: int, colour: Colour, row_filter: RowFilter,
                 dtype: type[np.uint8] | type[np.uint16] = np.uint8) -> None:
        if not (0 < width_px <= LARGEST_SIDE_PX and 0 < height_px <= LARGEST_SIDE_PX):
            raise ValueError(f"a PNG has 1 to {LARGEST_SIDE_PX} px a side, got {width_px} x {height_px}")
        self._file, self._colour, self._filter = file, colour, row_filter
        self._width_px, self._rows_left = width_px, height_px
        self._dtype = np.dtype(dtype)
        self._above = np.zeros((1, width_px * colour.samples * self._dtype.itemsize), np.uint8)
        self._deflate = zlib.compressobj(LEVEL)
        self._pending = bytearray()
        file.write(b"\x89PNG\r\n\x1a\n")
        header = struct.pack(">IIBBBBB", width_px, height_px, 8 * self._dtype.itemsize, colour.value, 0, 0, 0)
        self._chunk(b"IHDR", header)

    def write_rows(self, rows: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> None:
        """The next rows: (n, width_px, samples) of the picture's dtype. Raises ValueError for any other array."""
        wanted = (self._width_px, self._colour.samples)
        if rows.shape[1:] != wanted or rows.dtype != self._dtype or len(rows) > self._rows_left:
            raise ValueError(f"expected at most {self._rows_left} rows of {wanted} {self._dtype}, "
                             f"got {rows.shape} {rows.dtype}")
        if not len(rows):
            return
        raw = np.ascontiguousarray(rows, self._dtype.newbyteorder(">")).view(np.uint8).reshape(len(rows), -1)
        lines = np.empty((len(rows), raw.shape[1] + 1), np.uint8)
        lines[:, 0] = self._filter
        if self._filter is RowFilter.UP:
            np.subtract(raw, np.concatenate([self._above, raw[:-1]]), out=lines[:, 1:])
            self._above = raw[-1:].copy()
        else:
            lines[:, 1:] = raw
        self._rows_left -= len(rows)
        self._data(self._deflate.compress(lines.data))

    def finish(self) -> None:
        """Writes what is left. Raises ValueError while rows are missing."""
        if self._rows_left:
            raise ValueError(f"expected all rows of the picture, {self._rows_left} are missing")
        self._data(self._deflate.flush(), last=True)
        self._chunk(b"IEND", b"")

    def _data(self, compressed: bytes, *, last: bool = False) -> None:
        self._pending += compressed
        if last or len(self._pending) >= CHUNK_BYTES:
            self._chunk(b"IDAT", bytes(self._pending))
            self._pending.clear()

    def _chunk(self, kind: bytes, data: bytes) -> None:
        checksum = zlib.crc32(data, zlib.crc32(kind))
        self._file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum))
