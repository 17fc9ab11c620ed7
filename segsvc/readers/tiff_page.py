"""One picture in a TIFF: what the tags of its directory say, checked for what can be read here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from segsvc.readers.limits import corrupt, unsupported
from segsvc.readers.orientation import TAG_ORIENTATION, UPRIGHT, valid_orientation
from segsvc.readers.tiff_directory import Directory


class Tag(IntEnum):
    """The tags that are read (TIFF 6.0, its supplements, and those of GDAL and Esri)."""

    SUBFILE_TYPE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    DESCRIPTION = 270
    STRIP_OFFSETS = 273
    ORIENTATION = TAG_ORIENTATION
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_COUNTS = 279
    X_RESOLUTION = 282
    PLANAR = 284
    T4_OPTIONS = 292
    PREDICTOR = 317
    COLOUR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_COUNTS = 325
    SUB_DIRECTORIES = 330
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    YCBCR_SUBSAMPLING = 530
    IMAGE_DEPTH = 32997
    UIC1 = 33628
    LERC_PARAMETERS = 50674
    DNG_VERSION = 50706
    NDPI_VERSION = 65420


class Compression(IntEnum):
    """The compressions that are read."""

    NONE = 1
    CCITT_RLE = 2
    CCITT_FAX3 = 3
    CCITT_FAX4 = 4
    LZW = 5
    JPEG = 7
    DEFLATE = 8
    PACKBITS = 32773
    DEFLATE_OLD = 32946
    JPEG2000_YCBCR = 33003  # Aperio
    JPEG2000_LOSSY = 33004  # Bio-Formats
    JPEG2000_RGB = 33005  # Aperio
    JPEG_OTHER = 33007  # Bio-Formats
    JPEG2000 = 34712
    LERC = 34887
    LZMA = 34925
    ZSTD_OLD = 34926
    WEBP_OLD = 34927
    ZSTD = 50000
    WEBP = 50001
    JPEG_XL = 50002
    JPEG_XL_DNG = 52546


JPEGS = frozenset({Compression.JPEG, Compression.JPEG_OTHER})
JPEG2000S = frozenset({Compression.JPEG2000_YCBCR, Compression.JPEG2000_LOSSY, Compression.JPEG2000_RGB,
                       Compression.JPEG2000})
CCITTS = frozenset({Compression.CCITT_RLE, Compression.CCITT_FAX3, Compression.CCITT_FAX4})
PICTURES = JPEGS | JPEG2000S | {Compression.WEBP, Compression.WEBP_OLD, Compression.JPEG_XL, Compression.JPEG_XL_DNG}
UNREAD_COMPRESSIONS = {6: "JPEG of the old style", 22610: "JPEG XR", 34892: "lossy DNG", 34933: "PNG", 34934: "JPEG XR"}


class Photometric(IntEnum):
    """What the samples mean, as far as it is read."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    CMYK = 5
    YCBCR = 6


UNREAD_PHOTOMETRICS = {4: "a mask", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32803: "raw colour filters",
                       32844: "LogL", 32845: "LogLuv", 34892: "linear raw"}
COLOURS = {Photometric.WHITE_IS_ZERO: 1, Photometric.BLACK_IS_ZERO: 1, Photometric.RGB: 3, Photometric.PALETTE: 1,
           Photometric.CMYK: 4, Photometric.YCBCR: 3}
SAMPLE_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
REDUCED, MASK = 1, 4  # bits of SUBFILE_TYPE
MAX_SAMPLES = 65535
MAX_SUB_DIRECTORIES = 64


