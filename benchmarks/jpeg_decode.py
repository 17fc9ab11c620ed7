"""JPEG to pixels: this project's reader against Pillow, on a JPEG of 2048 x 1024 px at quality 90.

Prints a JSON list of one row; `ours` and `peer` are megapixels a second on one thread, medians of interleaved repeats. The
picture is drawn with the spectrum of photographs (amplitude falls as 1 / f ** 1.5, near that of street scenes); `python
benchmarks/jpeg_decode.py FILE` takes a JPEG of yours instead.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from _common import Row, interleaved, medians, show
from PIL import Image

from segsvc.loaded import BytesBlob
from segsvc.readers import ReadLimits, open_source
from segsvc.types import Box

WIDTH_PX, HEIGHT_PX = 2048, 1024
FALL_OFF = 1.5
REPEATS = 41
DEMANDED = 2.0

Pixels = npt.NDArray[np.generic]


def photograph_like() -> bytes:
    """A JPEG whose detail is spread over frequencies as in a photograph."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT_PX)[:, None] * HEIGHT_PX, np.fft.rfftfreq(WIDTH_PX)[None] * WIDTH_PX)
    frequency[0, 0] = 1

    def layer() -> npt.NDArray[np.float64]:
        spectrum = np.fft.rfft2(rng.normal(size=(HEIGHT_PX, WIDTH_PX))) / frequency**FALL_OFF
        drawn = np.fft.irfft2(spectrum, s=(HEIGHT_PX, WIDTH_PX))
        normal: npt.NDArray[np.float64] = drawn / drawn.std()
        return normal

    light = layer()
    picture = np.clip(np.stack([120 + 50 * light + 12 * layer() for _ in range(3)], axis=-1), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def ours(data: bytes) -> Pixels:
    source = open_source(BytesBlob(data), ReadLimits())
    pixels = source.read(Box(0, 0, source.width_px, source.height_px))
    source.close()
    return pixels


def pillow(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)))


def main() -> None:
    data = Path(sys.argv[1]).read_bytes() if len(sys.argv) > 1 else photograph_like()
    mine, other = ours(data), pillow(data)
    seconds = medians(interleaved({"ours": lambda: ours(data), "peer": lambda: pillow(data)}, repeats=REPEATS))
    megapixels = mine.shape[0] * mine.shape[1] / 1e6
    show([Row("JPEG to pixels, 1 thread", megapixels / seconds["ours"], "MP/s", megapixels / seconds["peer"], "Pillow",
              seconds["peer"] / seconds["ours"], bool(np.array_equal(mine.squeeze(), other)), DEMANDED,
              details={"size_px": [mine.shape[1], mine.shape[0]], "file_bytes": len(data), "repeats": REPEATS})])


if __name__ == "__main__":
    main()
