"""Undoing the row filters of PNG, in place (PNG, third edition, section 9)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segsvc.imaging.compiled import compiled


@compiled
def unfilter(rows: npt.NDArray[np.uint8], pixel_bytes: int) -> int:  # noqa: PLR0912 (one loop a filter)
    """Undoes the filters of `rows` (h, 1 + n) uint8, whose first column says which filter a row has.

    `pixel_bytes` is the distance to the byte on the left, 1 to 8. Gives -1, or the row whose filter is not known.
    """
    height, stride = rows.shape
    for y in range(height):
        kind = rows[y, 0]
        if kind > 4:
            return y
        if kind == 1 or (kind == 4 and y == 0):  # left; Paeth without a row above is left
            for x in range(1 + pixel_bytes, stride):
                rows[y, x] += rows[y, x - pixel_bytes]
        elif kind == 2 and y > 0:  # above
            for x in range(1, stride):
                rows[y, x] += rows[y - 1, x]
        elif kind == 3:  # mean of left and above
            for x in range(1, stride):
                left = np.int32(rows[y, x - pixel_bytes]) if x > pixel_bytes else np.int32(0)
                above = np.int32(rows[y - 1, x]) if y > 0 else np.int32(0)
                rows[y, x] += np.uint8((left + above) >> 1)
        elif kind == 4:  # Paeth: left, above or above left, whichever is nearest to left + above - above left
            for x in range(1, min(1 + pixel_bytes, stride)):
                rows[y, x] += rows[y - 1, x]
            for x in range(1 + pixel_bytes, stride):
                left = np.int32(rows[y, x - pixel_bytes])
                above = np.int32(rows[y - 1, x])
                corner = np.int32(rows[y - 1, x - pixel_bytes])
                to_left = abs(above - corner)
                to_above = abs(left - corner)
                to_corner = abs(left + above - corner - corner)
                nearest = corner
                if to_left <= to_above and to_left <= to_corner:
                    nearest = left
                elif to_above <= to_corner:
                    nearest = above
                rows[y, x] += np.uint8(nearest)
    return -1