@dataclass(frozen=True, slots=True)
class Page:
    """One picture of a TIFF. `dtype` is that of its samples in memory, `out_dtype` that of its pixels.

    A segment is a tile or a strip of `segment_width_px` x `segment_height_px`.
    """

    directory: Directory
    width_px: int
    height_px: int
    samples: int
    bits: int
    dtype: np.dtype[np.generic]
    photometric: Photometric
    compression: Compression
    predictor: int
    is_planar: bool
    is_tiled: bool
    segment_width_px: int
    segment_height_px: int
    orientation: int

    @property
    def colours(self) -> int:
        """How many of the samples are colour; those after them (alpha) are dropped."""
        return COLOURS[self.photometric]

    @property
    def channels(self) -> int:
        return 3 if self.colours > 1 or self.photometric is Photometric.PALETTE else 1

    @property
    def out_dtype(self) -> np.dtype[np.generic]:
        if self.photometric is Photometric.PALETTE:
            return np.dtype(np.uint8)
        return self.dtype if self.dtype in (np.uint8, np.uint16) else np.dtype(np.float32)

    @property
    def segment_samples(self) -> int:
        return 1 if self.is_planar else self.samples

    @property
    def across(self) -> int:
        return -(-self.width_px // self.segment_width_px)

    @property
    def down(self) -> int:
        return -(-self.height_px // self.segment_height_px)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a segment."""
        return (self.segment_width_px * self.segment_samples * self.bits + 7) // 8

    def describe(self) -> str:
        return f"{self.width_px} x {self.height_px} px, {self.channels} channels of {self.out_dtype}"


def read_page(directory: Directory) -> Page:
    """What a directory describes. Raises ImageError: CORRUPT, or UNSUPPORTED for what is not read."""
    _refuse_vendors(directory)
    width_px, height_px = directory.integer(Tag.WIDTH, 0), directory.integer(Tag.HEIGHT, 0)
    samples = directory.integer(Tag.SAMPLES, 1)
    if width_px <= 0 or height_px <= 0 or not 0 < samples <= MAX_SAMPLES:
        raise corrupt(f"expected a TIFF of at least 1 x 1 px and 1 sample, got {width_px} x {height_px} px, "
                      f"{samples} samples")
    compression = _compression(directory)
    bits, dtype = _sample_type(directory, samples)
    photometric = _photometric(directory, samples)
    is_tiled = Tag.TILE_WIDTH in directory
    if is_tiled:
        segment = directory.integer(Tag.TILE_WIDTH, 0), directory.integer(Tag.TILE_HEIGHT, 0)
    else:
        segment = width_px, min(height_px, directory.integer(Tag.ROWS_PER_STRIP, height_px))
    if min(segment) <= 0:
        raise corrupt(f"the TIFF is damaged: its tiles or strips are {segment[0]} x {segment[1]} px")
    page = Page(
        directory, width_px, height_px, samples, bits, dtype, photometric, compression,
        predictor=directory.integer(Tag.PREDICTOR, 1), is_planar=samples > 1 and directory.integer(Tag.PLANAR, 1) == 2,
        is_tiled=is_tiled, segment_width_px=segment[0], segment_height_px=segment[1],
        orientation=valid_orientation(directory.integer(Tag.ORIENTATION, UPRIGHT)))
    _check(page)
    return page


def _refuse_vendors(directory: Directory) -> None:
    """Raises ImageError(UNSUPPORTED) for files that are a TIFF by form alone: their pictures would come out wrong."""
    for tag, name in ((Tag.DNG_VERSION, "a camera's raw file (DNG)"), (Tag.NDPI_VERSION, "a Hamamatsu slide (NDPI)"),
                      (Tag.UIC1, "a MetaMorph stack (STK)")):
        if tag in directory:
            raise unsupported(f"the TIFF is {name}, which is not read; convert it to OME-TIFF or a plain TIFF")
    if (depth := directory.integer(Tag.IMAGE_DEPTH, 1)) > 1:
        raise unsupported(f"the TIFF is a volume of {depth} planes in one page, which is not read; save a page a plane")


def _compression(directory: Directory) -> Compression:
    value = directory.integer(Tag.COMPRESSION, 1)
    try:
        return Compression(value)
    except ValueError:
        name = UNREAD_COMPRESSIONS.get(value, "not known")
        raise unsupported(f"the TIFF's compression {value} ({name}) is not read; "
                          "save it with deflate, LZW, JPEG or no compression") from None


def _sample_type(directory: Directory, samples: int) -> tuple[int, np.dtype[np.generic]]:
    """Bits a sample, and the type of the samples in memory."""
    all_bits = {int(bits) for bits in directory.integers(Tag.BITS, samples)} or {1}
    formats = {int(value) for value in directory.integers(Tag.SAMPLE_FORMAT, samples)} or {1}
    if len(all_bits) > 1 or len(formats) > 1:
        raise unsupported(f"the TIFF mixes samples of different types ({sorted(all_bits)} bits), which is not read")
    bits, kind = all_bits.pop(), SAMPLE_KINDS.get(formats.pop(), "?")
    if kind == "u" and 1 <= bits <= 16:
        return bits, np.dtype(np.uint8 if bits <= 8 else np.uint16)
    if (kind, bits) in {("u", 32), ("i", 8), ("i", 16), ("i", 32), ("f", 16), ("f", 32), ("f", 64)}:
        return bits, np.dtype(f"{kind}{bits // 8}")
    name = {"u": "uint", "i": "int", "f": "float"}.get(kind, "complex ")
    raise unsupported(f"the TIFF has samples of type {name}{bits}, which is not read; "
                      "save it as uint8, uint16 or float32")


def _photometric(directory: Directory, samples: int) -> Photometric:
    guess = Photometric.RGB if samples in (3, 4) else Photometric.BLACK_IS_ZERO
    value = directory.integer(Tag.PHOTOMETRIC, guess)
    try:
        photometric = Photometric(value)
    except ValueError:
        name = UNREAD_PHOTOMETRICS.get(value, "not known")
        raise unsupported(f"the TIFF's colours (photometric {value}: {name}) are not read; "
                          "save it as grey or RGB") from None
    colours = COLOURS[photometric]
    if samples < colours:
        raise corrupt(f"the TIFF is damaged: {photometric.name} needs {colours} samples, got {samples}")
    if samples - colours > 1 and colours == 1:
        raise unsupported(f"the TIFF has {samples} channels in a pixel, expected 1 (grey) or 3 (RGB); "
                          "save a page a channel")
    return photometric


def _check(page: Page) -> None:
    """Raises ImageError where tags contradict each other or go together in a way that is not read."""
    directory, photometric, compression = page.directory, page.photometric, page.compression
    is_byte = page.bits == 8 and page.dtype == np.uint8
    if photometric is Photometric.PALETTE and page.dtype != np.uint8:
        raise unsupported(f"the TIFF has a palette of {page.bits} bits, expected at most 8")
    if photometric in (Photometric.WHITE_IS_ZERO, Photometric.CMYK) and page.dtype.kind != "u":
        raise unsupported(f"the TIFF is {photometric.name} of type {page.dtype}, expected uint8 or uint16")
    if photometric is Photometric.CMYK and (page.bits not in (8, 16) or directory.integer(Tag.INK_SET, 1) != 1):
        raise unsupported("the TIFF is of inks other than CMYK of 8 or 16 bits, which is not read; save it as RGB")
    if photometric is Photometric.YCBCR and compression not in PICTURES:
        subsampling = tuple(int(value) for value in directory.integers(Tag.YCBCR_SUBSAMPLING, 2)) or (2, 2)
        if not is_byte or subsampling != (1, 1):
            raise unsupported(f"the TIFF is YCbCr of {page.bits} bits, sampled {subsampling}, without JPEG, "
                              "which is not read; save it as RGB")
    if photometric is Photometric.YCBCR and page.is_planar:
        raise unsupported("the TIFF is YCbCr in planes, which is not read; save it as RGB")
    if compression in JPEGS and not is_byte:
        raise unsupported(f"the TIFF holds JPEG of {page.bits} bits, expected 8")
    if compression in CCITTS and (page.bits != 1 or page.samples != 1):
        raise corrupt("the TIFF is damaged: fax compression is for 1 bit a pixel")
    if page.predictor not in (1, 2, 3):
        raise unsupported(f"the TIFF's predictor {page.predictor} is not read; save it without one")
    if page.predictor != 1 and compression not in PICTURES and page.bits not in (8, 16, 32, 64):
        raise unsupported(f"the TIFF has a predictor at {page.bits} bits a sample, which is not read")
    if page.predictor == 3 and page.dtype.kind != "f":
        raise corrupt("the TIFF is damaged: it has a floating-point predictor without floating-point samples")
