"""The samples of a box of one page of a TIFF: only the tiles, strips or rows that it touches are read and decoded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from segsvc.readers import ReadLimits
from segsvc.readers.limits import corrupt, decoding, hold_to_limit
from segsvc.readers.ranges import Ranges, joined
from segsvc.readers.tiff_page import Compression, Page, Tag
from segsvc.readers.tiff_segments import decode_segment, segment_bytes, unpack_rows
from segsvc.types import Box, PixelArray

KEPT_BYTES = 64 << 20  # of decoded segments, for boxes that overlap
ROWS_AT_ONCE_BYTES = 8 << 20
RETILE = "Save it in smaller tiles, or raise the limit on decoded bytes."
SMALLER_BOX = "Read smaller boxes, or raise the limit on decoded bytes."


@dataclass(frozen=True, slots=True)
class Segments:
    """A page and where its tiles or strips are: `offsets` and `counts` (n,) uint64, by plane, row and column.

    `is_plain` where they are uncompressed strips, of which single rows can be read.
    """

    page: Page
    offsets: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.uint64]
    is_plain: bool

    @property
    def planes(self) -> int:
        """How many planes hold colour."""
        return self.page.colours if self.page.is_planar else 1

    def span(self, index: int) -> tuple[int, int] | None:
        """First and last byte of a segment, None where the file leaves it out (sparse)."""
        start, size = int(self.offsets[index]), int(self.counts[index])
        return (start, start + size) if size else None


class SegmentCache:
    """Decoded segments, up to `KEPT_BYTES`; the one that was used last goes last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], PixelArray] = OrderedDict()
        self._size_bytes = 0

    def get(self, key: tuple[int, int]) -> PixelArray | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: tuple[int, int], samples: PixelArray) -> None:
        if key in self._kept or samples.nbytes > KEPT_BYTES:
            return
        self._kept[key] = samples
        self._size_bytes += samples.nbytes
        while self._size_bytes > KEPT_BYTES:
            self._size_bytes -= self._kept.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        self._kept.clear()
        self._size_bytes = 0


def find_segments(page: Page, limits: ReadLimits) -> Segments:
    """Where a page's segments are, one of them held to the limit.

    Raises ImageError: TOO_LARGE, or CORRUPT where they are not all in the file.
    """
    is_plain = page.compression is Compression.NONE and not page.is_tiled
    offset_tag = Tag.TILE_OFFSETS if page.is_tiled else Tag.STRIP_OFFSETS
    count_tag = Tag.TILE_COUNTS if page.is_tiled else Tag.STRIP_COUNTS
    what = f"the TIFF of {page.width_px} x {page.height_px} px"
    if is_plain:
        hold_to_limit(page.row_bytes + page.width_px * page.segment_samples * page.dtype.itemsize, limits,
                      what=f"a row of {what}", advice=RETILE)
    else:
        kind = "tile" if page.is_tiled else "strip"
        hold_to_limit(segment_bytes(page), limits, advice=RETILE,
                      what=f"a {kind} of {page.segment_width_px} x {page.segment_height_px} px of {what}")
    size_bytes = page.directory.ranges.size_bytes
    expected = page.across * page.down * (page.samples if page.is_planar else 1)
    hold_to_limit(32 * expected, limits, what=f"the table of the {expected} tiles or strips of {what}", advice=RETILE)
    offsets = page.directory.integers(offset_tag, expected).astype(np.uint64)
    counts = page.directory.integers(count_tag, expected).astype(np.uint64)
    if len(counts) == 0 and page.compression is Compression.NONE:
        whole = page.row_bytes * page.segment_height_px
        counts = np.where(offsets > 0, np.uint64(min(whole, size_bytes)), np.uint64(0))
        if not page.is_tiled and page.height_px % page.segment_height_px:
            counts[page.down - 1::page.down] = page.row_bytes * (page.height_px % page.segment_height_px)
    if len(offsets) < expected or len(counts) < expected:
        raise corrupt(f"{what} is damaged: it names {min(len(offsets), len(counts))} tiles or strips, "
                      f"expected {expected}")
    outside = (counts > 0) & ((offsets > size_bytes) | (counts > np.uint64(size_bytes) - np.minimum(
        offsets, np.uint64(size_bytes))))
    if outside.any():
        raise corrupt(f"{what} is truncated: {int(outside.sum())} of {expected} tiles or strips are not all "
                      f"within its {size_bytes} bytes")
    if not is_plain:
        hold_to_limit(segment_bytes(page) + int(counts.max()), limits, advice=RETILE,
                      what=f"a compressed tile or strip of {what}")
    segments = Segments(page, offsets, counts, is_plain)
    return _one_strip(segments) if is_plain else segments


def _one_strip(segments: Segments) -> Segments:
    """Uncompressed strips that follow each other as one strip a plane, so that rows are read with few requests."""
    page = segments.page
    planes = page.samples if page.is_planar else 1
    strip = np.uint64(page.row_bytes * page.segment_height_px)
    offsets = segments.offsets.reshape(planes, page.down)
    in_one_piece = (np.diff(offsets, axis=1) == strip).all() and (segments.counts > 0).all()
    if page.down == 1 or not in_one_piece:
        return segments
    counts = segments.counts.reshape(planes, page.down).sum(axis=1, dtype=np.uint64)
    return replace(segments, page=replace(page, segment_height_px=page.height_px),
                   offsets=np.ascontiguousarray(offsets[:, 0]), counts=counts)


