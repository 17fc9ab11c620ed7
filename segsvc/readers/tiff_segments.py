"""One tile or strip of a TIFF: its compressed bytes to samples.

What a decoder may write is bounded by the size that the directory gives the segment: byte codecs fill a buffer of
that size, and pictures within the TIFF have to say that very size in their own header before they are decoded.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from segsvc.readers import ReadLimits
from segsvc.readers.jpeg_codec import decode_jpeg, jpeg_header
from segsvc.readers.limits import corrupt, hold_to_limit, unsupported
from segsvc.readers.tiff_page import CCITTS, JPEG2000S, JPEGS, PICTURES, Compression, Page, Photometric, Tag
from segsvc.types import PixelArray

ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
ADOBE_YCBCR = ADOBE_RGB[:-1] + b"\x01"
JPEG2000_SIZE = b"\xff\x4f\xff\x51"  # start of codestream, then the SIZ segment
JPEG2000_HEAD_BYTES = 1 << 16
TABLES_BYTES = 1 << 20
ByteDecoder = Callable[[bytes, int], bytes]


def segment_bytes(page: Page) -> int:
    """What decoding one segment takes at most: its samples, and the copy that some decoders work on."""
    samples = page.segment_width_px * page.segment_height_px * page.segment_samples
    working_bytes = 4 if page.compression in PICTURES - JPEGS else page.dtype.itemsize
    return samples * (page.dtype.itemsize + working_bytes)


def decode_segment(data: bytes, page: Page, *, rows: int, limits: ReadLimits) -> PixelArray:
    """The samples of a segment, (`rows`, up to `page.segment_width_px`, `page.segment_samples`) of `page.dtype`.

    `rows` is how many of its rows are within the picture. Raises ImageError, and whatever a decoder raises.
    """
    if page.compression in JPEGS:
        return _jpeg(data, page, rows, limits)
    if page.compression in PICTURES or page.compression is Compression.LERC:
        return _picture(data, page, rows)
    if page.compression in CCITTS:
        return _fax(data, page, rows)
    if page.directory.integer(Tag.FILL_ORDER, 1) == 2:
        data = _reversed_bits(data)
    raw = _byte_decoder(page.compression)(data, page.row_bytes * page.segment_height_px)
    return unpack_rows(raw, page, rows)


def unpack_rows(raw: bytes, page: Page, rows: int) -> PixelArray:
    """Decompressed rows as samples (rows, width, S) of `page.dtype`, predictor undone."""
    width, per_pixel = page.segment_width_px, page.segment_samples
    if len(raw) < rows * page.row_bytes:
        raise corrupt(f"the TIFF is truncated or damaged: a tile or strip has {len(raw)} bytes, "
                      f"expected {rows * page.row_bytes}")
    raw = raw[:rows * page.row_bytes]
    if page.bits not in (8, 16, 32, 64):
        return _unpack_bits(raw, page, rows)
    order = page.directory.layout.order
    if page.predictor == 3:
        return _undo_float_predictor(raw, page, rows)
    samples = np.frombuffer(raw, page.dtype.newbyteorder(order)).reshape(rows, width, per_pixel)
    if page.predictor == 2:
        unsigned = np.dtype(f"u{page.dtype.itemsize}")
        whole = samples.view(unsigned.newbyteorder(order)).astype(unsigned)
        return np.add.accumulate(whole, axis=1, dtype=unsigned).view(page.dtype)
    return samples.astype(page.dtype, copy=False)


def _unpack_bits(raw: bytes, page: Page, rows: int) -> PixelArray:
    """Samples of 1 to 15 bits, each row from a whole byte on."""
    import imagecodecs

    shape = rows, page.segment_width_px, page.segment_samples
    per_row = page.segment_width_px * page.segment_samples
    if page.bits == 1:
        table = np.frombuffer(raw, np.uint8).reshape(rows, page.row_bytes)
        return np.unpackbits(table, axis=1, count=per_row).reshape(shape)
    dtype = page.dtype.newbyteorder(page.directory.layout.order)
    unpacked: PixelArray = imagecodecs.packints_decode(raw, dtype, page.bits, runlen=per_row)
    return unpacked.astype(page.dtype, copy=False).reshape(shape)


def _undo_float_predictor(raw: bytes, page: Page, rows: int) -> PixelArray:
    """Undoes the floating-point predictor (Adobe Photoshop TIFF technical note 3)."""
    size = page.dtype.itemsize
    table = np.frombuffer(raw, np.uint8).reshape(rows, -1, page.segment_samples)
    summed = np.add.accumulate(table, axis=1, dtype=np.uint8)
    # a row holds all highest bytes, then all second ones ...: big-endian numbers, taken apart
    taken_apart = summed.reshape(rows, size, page.segment_width_px, page.segment_samples)
    together = np.ascontiguousarray(np.moveaxis(taken_apart, 1, -1))
    return together.view(page.dtype.newbyteorder(">"))[..., 0].astype(page.dtype)


def _reversed_bits(data: bytes) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.bitorder_decode(data))


def _byte_decoder(compression: Compression) -> ByteDecoder:
    """The decoder (compressed bytes, most bytes to give) of a compression of bytes."""
    import imagecodecs

    if compression is Compression.NONE:
        return lambda data, size: data[:size]
    if compression is Compression.LZMA:
        return lambda data, size: lzma.LZMADecompressor(memlimit=256 << 20).decompress(data, size)
    decode = {
        Compression.LZW: imagecodecs.lzw_decode, Compression.PACKBITS: imagecodecs.packbits_decode,
        Compression.DEFLATE: imagecodecs.deflate_decode, Compression.DEFLATE_OLD: imagecodecs.deflate_decode,
        Compression.ZSTD: imagecodecs.zstd_decode, Compression.ZSTD_OLD: imagecodecs.zstd_decode,
    }[compression]
    return lambda data, size: bytes(decode(data, out=size))


def _jpeg(data: bytes, page: Page, rows: int, limits: ReadLimits) -> PixelArray:
    """A segment of JPEG: the tables of the page and, where the stream does not say it, its colours put in front."""
    start, middle = data[:2], b""
    if tables := page.directory.raw(Tag.JPEG_TABLES, TABLES_BYTES):
        middle = tables[2:].removesuffix(b"\xff\xd9")
    header = jpeg_header(start + middle + data[2:])
    if header.components == 3 and not (header.has_jfif or header.has_adobe):
        middle = (ADOBE_YCBCR if page.photometric is Photometric.YCBCR else ADOBE_RGB) + middle
        header = jpeg_header(start + middle + data[2:])
    _check_picture(page, header.width_px, header.height_px, header.components, rows)
    hold_to_limit(header.decode_bytes, limits, what=f"a JPEG tile of {header.width_px} x {header.height_px} px")
    return decode_jpeg(start + middle + data[2:], header)[:rows]


def _picture(data: bytes, page: Page, rows: int) -> PixelArray:
    """A segment of JPEG 2000, WebP, JPEG XL or LERC, whose size is compared before it is decoded."""
    import imagecodecs

    shape: tuple[int, ...] = (page.segment_height_px if page.is_tiled else rows, page.segment_width_px,
                              page.segment_samples)
    if page.compression in JPEG2000S:
        height_px, width_px, components = _jpeg2000_size(data)
        _check_picture(page, width_px, height_px, components, rows)
        shape = height_px, width_px, components
    out = np.empty(shape if shape[2] > 1 else shape[:2], page.dtype)
    if page.compression in JPEG2000S:
        imagecodecs.jpeg2k_decode(data, out=out)
    elif page.compression in (Compression.WEBP, Compression.WEBP_OLD):
        imagecodecs.webp_decode(data, hasalpha=shape[2] == 4, out=out)
    elif page.compression is Compression.LERC:
        imagecodecs.lerc_decode(_lerc_bytes(data, page), out=out)
    else:
        imagecodecs.jpegxl_decode(data, out=out)
    return out.reshape(shape)[:rows]


def _check_picture(page: Page, width_px: int, height_px: int, components: int, rows: int) -> None:
    """Raises ImageError(CORRUPT) where a picture within the TIFF is not of the size of its tile or strip."""
    fits_across = width_px == page.segment_width_px or (page.across > 0 and width_px == page.width_px
                                                        % page.segment_width_px)
    if not fits_across or height_px not in (page.segment_height_px, rows) or components != page.segment_samples:
        raise corrupt(f"the TIFF is damaged: a tile of {page.segment_width_px} x {page.segment_height_px} px and "
                      f"{page.segment_samples} samples holds a picture of {width_px} x {height_px} px and {components}")


def _jpeg2000_size(data: bytes) -> tuple[int, int, int]:
    """Height, width and components from the SIZ segment of a JPEG 2000 codestream (ITU-T T.800, A.5.1)."""
    at = data.find(JPEG2000_SIZE, 0, JPEG2000_HEAD_BYTES)
    if at < 0 or len(data) < at + 44:
        raise corrupt("the TIFF is damaged: a tile is no JPEG 2000")
    size = [int.from_bytes(data[at + 8 + 4 * i:at + 12 + 4 * i], "big") for i in range(4)]
    return size[1] - size[3], size[0] - size[2], int.from_bytes(data[at + 40:at + 42], "big")


def _lerc_bytes(data: bytes, page: Page) -> bytes:
    """A segment of LERC without the compression that may be around it (the LercParameters tag)."""
    parameters = page.directory.integers(Tag.LERC_PARAMETERS, 2)
    around = int(parameters[1]) if len(parameters) == 2 else 0
    most = 2 * page.segment_width_px * page.segment_height_px * page.segment_samples * page.dtype.itemsize + (1 << 16)
    if around == 0:
        return data
    if around not in (1, 2):
        raise unsupported(f"the TIFF's LERC is compressed again in a way that is not known: {around}")
    return _byte_decoder(Compression.DEFLATE if around == 1 else Compression.ZSTD)(data, most)


def _fax(data: bytes, page: Page, rows: int) -> npt.NDArray[np.uint8]:
    """A segment of fax compression as 0 and 1. It carries no sums: damage within it may go unseen."""
    import imagecodecs

    if page.directory.integer(Tag.FILL_ORDER, 1) == 2:
        data = _reversed_bits(data)
    height, width = rows if not page.is_tiled else page.segment_height_px, page.segment_width_px
    if page.compression is Compression.CCITT_RLE:
        decoded = imagecodecs.ccittrle_decode(data, height, width)
    elif page.compression is Compression.CCITT_FAX3:
        decoded = imagecodecs.ccittfax3_decode(data, height, width,
                                               t4options=page.directory.integer(Tag.T4_OPTIONS, 0))
    else:
        decoded = imagecodecs.ccittfax4_decode(data, height, width)
    return np.asarray(decoded, np.uint8).reshape(height, width, 1)[:rows]
