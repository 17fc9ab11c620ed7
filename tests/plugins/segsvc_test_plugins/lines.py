"""A reader for a format that the project does not know: `LINES` and then one row of digits a line."""

import numpy as np

from segsvc.errors import ImageError, ImageErrorKind
from segsvc.loaded import ArraySource
from segsvc.readers import ReadLimits
from segsvc.types import Blob, Source

MAGIC = b"LINES\n"


class LinesReader:
    name = "lines"
    endings = (".lines",)

    def sniff(self, head: bytes) -> bool:
        return head.startswith(MAGIC)

    def open(self, blob: Blob, limits: ReadLimits) -> Source:
        if blob.size_bytes > limits.decode_bytes:
            raise ImageError(ImageErrorKind.TOO_LARGE, f"expected at most {limits.decode_bytes} bytes")
        rows = blob.read_all().removeprefix(MAGIC).split()
        if not rows or len({len(row) for row in rows}) != 1 or not all(row.isdigit() for row in rows):
            raise ImageError(ImageErrorKind.CORRUPT, "expected rows of equally many digits")
        return ArraySource(np.array([[int(digit) * 28 for digit in row.decode()] for row in rows], np.uint8))

    def example(self) -> bytes:
        return MAGIC + b"0009\n0990\n"


PLUGIN = LinesReader()
