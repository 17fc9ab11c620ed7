"""PNG: every colour type and depth, interlaced or not; after the PNG specification, third edition.

The chunks are walked and their sums checked here; libdeflate inflates into a buffer of exactly the size that the
header promises, and a compiled kernel undoes the row filters in place. That is faster than libpng (which spends more
time in zlib), keeps 16 bits of any colour type, and leaves one C library of a few functions to meet hostile bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from segsvc.readers import ReadLimits
from segsvc.readers.decoded import DecodedSource, Picture
from segsvc.readers.limits import corrupt, hold_to_limit, read_whole, unsupported
from segsvc.readers.orientation import UPRIGHT, exif_orientation
from segsvc.types import Blob, PixelArray, Source

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
WHOLE = ((0, 0, 1, 1),)  # passes are (first column, first row, column step, row step)


class Colour(IntEnum):
    """The colour types of a PNG."""

    GREY = 0
    RGB = 2
    PALETTE = 3
    GREY_ALPHA = 4
    RGB_ALPHA = 6


SAMPLES = {Colour.GREY: 1, Colour.RGB: 3, Colour.PALETTE: 1, Colour.GREY_ALPHA: 2, Colour.RGB_ALPHA: 4}
DEPTHS = {Colour.GREY: (1, 2, 4, 8, 16), Colour.RGB: (8, 16), Colour.PALETTE: (1, 2, 4, 8),
          Colour.GREY_ALPHA: (8, 16), Colour.RGB_ALPHA: (8, 16)}


@dataclass(frozen=True, slots=True)
class PngHeader:
    """The IHDR chunk."""

    width_px: int
    height_px: int
    depth: int
    colour: Colour
    is_interlaced: bool

    @property
    def passes(self) -> tuple[tuple[int, int, int, int], ...]:
        return ADAM7 if self.is_interlaced else WHOLE

    @property
    def pixel_bytes(self) -> int:
        return max(1, SAMPLES[self.colour] * self.depth // 8)

    def pass_size(self, step: tuple[int, int, int, int]) -> tuple[int, int, int]:
        """Width and height of a pass in px, and the bytes of one of its rows without the filter."""
        width_px = -(-(self.width_px - step[0]) // step[2])
        height_px = -(-(self.height_px - step[1]) // step[3])
        return width_px, height_px, (width_px * SAMPLES[self.colour] * self.depth + 7) // 8

    @property
    def inflated_bytes(self) -> int:
        sizes = (self.pass_size(step) for step in self.passes)
        return sum(height_px * (1 + row_bytes) for width_px, height_px, row_bytes in sizes if width_px > 0)

    @property
    def decode_bytes(self) -> int:
        """What decoding takes: the rows, and where pixels are spread anew a second picture."""
        spread = self.is_interlaced or self.depth < 8
        return self.inflated_bytes + spread * self.width_px * self.height_px * self.pixel_bytes


@dataclass(frozen=True, slots=True)
class Chunks:
    """What a file holds beside its header: compressed rows, palette (256, 3) uint8 or None, orientation."""

    compressed: bytes
    palette: npt.NDArray[np.uint8] | None
    orientation: int


class PngReader:
    """Opens PNG files. 16 bits stay uint16, 1 to 4 bits of grey are spread over 0..255.

    Palettes become RGB, or grey where all their entries are grey. Alpha and transparent colours are dropped: colour
    comes as it is stored. Animations are not read.
    """

    name = "png"
    endings = (".png",)

    def sniff(self, head: bytes) -> bool:
        """Whether a file that starts with these bytes is a PNG."""
        return head.startswith(SIGNATURE)

    def open(self, blob: Blob, limits: ReadLimits) -> Source:
        """The picture, not yet decoded. Raises ImageError: CORRUPT, UNSUPPORTED or TOO_LARGE."""
        data = read_whole(blob, limits, format_name="PNG")
        header = png_header(data)
        hold_to_limit(header.decode_bytes, limits,
                      what=f"a PNG of {header.width_px} x {header.height_px} px, "
                           f"{SAMPLES[header.colour]} samples of {header.depth} bits")
        chunks = png_chunks(data)
        if header.colour is Colour.PALETTE and chunks.palette is None:
            raise corrupt("the PNG is damaged: it has no palette, which its colour type needs")
        channels, to_pixels = _pixels(header, chunks.palette)
        return DecodedSource(Picture(
            format_name="PNG", width_px=header.width_px, height_px=header.height_px, channels=channels,
            dtype=np.dtype(np.uint16 if header.depth == 16 else np.uint8),
            decode=lambda: _stored(header, chunks.compressed), to_pixels=to_pixels,
            orientation=chunks.orientation), blob)

    def example(self) -> bytes:
        """A grey PNG of 16 bits, 7 x 5 px."""
        rows = b"".join(b"\0" + (np.arange(7) * 9000 + 500 * y).astype(">u2").tobytes() for y in range(5))
        header = struct.pack(">IIBBBBB", 7, 5, 16, Colour.GREY, 0, 0, 0)
        return SIGNATURE + b"".join(_chunk(kind, body) for kind, body in (
            (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(data: bytes) -> PngHeader:
    """The header of a PNG. Raises ImageError: CORRUPT, or UNSUPPORTED for values that the specification reserves."""
    if len(data) < 33 or not data.startswith(SIGNATURE) or data[8:16] != b"\0\0\0\x0dIHDR":
        raise corrupt("the PNG is truncated or damaged: it does not begin with its header")
    if zlib.crc32(data[12:29]) != int.from_bytes(data[29:33], "big"):
        raise corrupt("the PNG is damaged: the sum of its header is wrong")
    width_px, height_px, depth, colour, compression, filters, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    if not (0 < width_px < 1 << 31 and 0 < height_px < 1 << 31):
        raise corrupt(f"expected a PNG of at least 1 x 1 px, got {width_px} x {height_px}")
    if colour not in SAMPLES or depth not in DEPTHS[Colour(colour)]:
        raise corrupt(f"the PNG is damaged: there is no colour type {colour} of {depth} bits")
    if compression or filters or interlace > 1:
        raise unsupported(f"the PNG has methods that are not in use: {compression}, {filters}, {interlace}")
    return PngHeader(width_px, height_px, depth, Colour(colour), bool(interlace))


def _walk(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and body of each chunk after the header, up to and with IEND; sums checked but for those of comments."""
    view, at = memoryview(data), 33
    while True:
        kind = data[at + 4:at + 8]
        end = at + 8 + int.from_bytes(data[at:at + 4], "big")
        if len(kind) < 4 or end + 4 > len(data):
            raise corrupt(f"the PNG is truncated: its end (IEND) is missing after {len(data)} bytes")
        is_needed = not kind[0] & 0x20
        if is_needed and zlib.crc32(view[at + 4:end]) != int.from_bytes(data[end:end + 4], "big"):
            raise corrupt(f"the PNG is damaged: the sum of its chunk {kind!r} at byte {at} is wrong")
        yield kind, view[at + 8:end]
        if kind == b"IEND":
            return
        at = end + 4


