"""JPEG: baseline and progressive, grey, colour and CMYK, 8 bits a sample."""

from __future__ import annotations

import numpy as np

from segsvc.readers import ReadLimits
from segsvc.readers.decoded import DecodedSource, Picture, as_stored
from segsvc.readers.jpeg_codec import cmyk_to_rgb, decode_jpeg, jpeg_header
from segsvc.readers.limits import hold_to_limit, read_whole
from segsvc.types import Blob, PixelArray, Source


class JpegReader:
    """Opens JPEG files by libjpeg-turbo; grey stays 1 channel, colour is RGB, CMYK and YCCK become RGB.

    CMYK is converted without a colour profile, and read as Adobe writes it, inverted, where the Adobe segment is
    there. Bytes after the end of the picture are ignored; anything that libjpeg warns of is an error.
    """

    name = "jpeg"
    endings = (".jpg", ".jpeg", ".jpe", ".jfif")

    def sniff(self, head: bytes) -> bool:
        """Whether a file that starts with these bytes is a JPEG."""
        return head.startswith(b"\xff\xd8\xff")

    def open(self, blob: Blob, limits: ReadLimits) -> Source:
        """The picture, not yet decoded. Raises ImageError: CORRUPT, UNSUPPORTED or TOO_LARGE."""
        data = read_whole(blob, limits, format_name="JPEG")
        header = jpeg_header(data)
        channels = 1 if header.components == 1 else 3
        hold_to_limit(header.decode_bytes, limits,
                      what=f"a JPEG of {header.width_px} x {header.height_px} px, {header.components} components")

        def cmyk(samples: PixelArray) -> PixelArray:
            return cmyk_to_rgb(255 - samples.astype(np.uint8, copy=False) if header.has_adobe else samples)

        picture = Picture(
            format_name="JPEG", width_px=header.width_px, height_px=header.height_px, channels=channels,
            dtype=np.dtype(np.uint8), decode=lambda: decode_jpeg(data, header),
            to_pixels=cmyk if header.components == 4 else as_stored, orientation=header.orientation)
        return DecodedSource(picture, blob)

    def example(self) -> bytes:
        """A colour JPEG of 32 x 24 px: two crossing ramps."""
        import simplejpeg

        ramp = np.empty((24, 32, 3), np.uint8)
        ramp[..., 0] = np.arange(32) * 8
        ramp[..., 1] = np.arange(24)[:, None] * 10
        ramp[..., 2] = 128
        return bytes(simplejpeg.encode_jpeg(ramp, quality=90, colorspace="RGB", colorsubsampling="420"))


PLUGIN = JpegReader()
