"""A picture kept for view: 8-bit tiles at halved sizes, as a tiled TIFF that our own reader opens by ranges.

The file is a TIFF 6.0 with JPEG in its tiles (Adobe's technical note 2) and a page for each size, the largest first.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from segsvc.imaging.overlay import to_display
from segsvc.readers.tiff_page import REDUCED, Compression, Photometric, Tag
from segsvc.types import Box, Source
from segsvc.writers.cutout import frame_range

TILE_PX = 256
QUALITY = 95
_SHORT, _LONG = 3, 4
_HEADER_BYTES = 8
_Entry = tuple[int, int, tuple[int, ...]]  # tag, type, values


def write_pyramid(file: BinaryIO, source: Source, *, frame: int = 0) -> None:
    """Writes a frame of `source`, stretched to 8 bit as a whole, so that every part is seen with the same contrast.

    It is read by rows of tiles from top to bottom; grey stays one channel. Raises ImageError as reading does, and OSError.
    """
    scale = frame_range(source, frame=frame)
    file.write(bytes(_HEADER_BYTES))
    levels = _levels(source.width_px, source.height_px)
    for y0 in range(0, source.height_px, TILE_PX):
        band = Box(0, y0, source.width_px, min(y0 + TILE_PX, source.height_px))
        shown = to_display(source.read(band, frame=frame), value_range=scale)
        _take(levels, shown[:, :, :source.channels], file)
    first_at = _write_directories(file, levels, source.channels)
    file.seek(0)
    file.write(struct.pack("<2sHI", b"II", 42, first_at))


@dataclass(slots=True)
class _SizeLevel:
    """One size: its tiles as far as they are written, and rows that wait until they fill tiles."""

    width_px: int
    height_px: int
    offsets: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    rows_seen: int = 0
    waiting: list[npt.NDArray[np.uint8]] = field(default_factory=list)


def _levels(width_px: int, height_px: int) -> list[_SizeLevel]:
    """Halved, rounded up, until one tile holds all."""
    levels = [_SizeLevel(width_px, height_px)]
    while max(width_px, height_px) > TILE_PX:
        width_px, height_px = -(-width_px // 2), -(-height_px // 2)
        levels.append(_SizeLevel(width_px, height_px))
    return levels


def _take(levels: list[_SizeLevel], rows: npt.NDArray[np.uint8], file: BinaryIO) -> None:
    """Takes further rows (h, width, C) of the first of `levels`, and hands the others what they have of them."""
    level = levels[0]
    level.waiting.append(rows)
    level.rows_seen += rows.shape[0]
    is_full = sum(len(each) for each in level.waiting) >= TILE_PX
    if not (is_full or level.rows_seen == level.height_px):
        return
    band = level.waiting[0] if len(level.waiting) == 1 else np.concatenate(level.waiting)
    level.waiting = []
    _write_tiles(level, band, file)
    if len(levels) > 1:
        _take(levels[1:], _halved(band), file)


def _halved(band: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(h, w, C) -> half of it, rounded up: each px is the mean of four; the last row and column are repeated."""
    height, width, channels = band.shape
    even = np.pad(band, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else band
    size = even.shape[1] // 2, even.shape[0] // 2
    return np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_AREA), np.uint8).reshape(size[1], size[0], channels)


def _write_tiles(level: _SizeLevel, band: npt.NDArray[np.uint8], file: BinaryIO) -> None:
    missing = TILE_PX - band.shape[0], -band.shape[1] % TILE_PX
    whole = np.pad(band, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge") if any(missing) else band
    for x0 in range(0, whole.shape[1], TILE_PX):
        data = encoded(whole[:, x0:x0 + TILE_PX], quality=QUALITY)
        level.offsets.append(file.tell())
        level.counts.append(len(data))
        file.write(data)


def encoded(pixels: npt.NDArray[np.uint8], *, quality: int) -> bytes:
    """A JPEG of (h, w, 1 or 3) uint8, grey or RGB, every px with its own colour."""
    import simplejpeg

    space = "GRAY" if pixels.shape[2] == 1 else "RGB"
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality, colorspace=space,
                                        colorsubsampling="Gray" if space == "GRAY" else "444"))


def _write_directories(file: BinaryIO, levels: list[_SizeLevel], channels: int) -> int:
    """Writes the pages, each pointing at the next; where the first is."""
    directories = [_entries(level, channels, is_reduced=number > 0) for number, level in enumerate(levels)]
    at = first_at = _even(file)
    for number, entries in enumerate(directories):
        body, length = _directory(entries, at, is_last=number + 1 == len(directories))
        file.write(body)
        at += length
    return first_at


def _even(file: BinaryIO) -> int:
    if file.tell() % 2:
        file.write(b"\0")
    return file.tell()


def _entries(level: _SizeLevel, channels: int, *, is_reduced: bool) -> list[_Entry]:
    colour = Photometric.BLACK_IS_ZERO if channels == 1 else Photometric.YCBCR
    entries: list[_Entry] = [
        (Tag.SUBFILE_TYPE, _LONG, (REDUCED if is_reduced else 0,)), (Tag.WIDTH, _LONG, (level.width_px,)),
        (Tag.HEIGHT, _LONG, (level.height_px,)), (Tag.BITS, _SHORT, (8,) * channels),
        (Tag.COMPRESSION, _SHORT, (Compression.JPEG,)), (Tag.PHOTOMETRIC, _SHORT, (colour,)),
        (Tag.SAMPLES, _SHORT, (channels,)), (Tag.TILE_WIDTH, _LONG, (TILE_PX,)), (Tag.TILE_HEIGHT, _LONG, (TILE_PX,)),
        (Tag.TILE_OFFSETS, _LONG, tuple(level.offsets)), (Tag.TILE_COUNTS, _LONG, tuple(level.counts))]
    if channels == 3:
        entries.append((Tag.YCBCR_SUBSAMPLING, _SHORT, (1, 1)))
    return entries


def _directory(entries: list[_Entry], at: int, *, is_last: bool) -> tuple[bytes, int]:
    """The bytes of a page's directory that begins at `at`, its longer values behind it, and how many they are."""
    values_at = at + 2 + 12 * len(entries) + 4
    table, values = struct.pack("<H", len(entries)), b""
    for tag, kind, numbers in entries:
        raw = struct.pack(f"<{len(numbers)}{'H' if kind == _SHORT else 'I'}", *numbers)
        if len(raw) > 4:
            place = struct.pack("<I", values_at + len(values))
            values += raw + b"\0" * (len(raw) % 2)
        else:
            place = raw.ljust(4, b"\0")
        table += struct.pack("<HHI", tag, kind, len(numbers)) + place
    length = len(table) + 4 + len(values)
    return table + struct.pack("<I", 0 if is_last else at + length) + values, length
