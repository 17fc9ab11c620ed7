"""The directories (IFDs) of a TIFF and their tags, classic and BigTIFF; every count and offset is hostile until checked.

After TIFF 6.0, section 2, and the BigTIFF design of AWare Systems. Only the values that are asked for are read, and
no more of them than is asked for.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from segsvc.readers.limits import corrupt
from segsvc.readers.ranges import Ranges

MAX_TAGS = 4096
TEXT_BYTES = 16 << 20  # OME-XML may be long
# numpy's name of each TIFF type: BYTE, ASCII, SHORT, LONG, RATIONAL (two), SBYTE, UNDEFINED, ..., IFD8
TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "2u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "2i4", 11: "f4",
         12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
INTEGER_TYPES = frozenset({1, 3, 4, 6, 8, 9, 13, 16, 17, 18})


@dataclass(frozen=True, slots=True)
class Layout:
    """How a TIFF writes numbers: byte order (`<` or `>`), and 64 bit offsets or 32 bit ones."""

    order: Literal["<", ">"]
    is_big: bool

    @property
    def offset_bytes(self) -> int:
        return 8 if self.is_big else 4

    def integer(self, raw: bytes) -> int:
        return int.from_bytes(raw, "little" if self.order == "<" else "big")


@dataclass(frozen=True, slots=True)
class Entry:
    """A tag: its type, how many values, and the inline value or the offset of them."""

    kind: int
    count: int
    inline: bytes


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory: where it is, its tags, and where the next one is (0: none)."""

    ranges: Ranges
    layout: Layout
    at: int
    entries: dict[int, Entry]
    next_at: int

    def __contains__(self, tag: int) -> bool:
        return tag in self.entries

    def raw(self, tag: int, max_count: int) -> bytes:
        """The bytes of the first `max_count` values of a tag, none where it is missing."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in TYPES:
            return b""
        item_bytes = np.dtype(TYPES[entry.kind]).itemsize
        size = item_bytes * min(entry.count, max_count)
        if item_bytes * entry.count <= self.layout.offset_bytes:
            return entry.inline[:size]
        start = self.layout.integer(entry.inline)
        return self.ranges.read(start, start + size)

    def integers(self, tag: int, max_count: int) -> npt.NDArray[np.integer]:
        """The first `max_count` values of a tag of integers, fewer where it has fewer."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in INTEGER_TYPES:
            return np.empty(0, np.uint64)
        values = np.frombuffer(self.raw(tag, max_count), np.dtype(TYPES[entry.kind]).newbyteorder(self.layout.order))
        return values.astype(np.int64 if values.dtype.kind == "i" else np.uint64)

    def integer(self, tag: int, default: int) -> int:
        """The first value of a tag of integers, `default` where it is missing."""
        values = self.integers(tag, 1)
        return int(values[0]) if len(values) else default

    def rational(self, tag: int) -> float | None:
        """The first value of a tag of rationals or floats, None where it is missing or not a number."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in (5, 10, 11, 12) or not (raw := self.raw(tag, 1)):
            return None
        if entry.kind in (11, 12):
            return float(struct.unpack(self.layout.order + ("f" if entry.kind == 11 else "d"), raw)[0])
        above, below = struct.unpack(self.layout.order + ("II" if entry.kind == 5 else "ii"), raw)
        return above / below if below else None

    def text(self, tag: int) -> str:
        """A tag's text up to its first zero byte, empty where it is missing."""
        return self.raw(tag, TEXT_BYTES).split(b"\0", 1)[0].decode("utf-8", "replace")


def read_layout(ranges: Ranges) -> tuple[Layout, int]:
    """How the TIFF writes numbers, and where its first directory is. Raises ImageError(CORRUPT)."""
    head = ranges.read(0, min(16, ranges.size_bytes))
    order: Literal["<", ">"] = ">" if head.startswith(b"MM") else "<"
    if head[:2] not in (b"II", b"MM") or len(head) < 8:
        raise corrupt("the TIFF is truncated: it ends within its header")
    (magic,) = struct.unpack_from(order + "H", head, 2)
    if magic == 42:
        return Layout(order, False), struct.unpack_from(order + "I", head, 4)[0]
    if magic != 43 or len(head) < 16 or struct.unpack_from(order + "HH", head, 4) != (8, 0):
        raise corrupt("the TIFF is truncated or damaged: its header is not all there")
    return Layout(order, True), struct.unpack_from(order + "Q", head, 8)[0]


def read_directory(ranges: Ranges, layout: Layout, at: int) -> Directory:
    """The directory at byte `at`. Raises ImageError(CORRUPT) where it is not all within the file."""
    count_bytes, entry_bytes = (8, 20) if layout.is_big else (2, 12)
    count = layout.integer(ranges.read(at, at + count_bytes))
    if not 0 < count <= MAX_TAGS:
        raise corrupt(f"the TIFF is damaged: its directory at byte {at} has {count} tags")
    start, stop = at + count_bytes, at + count_bytes + count * entry_bytes
    table = ranges.read(start, stop + layout.offset_bytes)
    form = layout.order + ("HHQ8s" if layout.is_big else "HHI4s")
    entries = {tag: Entry(kind, values, inline)
               for tag, kind, values, inline in struct.iter_unpack(form, table[:stop - start])}
    return Directory(ranges, layout, at, entries, layout.integer(table[stop - start:]))
