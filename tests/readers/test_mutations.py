"""Bytes flipped, cut, put in and overwritten: nothing comes of it but an `ImageError` or pixels as declared.

Memory is held by the system: the process may not map more than a few hundred MB beyond what it started with, so that a
decoder that believes a hostile size fails here.
"""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from segsvc import plugins
from segsvc.errors import ImageError
from segsvc.plugins import PluginKind
from segsvc.readers import ReadLimits
from tests.readers.support import opened, photo, png, png_chunk, whole

LIMITS = ReadLimits(decode_bytes=8 << 20)
ALLOWED_BYTES = 512 << 20
FORMATS = ("bmp", "jpeg", "png", "tiff", "webp")
NUMBERS = [b"\0", b"\xff", b"\x80", b"\x7f", b"\0\0", b"\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f",
           b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\x80\0\0\0", b"\x01\0\0\0", b"\0\0\x01\0", b"\xff" * 8]


def samples(format_name: str) -> list[bytes]:
    """The reader's example and some richer files of its format."""
    found = [plugins.load(PluginKind.READER, format_name).example()]
    if format_name == "png":
        found += [png(9, 8, depth=8, colour=3, extra=png_chunk(b"PLTE", bytes(range(256)) * 3), interlaced=True),
                  png(9, 8, depth=16, colour=6)]
    elif format_name == "tiff":
        for options in ({"compression": "lzw", "predictor": True, "bigtiff": True}, {"compression": "jpeg"},
                        {"compression": "zstd", "tile": (16, 16)}, {"compression": "jpeg2000"}, {},
                        {"compression": "packbits", "byteorder": ">"}, {"compression": "webp"},
                        {"compression": "lerc"}, {"compression": "jpegxl"}, {"compression": "lzma"}):
            buffer = io.BytesIO()
            tifffile.imwrite(buffer, photo(20, 24), photometric="rgb", metadata=None, **options)
            found.append(buffer.getvalue())
        found += [written(Image.fromarray(photo(20, 24)).convert("1"), "TIFF", compression="group4"),
                  written(Image.fromarray(photo(20, 24)).convert("P"), "TIFF")]
    elif format_name == "bmp":
        found.append(written(Image.fromarray(photo(8, 9)).convert("P"), "BMP"))
    elif format_name == "jpeg":
        found += [written(Image.fromarray(photo(20, 24)), "JPEG", progressive=True),
                  written(Image.fromarray(photo(20, 24)).convert("CMYK"), "JPEG")]
    else:
        found.append(written(Image.fromarray(photo(20, 24)), "WEBP"))
    return found


def written(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


SAMPLES = {name: samples(name) for name in FORMATS}


@st.composite
def mutated(draw: st.DrawFn, format_name: str) -> bytes:
    """A file of the format, changed at one to four places; its sums made right again where it is a PNG."""
    data = bytearray(draw(st.sampled_from(SAMPLES[format_name])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, min(len(data), 400) - 1)) | st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["flip", "cut", "put", "number", "remove"]))
        if kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at:]
        elif kind == "put":
            data[at:at] = draw(st.binary(min_size=1, max_size=12))
        elif kind == "number":
            number = draw(st.sampled_from(NUMBERS))
            data[at:at + len(number)] = number
        else:
            del data[at:at + draw(st.integers(1, 16))]
    return with_right_sums(bytes(data)) if format_name == "png" and draw(st.booleans()) else bytes(data)


def with_right_sums(data: bytes) -> bytes:
    """A PNG whose chunks, as far as they can be walked, have right sums: so that changes reach what is behind them."""
    out, at = data[:8], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at:at + 4], "big")
        out += png_chunk(data[at + 4:at + 8], data[at + 8:at + 8 + size])
        at += 12 + size
    return out


def image_error_or_pixels(data: bytes, format_name: str) -> None:
    try:
        source = opened(data, LIMITS, name=format_name)
        for frame in range(min(source.frames, 3)):
            for level, size in enumerate(source.levels):
                pixels = whole(source, level=level, frame=frame)
                if pixels.shape != (size.height_px, size.width_px, source.channels) or pixels.dtype != source.dtype:
                    raise AssertionError(f"declared {size} {source.dtype}, got {pixels.shape} {pixels.dtype}")
                if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
                    raise AssertionError("numbers that are not finite")
        source.close()
    except ImageError as error:
        if not str(error):
            raise AssertionError("an error without a message") from error


def mutate(format_name: str, examples: int) -> None:
    """Tries so many mutations of a format."""

    @seed(20260)
    @hypothesis_settings(max_examples=examples, deadline=None, database=None,
                         suppress_health_check=list(HealthCheck))
    @given(data=mutated(format_name))
    def run(data: bytes) -> None:
        image_error_or_pixels(data, format_name)

    run()


@pytest.mark.parametrize("format_name", FORMATS)
def test_mutated_files_are_image_errors_or_pixels_in_bounded_memory(format_name: str) -> None:
    examples = os.environ.get("SEGSVC_TEST_MUTATIONS", "250")
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-m", "tests.readers.test_mutations", format_name, examples], cwd=root,
                          capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def hold_memory() -> None:
    """Lets this process map `ALLOWED_BYTES` more than now."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ALLOWED_BYTES, mapped + ALLOWED_BYTES))


if __name__ == "__main__":
    for each in SAMPLES[sys.argv[1]]:
        image_error_or_pixels(each, sys.argv[1])  # loads what the reader loads
    hold_memory()
    mutate(sys.argv[1], int(sys.argv[2]))
