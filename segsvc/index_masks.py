"""Index masks as images: what value each px holds, as it is stored."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from segsvc.errors import ImageError, ImageErrorKind
from segsvc.loaded import BytesBlob
from segsvc.readers import HEAD_BYTES, ReadLimits, opened
from segsvc.readers.png import SIGNATURE, Colour, PngHeader, png_header
from segsvc.stores import store_of
from segsvc.types import Blob, Box, ImageRef

IndexArray = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_COLOUR_AT, _HEADER, _SUM = 25, slice(12, 29), slice(29, 33)  # in a PNG


def read_index_mask(ref: ImageRef, limits: ReadLimits) -> IndexArray:
    """The values (h, w), uint8 or uint16, of a mask's px.

    Those of a palette PNG are the palette's indices, whatever colours it gives them; those of a PNG of fewer than 8 bits
    are not spread over 0..255. Raises ImageError, UNSUPPORTED for an image that has no such values.
    """
    blob: Blob = store_of(ref.uri).open(ref)
    factor = 1
    if blob.read(0, HEAD_BYTES).startswith(SIGNATURE):
        try:
            data = blob.read_all()
        finally:
            blob.close()
        header = png_header(data)
        factor = _spread(header)
        blob = BytesBlob(_without_palette(data) if header.colour is Colour.PALETTE else data)
    with opened(blob, limits) as source:
        if source.frames != 1 or source.channels != 1 or source.dtype not in (np.uint8, np.uint16):
            raise ImageError(ImageErrorKind.UNSUPPORTED,
                             "expected a mask of one frame and one channel of 8 or 16 bit, grey or (PNG) with a palette; "
                             f"got {source.channels} channels of {source.dtype} in frames: {source.frames}")
        values: Any = source.read(Box(0, 0, source.width_px, source.height_px))[..., 0]
    indices: IndexArray = values if factor == 1 else values // np.uint8(factor)
    return indices


def _spread(header: PngHeader) -> int:
    """By which factor the reader of PNGs multiplies grey values of few bits."""
    return 255 // ((1 << header.depth) - 1) if header.depth < 8 else 1


def _without_palette(data: bytes) -> bytes:
    """A palette PNG as a grey one: the samples are stored alike, and so its px are the indices."""
    changed = bytearray(data)
    changed[_COLOUR_AT] = Colour.GREY
    changed[_SUM] = zlib.crc32(changed[_HEADER]).to_bytes(4, "big")
    return bytes(changed)