def read_samples(segments: Segments, box: Box, *, cache: SegmentCache, limits: ReadLimits) -> PixelArray:
    """The samples in `box` (stored px) as (h, w, colours) of the page's dtype; what the file leaves out is 0.

    Raises ImageError: TOO_LARGE for the box's own pixels, CORRUPT for what cannot be decoded.
    """
    page = segments.page
    hold_to_limit(box.area_px * (page.colours * page.dtype.itemsize + page.channels * page.out_dtype.itemsize), limits,
                  what=f"a box of {box.width_px} x {box.height_px} px", advice=SMALLER_BOX)
    samples = np.zeros((box.height_px, box.width_px, page.colours), page.dtype)
    if box.area_px == 0:
        return samples
    if segments.is_plain:
        _read_rows(segments, box, samples)
        return samples
    missing: list[tuple[int, tuple[int, int]]] = []
    for index in _touched(segments, box):
        span = segments.span(index)
        if (kept := cache.get((page.directory.at, index))) is not None:
            _paste(segments, index, kept, box, samples)
        elif span is not None:
            missing.append((index, span))
    for group in joined([span for _, span in missing]):
        start, stop = missing[group[0]][1][0], missing[group[-1]][1][1]
        data = page.directory.ranges.read(start, stop)
        for member in group:
            index, span = missing[member]
            decoded = _decode(segments, index, data[span[0] - start:span[1] - start], limits)
            cache.put((page.directory.at, index), decoded)
            _paste(segments, index, decoded, box, samples)
    return samples


def _touched(segments: Segments, box: Box) -> Iterator[int]:
    """The segments with colour that a box touches."""
    page = segments.page
    for plane in range(segments.planes):
        for row in range(box.y0 // page.segment_height_px, -(-box.y1 // page.segment_height_px)):
            for column in range(box.x0 // page.segment_width_px, -(-box.x1 // page.segment_width_px)):
                yield (plane * page.down + row) * page.across + column


def _place(page: Page, index: int) -> tuple[int, int, int]:
    """Plane, and the first row and column in px, of a segment."""
    plane, within = divmod(index, page.down * page.across)
    row, column = divmod(within, page.across)
    return plane, row * page.segment_height_px, column * page.segment_width_px


def _decode(segments: Segments, index: int, data: bytes, limits: ReadLimits) -> PixelArray:
    page = segments.page
    _, top, left = _place(page, index)
    rows = min(page.segment_height_px, page.height_px - top)
    with decoding(f"tile or strip {index} of the TIFF"):
        decoded = decode_segment(data, page, rows=rows, limits=limits)
    columns = min(page.segment_width_px, page.width_px - left)
    if decoded.shape[0] < rows or decoded.shape[1] < columns or decoded.dtype != page.dtype:
        raise corrupt(f"tile or strip {index} of the TIFF holds {decoded.shape[1]} x {decoded.shape[0]} px of "
                      f"{decoded.dtype}, expected {columns} x {rows} px of {page.dtype}")
    return decoded


def _paste(segments: Segments, index: int, decoded: PixelArray, box: Box, samples: PixelArray) -> None:
    """Copies what a segment has of a box into the samples of the box."""
    page = segments.page
    plane, top, left = _place(page, index)
    y0, y1 = max(box.y0, top), min(box.y1, top + page.segment_height_px)
    x0, x1 = max(box.x0, left), min(box.x1, left + page.segment_width_px)
    inside = decoded[y0 - top:y1 - top, x0 - left:x1 - left]
    target = samples[y0 - box.y0:y1 - box.y0, x0 - box.x0:x1 - box.x0]
    if page.is_planar:
        target[..., plane] = inside[..., 0]
    else:
        target[...] = inside[..., :page.colours]


def _read_rows(segments: Segments, box: Box, samples: PixelArray) -> None:
    """Fills the samples of a box from uncompressed strips, some rows at a time."""
    page = segments.page
    at_once = max(1, ROWS_AT_ONCE_BYTES // page.row_bytes)
    for plane in range(segments.planes):
        y = box.y0
        while y < box.y1:
            strip, first = divmod(y, page.segment_height_px)
            rows = min(box.y1 - y, page.segment_height_px - first, at_once)
            span = segments.span(plane * page.down + strip)
            if span is not None:
                start = span[0] + first * page.row_bytes
                stop = start + rows * page.row_bytes
                if stop > span[1]:
                    raise corrupt(f"strip {strip} of the TIFF is truncated: it has {span[1] - span[0]} bytes")
                _fill(segments, page.directory.ranges, (start, stop), samples[y - box.y0:y - box.y0 + rows],
                      plane=plane, x0=box.x0)
            y += rows


def _fill(segments: Segments, ranges: Ranges, span: tuple[int, int], target: PixelArray, *, plane: int,
          x0: int) -> None:
    """Fills some rows of a box from their bytes."""
    page = segments.page
    data = ranges.read(*span)
    with decoding("a strip of the TIFF"):
        if page.directory.integer(Tag.FILL_ORDER, 1) == 2:
            import imagecodecs

            data = bytes(imagecodecs.bitorder_decode(data))
        rows = unpack_rows(data, page, len(target))[:, x0:x0 + target.shape[1]]
    if page.is_planar:
        target[..., plane] = rows[..., 0]
    else:
        target[...] = rows[..., :page.colours]
