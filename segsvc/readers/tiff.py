"""TIFF and BigTIFF: any size, read by boxes; pages as frames, smaller copies as levels.

The directories are parsed here and the segments decoded by imagecodecs, rather than both by tifffile, because the
file may be hostile: here each count and offset is checked against the file and the limit before anything is
allocated, and a damaged page is an error instead of a page less.
"""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from dataclasses import replace

import numpy as np

from segsvc.readers import ReadLimits
from segsvc.readers.limits import corrupt, decoding, unsupported
from segsvc.readers.orientation import check_box, oriented, oriented_size, stored_box
from segsvc.readers.ranges import Ranges
from segsvc.readers.tiff_boxes import SegmentCache, Segments, find_segments, read_samples
from segsvc.readers.tiff_directory import read_directory, read_layout
from segsvc.readers.tiff_page import Compression, Page, Photometric, Tag, read_page
from segsvc.readers.tiff_pixels import to_pixels
from segsvc.readers.tiff_scale import imagej_images, pixel_size_um
from segsvc.readers.tiff_tree import LevelKind, Tree, build_tree, read_chain, sub_directories
from segsvc.types import Blob, Box, Level, PixelArray, Source

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
KEPT_PAGES = 8


class TiffSource:
    """A `Source` over a TIFF. Decoded tiles are kept up to 64 MiB, so that bands that overlap decode them once."""

    def __init__(self, blob: Blob, limits: ReadLimits) -> None:
        self._blob = blob
        self._limits = limits
        self._ranges = Ranges(blob)
        self._layout, first_at = read_layout(self._ranges)
        notes = read_chain(self._ranges, self._layout, first_at)
        first = read_page(read_directory(self._ranges, self._layout, notes[0].at))
        description = first.directory.text(Tag.DESCRIPTION)
        self._tree: Tree = build_tree(notes, first, description)
        self._pages: OrderedDict[tuple[int, int], Segments] = OrderedDict()
        self._cache = SegmentCache()
        self._is_closed = False
        self._first = first
        self._stack = 1  # pictures after each other behind a single directory, as ImageJ writes them from 4 GB on
        self._pixel_size_um = pixel_size_um(first.directory, description)
        segments = self._segments(0, 0)
        if len(notes) == 1 and (images := imagej_images(description)) > 1:
            _check_stack(segments, images)
            self._stack = images
        self._levels = _levels(first, self._tree)

    @property
    def width_px(self) -> int:
        return self._levels[0].width_px

    @property
    def height_px(self) -> int:
        return self._levels[0].height_px

    @property
    def frames(self) -> int:
        return len(self._tree.frames) * self._stack

    @property
    def levels(self) -> tuple[Level, ...]:
        return self._levels

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self._first.out_dtype

    @property
    def channels(self) -> int:
        return self._first.channels

    @property
    def pixel_size_um(self) -> float | None:
        return self._pixel_size_um

    @property
    def in_parts(self) -> bool:
        segments = self._segments(0, 0)
        return segments.page.is_tiled or segments.is_plain

    def read(self, box: Box, *, level: int = 0, frame: int = 0) -> PixelArray:
        """The pixels in `box` (px of that level) as (h, w, C); see `Source.read`."""
        if self._is_closed:
            raise ValueError("this TIFF is closed")
        if not (0 <= level < len(self._levels) and 0 <= frame < self.frames):
            raise ValueError(f"level must be below {len(self._levels)} and frame below {self.frames}, "
                             f"got level {level}, frame {frame}")
        shown, orientation = self._levels[level], self._first.orientation
        check_box(box, width_px=shown.width_px, height_px=shown.height_px)
        inner = stored_box(box, orientation, width_px=shown.width_px, height_px=shown.height_px)
        segments = self._segments(level, frame)
        samples = read_samples(segments, inner, cache=self._cache, limits=self._limits)
        with decoding("the colours of the TIFF"):
            pixels = to_pixels(samples, segments.page)
        return np.ascontiguousarray(oriented(pixels, orientation))

    def close(self) -> None:
        """Frees what is kept and the file; a second time does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._pages.clear()
            self._cache.clear()
            self._blob.close()

    def _segments(self, level: int, frame: int) -> Segments:
        """The page of a frame at a level, with its segments; some are kept."""
        key = level, frame
        if key not in self._pages:
            self._pages[key] = self._find(level, frame)
            if len(self._pages) > KEPT_PAGES:
                self._pages.popitem(last=False)
        self._pages.move_to_end(key)
        return self._pages[key]

    def _find(self, level: int, frame: int) -> Segments:
        if frame and self._stack > 1:
            whole = self._segments(0, 0)
            step = np.uint64(frame * _picture_bytes(whole.page))
            return replace(whole, offsets=whole.offsets + step)
        if level == 0:
            page = self._page(self._tree.frames[frame])
            size = self._first.width_px, self._first.height_px
        else:
            wanted = self._tree.levels[level - 1]
            size = wanted.width_px, wanted.height_px
            if wanted.kind is LevelKind.CHAIN:
                page = self._page(self._tree.copies[frame][wanted.index])
            else:
                below = sub_directories(self._page(self._tree.frames[frame]))
                if wanted.index >= len(below):
                    raise corrupt(f"frame {frame} of the TIFF lacks level {level}, which frame 0 has")
                page = self._page(below[wanted.index])
        if (page.width_px, page.height_px, page.channels, page.out_dtype) != (*size, self.channels, self.dtype):
            raise corrupt(f"frame {frame} of the TIFF is {page.describe()} at level {level}, frame 0 is "
                          f"{size[0]} x {size[1]} px")
        return find_segments(page, self._limits)

    def _page(self, at: int) -> Page:
        return read_page(read_directory(self._ranges, self._layout, at))


def _levels(first: Page, tree: Tree) -> tuple[Level, ...]:
    """The levels as they are shown, the whole picture first."""
    sizes = [(first.width_px, first.height_px), *((level.width_px, level.height_px) for level in tree.levels)]
    return tuple(Level(*oriented_size(*size, first.orientation), first.width_px / size[0]) for size in sizes)


def _picture_bytes(page: Page) -> int:
    return page.row_bytes * page.height_px * (page.samples if page.is_planar else 1)


def _check_stack(segments: Segments, images: int) -> None:
    """Raises ImageError where a stack behind a single directory cannot be read or is not all there."""
    page = segments.page
    if not segments.is_plain or page.segment_height_px != page.height_px:
        raise unsupported(f"the TIFF is an ImageJ stack of {images} pictures with a single page that is compressed or "
                          "in pieces, which is not read; save it with a page a picture")
    end = int(segments.offsets[0]) + images * _picture_bytes(page)
    if end > page.directory.ranges.size_bytes:
        raise corrupt(f"the TIFF is truncated: its {images} pictures need {end} bytes, "
                      f"got {page.directory.ranges.size_bytes}")


class TiffReader:
    """Opens TIFF and BigTIFF files, tiled, in strips or planes, with one page or many.

    8 and 16 bits stay as they are, 1 bit becomes 0 and 255, float and 32 bit integers become float32 (what is not a
    finite number becomes 0). WhiteIsZero is inverted; palettes, CMYK and YCbCr become RGB; alpha is dropped. A tile
    that a sparse file leaves out is 0. Pages that are alike are frames, their smaller copies levels; masks and
    thumbnails are left out.
    """

    name = "tiff"
    endings = (".tif", ".tiff", ".btf", ".tf8", ".svs")

    def sniff(self, head: bytes) -> bool:
        """Whether a file that starts with these bytes is a TIFF or BigTIFF."""
        return head.startswith(MAGICS)

    def open(self, blob: Blob, limits: ReadLimits) -> Source:
        """The file with its directories read. Raises ImageError: CORRUPT, UNSUPPORTED or TOO_LARGE."""
        with decoding("the directories of the TIFF"):
            return TiffSource(blob, limits)

    def example(self) -> bytes:
        """A grey TIFF of 16 bits, 40 x 24 px in deflated tiles of 16 x 16 px."""
        picture = np.zeros((32, 48), "<u2")
        picture[:24, :40] = np.arange(24)[:, None] * 1000 + np.arange(40) * 300
        tiles = [zlib.compress(picture[y:y + 16, x:x + 16].tobytes()) for y in (0, 16) for x in (0, 16, 32)]
        counts = [len(tile) for tile in tiles]
        starts = [8 + sum(counts[:i]) for i in range(len(tiles))]
        tables_at = 8 + sum(counts)
        tags = [(Tag.WIDTH, 4, 1, 40), (Tag.HEIGHT, 4, 1, 24), (Tag.BITS, 4, 1, 16),
                (Tag.COMPRESSION, 4, 1, Compression.DEFLATE), (Tag.PHOTOMETRIC, 4, 1, Photometric.BLACK_IS_ZERO),
                (Tag.SAMPLES, 4, 1, 1), (Tag.TILE_WIDTH, 4, 1, 16), (Tag.TILE_HEIGHT, 4, 1, 16),
                (Tag.TILE_OFFSETS, 4, len(tiles), tables_at), (Tag.TILE_COUNTS, 4, len(tiles), tables_at + 24)]
        directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
        return (struct.pack("<2sHI", b"II", 42, tables_at + 48) + b"".join(tiles)
                + struct.pack("<12I", *starts, *counts) + directory)


PLUGIN = TiffReader()
