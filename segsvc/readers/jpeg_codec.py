"""JPEG bytes to samples: the header read here, the pixels by libjpeg-turbo; used by the JPEG and the TIFF reader.

Markers are those of ITU-T T.81, annex B; the Adobe segment is that of Adobe's technical note 5116.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segsvc.readers.limits import corrupt, unsupported
from segsvc.readers.orientation import UPRIGHT, exif_orientation

START = b"\xff\xd8"
APP0, APP1, APP14 = 0xE0, 0xE1, 0xEE
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
DECODED_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})  # baseline, extended and progressive; Huffman, arithmetic
PROGRESSIVE_FRAMES = frozenset({0xC2, 0xCA})
MAX_SCANS = 100  # each scan walks the whole picture; encoders write about ten
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What stands before the first scan. `sampling` is (horizontal, vertical) factors, one pair a component."""

    width_px: int
    height_px: int
    sampling: tuple[tuple[int, int], ...]
    scan_at: int  # of the first scan's marker
    is_buffered: bool  # several scans: the decoder holds the coefficients of the whole picture
    has_jfif: bool
    has_adobe: bool
    orientation: int

    @property
    def components(self) -> int:
        return len(self.sampling)

    @property
    def decode_bytes(self) -> int:
        """What decoding takes: the samples, and two bytes a coefficient where the decoder holds them all."""
        need = self.width_px * self.height_px * self.components
        if self.is_buffered:
            across, down = (max(factors) for factors in zip(*self.sampling, strict=True))
            units = -(-self.width_px // (8 * across)) * -(-self.height_px // (8 * down))
            need += 2 * 64 * units * sum(h * v for h, v in self.sampling)
        return need


def jpeg_header(data: bytes) -> JpegHeader:
    """The header of a JPEG. Raises ImageError: CORRUPT, or UNSUPPORTED for a process that is not decoded here."""
    if not data.startswith(START):
        raise corrupt(f"expected a JPEG, got bytes that start with {data[:4]!r}")
    at = len(START)
    frame: tuple[int, bytes] | None = None
    has_jfif = has_adobe = False
    orientation = UPRIGHT
    while True:
        marker, at = _marker(data, at)
        if marker in _ALONE:
            continue
        body = _body(data, at)
        if marker == START_OF_SCAN:
            break
        if marker == END_OF_IMAGE:
            raise corrupt("the JPEG ends before its picture begins")
        if marker in FRAME_MARKERS:
            if frame is not None:
                raise unsupported("the JPEG holds a hierarchy of pictures, which is not read; save it as a plain JPEG")
            frame = marker, body
        elif marker == APP0 and body.startswith(b"JFIF"):
            has_jfif = True
        elif marker == APP1 and body.startswith(b"Exif\x00\x00"):
            orientation = exif_orientation(body)
        elif marker == APP14 and body.startswith(b"Adobe"):
            has_adobe = True
        at += 2 + len(body)
    if frame is None:
        raise corrupt("the JPEG has a scan but says nothing of its size")
    width_px, height_px, sampling = _frame(*frame)
    return JpegHeader(width_px, height_px, sampling, at - 2,
                      frame[0] in PROGRESSIVE_FRAMES or (len(body) > 0 and body[0] < len(sampling)),
                      has_jfif, has_adobe, orientation)


def _marker(data: bytes, at: int) -> tuple[int, int]:
    """The marker at `at`, after any fill bytes, and where it ends."""
    if data[at:at + 1] != b"\xff":
        raise corrupt(f"the JPEG is truncated or damaged: expected a marker at byte {at}, got {data[at:at + 2]!r}")
    while data[at:at + 1] == b"\xff":
        at += 1
    if at >= len(data):
        raise corrupt("the JPEG is truncated: it ends before its picture begins")
    return data[at], at + 1


def _body(data: bytes, at: int) -> bytes:
    """What a segment holds, without the two bytes of its length at `at`."""
    length = int.from_bytes(data[at:at + 2], "big")
    if length < 2 or at + length > len(data):
        raise corrupt("the JPEG is truncated or damaged: a segment of its header ends after the file")
    return data[at + 2:at + length]


def _frame(marker: int, body: bytes) -> tuple[int, int, tuple[tuple[int, int], ...]]:
    """Width, height and sampling factors from the body of a start-of-frame segment (T.81, B.2.2)."""
    if len(body) < 6:
        raise corrupt("the JPEG is damaged: the segment with its size is too short")
    precision, height_px, width_px, components = struct.unpack_from(">BHHB", body)
    if marker not in DECODED_FRAMES:
        raise unsupported(f"the JPEG is lossless or hierarchical (process 0x{marker:02x}), which is not read; "
                          "save it as a baseline JPEG or a PNG")
    if precision != 8:
        raise unsupported(f"expected a JPEG of 8 bits a sample, got {precision}; save it as a PNG or TIFF of 16 bits")
    if width_px == 0 or height_px == 0:
        raise corrupt(f"expected a JPEG of at least 1 x 1 px, got {width_px} x {height_px}")
    if components not in (1, 3, 4):
        raise unsupported(f"expected a JPEG of 1, 3 or 4 components, got {components}")
    if len(body) < 6 + 3 * components:
        raise corrupt("the JPEG is damaged: its components are not all described")
    factors = tuple((body[i] >> 4, body[i] & 15) for i in range(7, 7 + 3 * components, 3))
    if not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in factors):
        raise corrupt(f"the JPEG is damaged: sampling factors are 1 to 4, got {factors}")
    return width_px, height_px, factors