def png_chunks(data: bytes) -> Chunks:
    """What stands after the header. Raises ImageError: CORRUPT, or UNSUPPORTED for animations and unknown chunks."""
    rows: list[memoryview] = []
    palette: npt.NDArray[np.uint8] | None = None
    orientation, before = UPRIGHT, b""
    for kind, body in _walk(data):
        if kind == b"IDAT":
            if rows and before != b"IDAT":
                raise corrupt("the PNG is damaged: its rows are not in one piece")
            rows.append(body)
        elif kind == b"PLTE":
            palette = _palette(body)
        elif kind == b"eXIf":
            orientation = exif_orientation(bytes(body))
        elif kind == b"acTL" and int.from_bytes(body[:4], "big") > 1:
            raise unsupported("the PNG is an animation, which is not read; save its frames as a TIFF of several pages")
        elif not kind[0] & 0x20 and kind != b"IEND":
            raise unsupported(f"the PNG needs a chunk that is not known: {kind!r}")
        before = kind
    if not rows:
        raise corrupt("the PNG is damaged: it holds no rows")
    return Chunks(b"".join(rows), palette, orientation)


def _palette(body: memoryview) -> npt.NDArray[np.uint8]:
    """The palette as (256, 3) RGB; entries that the file leaves out are black."""
    if len(body) % 3 or not 0 < len(body) <= 768:
        raise corrupt(f"the PNG is damaged: its palette has {len(body)} bytes")
    palette = np.zeros((256, 3), np.uint8)
    palette[:len(body) // 3] = np.frombuffer(body, np.uint8).reshape(-1, 3)
    return palette


def _stored(header: PngHeader, compressed: bytes) -> PixelArray:
    """The samples as stored, (h, w, S): uint8, big-endian uint16, or one uint8 per sample of 1 to 4 bits."""
    import imagecodecs

    from segsvc.readers.png_filters import unfilter

    inflated = np.empty(header.inflated_bytes, np.uint8)
    if len(imagecodecs.deflate_decode(compressed, out=inflated.data)) != inflated.size:
        raise corrupt(f"the PNG is truncated: its rows end before {inflated.size} bytes")
    picture, start = np.empty(0, np.uint8), 0
    for step in header.passes:
        width_px, height_px, row_bytes = header.pass_size(step)
        if width_px <= 0 or height_px <= 0:
            continue
        rows = inflated[start:start + height_px * (1 + row_bytes)].reshape(height_px, 1 + row_bytes)
        start += rows.size
        if (wrong := unfilter(rows, header.pixel_bytes)) >= 0:
            raise corrupt(f"the PNG is damaged: row {wrong} has a filter that does not exist")
        samples = _samples(rows[:, 1:], header, width_px)
        if not header.is_interlaced:
            return samples
        if picture.ndim == 1:
            picture = np.empty((header.height_px, header.width_px, samples.shape[2]), samples.dtype)
        picture[step[1]::step[3], step[0]::step[2]] = samples
    return picture


def _samples(rows: npt.NDArray[np.uint8], header: PngHeader, width_px: int) -> PixelArray:
    """Rows (h, bytes) as samples (h, w, S)."""
    if header.depth == 16:
        return rows.view(">u2").reshape(len(rows), width_px, -1)
    if header.depth == 8:
        return rows.reshape(len(rows), width_px, -1)
    if header.depth == 1:
        return np.unpackbits(rows, axis=1, count=width_px)[..., None]
    shifts = np.arange(8 - header.depth, -1, -header.depth, dtype=np.uint8)
    spread = (rows[..., None] >> shifts) & np.uint8((1 << header.depth) - 1)
    return spread.reshape(len(rows), -1)[:, :width_px, None]


def _pixels(header: PngHeader, palette: npt.NDArray[np.uint8] | None) -> tuple[int, Callable[[PixelArray], PixelArray]]:
    """How many channels the picture has, and how a crop of its samples becomes pixels."""
    if header.colour is Colour.PALETTE and palette is not None:
        if bool((palette == palette[:, :1]).all()):
            return 1, lambda crop: palette[crop[..., 0], :1]
        return 3, lambda crop: palette[crop[..., 0]]
    channels = 1 if header.colour in (Colour.GREY, Colour.GREY_ALPHA) else 3
    if header.depth == 16:
        return channels, lambda crop: crop[..., :channels].astype(np.uint16)
    factor = np.uint8(255 // ((1 << header.depth) - 1))
    if factor > 1:
        return channels, lambda crop: crop * factor
    return channels, lambda crop: crop[..., :channels]


PLUGIN = PngReader()
