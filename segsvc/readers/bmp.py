"""BMP: 1, 4 and 8 bits with a palette, 16 to 32 bits of colour; uncompressed.

After Microsoft's description of the device-independent bitmap (BITMAPCOREHEADER, BITMAPINFOHEADER, BITMAPV5HEADER).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segsvc.readers import ReadLimits
from segsvc.readers.decoded import DecodedSource, Picture
from segsvc.readers.limits import corrupt, hold_to_limit, read_whole, unsupported
from segsvc.types import Blob, PixelArray, Source

FILE_HEADER_BYTES = 14
CORE_HEADER_BYTES = 12
HEADER_BYTES = frozenset({CORE_HEADER_BYTES, 40, 52, 56, 64, 108, 124})
PLAIN, RLE8, RLE4, BIT_FIELDS, ALPHA_BIT_FIELDS = 0, 1, 2, 3, 6
COMPRESSIONS = {RLE8: "RLE8", RLE4: "RLE4", 4: "JPEG", 5: "PNG"}
DEFAULT_MASKS = {16: (0x7C00, 0x03E0, 0x001F), 32: (0xFF0000, 0x00FF00, 0x0000FF)}


@dataclass(frozen=True, slots=True)
class BmpHeader:
    """What stands before the pixels. `palette` is (n, 3) uint8 RGB, or None from 16 bits a pixel on."""

    width_px: int
    height_px: int
    is_top_down: bool
    bits: int
    pixels_at: int
    palette: npt.NDArray[np.uint8] | None
    masks: tuple[int, int, int] | None

    @property
    def row_bytes(self) -> int:
        return (self.width_px * self.bits + 31) // 32 * 4


class BmpReader:
    """Opens BMP files. Palettes become RGB, or grey where all their entries are grey; alpha is dropped."""

    name = "bmp"
    endings = (".bmp", ".dib")

    def sniff(self, head: bytes) -> bool:
        """Whether a file that starts with these bytes is a BMP."""
        return head.startswith(b"BM") and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in HEADER_BYTES

    def open(self, blob: Blob, limits: ReadLimits) -> Source:
        """The picture, not yet decoded. Raises ImageError: CORRUPT, UNSUPPORTED or TOO_LARGE."""
        data = read_whole(blob, limits, format_name="BMP")
        header = bmp_header(data)
        need = header.row_bytes * header.height_px
        if header.bits < 8:
            need += header.width_px * header.height_px
        hold_to_limit(need, limits,
                      what=f"a BMP of {header.width_px} x {header.height_px} px, {header.bits} bits a pixel")
        if header.pixels_at + header.row_bytes * header.height_px > len(data):
            raise corrupt(f"the BMP is truncated: expected {header.row_bytes * header.height_px} bytes of pixels "
                          f"from byte {header.pixels_at} on, got a file of {len(data)} bytes")
        channels, to_pixels = _pixels(header)
        return DecodedSource(Picture(
            format_name="BMP", width_px=header.width_px, height_px=header.height_px, channels=channels,
            dtype=np.dtype(np.uint8), decode=lambda: _stored(data, header), to_pixels=to_pixels), blob)

    def example(self) -> bytes:
        """A colour BMP of 5 x 4 px."""
        rows = np.zeros((4, 16), np.uint8)
        rows[:, :15] = np.arange(60).reshape(4, 15) * 4
        size = FILE_HEADER_BYTES + 40
        return (struct.pack("<2sIHHI", b"BM", size + rows.nbytes, 0, 0, size)
                + struct.pack("<IiiHHIIiiII", 40, 5, 4, 1, 24, PLAIN, rows.nbytes, 2835, 2835, 0, 0) + rows.tobytes())


def bmp_header(data: bytes) -> BmpHeader:
    """The header of a BMP. Raises ImageError: CORRUPT, or UNSUPPORTED for compressed ones."""
    size = struct.unpack_from("<I", data, FILE_HEADER_BYTES)[0] if len(data) >= 18 else 0
    if not data.startswith(b"BM") or size not in HEADER_BYTES or len(data) < FILE_HEADER_BYTES + size:
        raise corrupt("the BMP is truncated or damaged: its header is not all there")
    (pixels_at,) = struct.unpack_from("<I", data, 10)
    if size == CORE_HEADER_BYTES:
        width_px, height_px, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression, colours, entry_bytes = PLAIN, 0, 3
    else:
        width_px, height_px, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        (colours,) = struct.unpack_from("<I", data, 46)
        entry_bytes = 4
    if width_px <= 0 or height_px == 0:
        raise corrupt(f"expected a BMP of at least 1 x 1 px, got {width_px} x {height_px}")
    if bits not in (1, 4, 8, 16, 24, 32):
        raise unsupported(f"expected a BMP of 1, 4, 8, 16, 24 or 32 bits a pixel, got {bits}")
    if compression not in (PLAIN, BIT_FIELDS, ALPHA_BIT_FIELDS):
        raise unsupported(f"the BMP is compressed ({COMPRESSIONS.get(compression, compression)}), which is not read; "
                          "save it as a PNG")
    after = FILE_HEADER_BYTES + size
    masks = _masks(data, bits, compression, fields_at=FILE_HEADER_BYTES + 40)
    palette = _palette(data, bits, colours, palette_at=after, entry_bytes=entry_bytes) if bits <= 8 else None
    return BmpHeader(width_px, abs(height_px), height_px < 0, bits, pixels_at, palette, masks)


def _masks(data: bytes, bits: int, compression: int, *, fields_at: int) -> tuple[int, int, int] | None:
    """Which bits of a pixel of 16 or 32 bits are red, green and blue."""
    if bits not in DEFAULT_MASKS:
        if compression != PLAIN:
            raise corrupt(f"the BMP is damaged: it has bit fields at {bits} bits a pixel")
        return None
    if compression == PLAIN:
        return DEFAULT_MASKS[bits]
    if len(data) < fields_at + 12:
        raise corrupt("the BMP is truncated: its bit fields are not all there")
    red, green, blue = struct.unpack_from("<III", data, fields_at)
    for mask in (red, green, blue):
        shifted = mask >> _zeros(mask)
        if shifted == 0 or shifted & (shifted + 1) or mask >= 1 << bits:
            raise corrupt(f"the BMP is damaged: 0x{mask:08x} is no field of a pixel of {bits} bits")
    return red, green, blue


def _palette(data: bytes, bits: int, colours: int, *, palette_at: int, entry_bytes: int) -> npt.NDArray[np.uint8]:
    """The palette as (2 ** bits, 3) RGB; entries that the file leaves out are black."""
    count = min(colours or 1 << bits, 1 << bits)
    raw = data[palette_at:palette_at + count * entry_bytes]
    if len(raw) < count * entry_bytes:
        raise corrupt("the BMP is truncated: its palette is not all there")
    palette = np.zeros((1 << bits, 3), np.uint8)
    palette[:count] = np.frombuffer(raw, np.uint8).reshape(count, entry_bytes)[:, 2::-1]
    return palette


def _stored(data: bytes, header: BmpHeader) -> PixelArray:
    """The samples as stored, top row first: (h, w, 1) indices or packed pixels, or (h, w, 3) BGR."""
    rows = np.frombuffer(data, np.uint8, header.row_bytes * header.height_px, header.pixels_at)
    rows = rows.reshape(header.height_px, header.row_bytes)
    if not header.is_top_down:
        rows = rows[::-1]
    if header.bits == 24:
        return rows[:, :header.width_px * 3].reshape(header.height_px, header.width_px, 3)
    if header.bits >= 16:
        packed = rows.view("<u2" if header.bits == 16 else "<u4")
        return packed[:, :header.width_px, None]
    if header.bits == 8:
        return rows[:, :header.width_px, None]
    if header.bits == 1:
        return np.unpackbits(rows, axis=1, count=header.width_px)[..., None]
    halves = np.empty((header.height_px, header.row_bytes, 2), np.uint8)
    np.right_shift(rows, 4, out=halves[..., 0])
    np.bitwise_and(rows, 15, out=halves[..., 1])
    return halves.reshape(header.height_px, -1)[:, :header.width_px, None]


def _pixels(header: BmpHeader) -> tuple[int, Callable[[PixelArray], PixelArray]]:
    """How many channels the picture has, and how a crop of its samples becomes pixels."""
    palette, masks = header.palette, header.masks
    if palette is not None:
        if bool((palette == palette[:, :1]).all()):
            return 1, lambda crop: palette[crop[..., 0], :1]
        return 3, lambda crop: palette[crop[..., 0]]
    if masks is not None:
        return 3, lambda crop: np.concatenate([_field(crop, mask) for mask in masks], axis=-1)
    return 3, lambda crop: crop[..., ::-1]


def _field(packed: PixelArray, mask: int) -> npt.NDArray[np.uint8]:
    """The bits of `mask` in each packed pixel, scaled to 0..255 and rounded to nearest."""
    full = mask >> _zeros(mask)
    value = (packed.astype(np.uint64) & np.uint64(mask)) >> np.uint64(_zeros(mask))
    return ((value * np.uint64(255) + np.uint64(full // 2)) // np.uint64(full)).astype(np.uint8)


def _zeros(mask: int) -> int:
    """How many zero bits a mask ends in."""
    return (mask & -mask).bit_length() - 1 if mask else 0


PLUGIN = BmpReader()