def decode_jpeg(data: bytes, header: JpegHeader) -> npt.NDArray[np.uint8]:
    """The samples (h, w, S): 1 grey, 3 RGB, 4 CMYK as stored. Strict: whatever libjpeg warns of is an error.

    Raises ImageError for too many scans, and whatever the decoder raises.
    """
    import simplejpeg

    if header.is_buffered:
        _hold_scans(data, header.scan_at)
    space = {1: "GRAY", 3: "RGB", 4: "CMYK"}[header.components]
    try:
        decoded: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace=space)
    except ValueError as error:
        if "subsampling" not in str(error):
            raise
        return _decode_rare_sampling(data, header)
    return decoded


def _decode_rare_sampling(data: bytes, header: JpegHeader) -> npt.NDArray[np.uint8]:
    """The samples by Pillow, which knows every chroma sampling; it refuses truncated files too."""
    from PIL import JpegImagePlugin

    with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as picture:
        samples = np.asarray(picture)
    if header.components == 4 and header.has_adobe:
        samples = 255 - samples  # Pillow undoes Adobe's inversion, libjpeg does not
    return samples.reshape(*samples.shape[:2], -1)


def _hold_scans(data: bytes, scan_at: int) -> None:
    """Raises ImageError where a picture is sent in more scans than any encoder writes: a way to burn hours."""
    scans, at = 0, scan_at
    while (found := _NEXT_MARKER.search(data, at)) is not None and data[found.end() - 1] != END_OF_IMAGE:
        scans += data[found.end() - 1] == START_OF_SCAN
        if scans > MAX_SCANS:
            raise unsupported(f"expected a JPEG of at most {MAX_SCANS} scans; save it as a baseline JPEG")
        at = found.end() + max(2, int.from_bytes(data[found.end():found.end() + 2], "big"))


def cmyk_to_rgb(cmyk: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """RGB (h, w, 3) of CMYK (h, w, 4), uint8 or uint16, 0 = no ink: R = (1 - C)(1 - K), rounded to nearest."""
    full = 255 if cmyk.dtype == np.uint8 else 65535
    paper = full - cmyk.astype(np.uint64)
    return ((paper[..., :3] * paper[..., 3:] + full // 2) // full).astype(cmyk.dtype)
