"""Kernels on run lengths: reading COCO's compressed strings, painting, moving into a larger frame, tracing outlines.

Counts are int64 run lengths down the columns of a mask (height, width), background first, and sum to height * width.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segsvc.imaging.compiled import compiled, longer, taller

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]
IndexArray = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

FINE, ENDS_EARLY, BAD_CHARACTER, TOO_LONG, BAD_COUNT, BAD_SUM = range(6)  # how reading a string ended
MOST_BITS = 60  # of one number; no mask that fits an address space needs more

FOREGROUND, SEEN = 1, 2  # flags of a px while its region is traced
RIGHT, DOWN, LEFT, UP = range(4)


@compiled
def read_counts(text: ByteArray, area_px: int) -> tuple[Int64Array, int, int]:
    """The counts of a compressed string, how reading it ended (FINE or what was wrong), and at which character.

    Safe on any bytes: nothing is written beyond one count a character, and no count exceeds what is left of `area_px`.
    """
    counts = np.empty(text.size, np.int64)
    n_counts = 0
    left = area_px
    at = 0
    while at < text.size:
        value = 0
        bits = 0
        while True:
            if at == text.size:
                return counts[:0], ENDS_EARLY, at
            code = int(text[at]) - 48
            if code < 0 or code > 63:
                return counts[:0], BAD_CHARACTER, at
            if bits == MOST_BITS:
                return counts[:0], TOO_LONG, at
            value |= (code & 31) << bits
            bits += 5
            at += 1
            if not code & 32:
                if code & 16:
                    value |= -1 << bits
                break
        if n_counts > 2:
            value += counts[n_counts - 2]
        if value < 0 or value > left:
            return counts[:0], BAD_COUNT, at - 1
        left -= value
        counts[n_counts] = value
        n_counts += 1
    return counts[:n_counts], FINE if left == 0 else BAD_SUM, at


@compiled
def paint(counts: Int64Array, height: int, x_shift: int, y_shift: int, value: int, canvas: IndexArray) -> None:
    """Sets `canvas` (rows, columns) to `value` where the mask, moved by the shifts, lies on it."""
    rows, columns = canvas.shape
    position = 0
    for i in range(1, counts.size, 2):
        position += counts[i - 1]
        stop = position + counts[i]
        while position < stop:
            x = position // height
            foot = min(stop, (x + 1) * height)
            if 0 <= x + x_shift < columns:
                head_y = max(position - x * height + y_shift, 0)
                foot_y = min(foot - x * height + y_shift, rows)
                for y in range(head_y, foot_y):
                    canvas[y, x + x_shift] = value
            position = foot


@compiled
def reframe(counts: Int64Array, height: int, x0: int, y0: int, frame_width: int, frame_height: int) -> Int64Array:
    """The counts of the mask in a frame in which its top left px is at (x0, y0)."""
    runs = 0
    position = 0
    for i in range(1, counts.size, 2):  # how many runs there are once they are cut at the columns' feet
        position += counts[i - 1]
        if counts[i] > 0:
            runs += (position + counts[i] - 1) // height - position // height + 1
        position += counts[i]
    framed = np.empty(2 * runs + 1, np.int64)
    n_framed = 0
    last = 0
    position = 0
    for i in range(1, counts.size, 2):
        position += counts[i - 1]
        stop = position + counts[i]
        while position < stop:
            x = position // height
            foot = min(stop, (x + 1) * height)
            start = (x0 + x) * frame_height + y0 + position - x * height
            if n_framed > 0 and start == last:
                framed[n_framed - 1] += foot - position
            else:
                framed[n_framed], framed[n_framed + 1] = start - last, foot - position
                n_framed += 2
            last = start + foot - position
            position = foot
    if last < frame_width * frame_height or n_framed == 0:
        framed[n_framed] = frame_width * frame_height - last
        n_framed += 1
    return framed[:n_framed]


@compiled
def _ahead(flags: ByteArray, x: int, y: int, heading: int) -> tuple[int, int]:
    """Whether the px ahead on the left and on the right of who stands on a corner (x, y) are foreground."""
    north_west, north_east = flags[y - 1, x - 1] & FOREGROUND, flags[y - 1, x] & FOREGROUND
    south_west, south_east = flags[y, x - 1] & FOREGROUND, flags[y, x] & FOREGROUND
    if heading == RIGHT:
        return north_east, south_east
    if heading == DOWN:
        return south_east, south_west
    if heading == LEFT:
        return south_west, north_west
    return north_west, north_east


@compiled
def _append_ring(
    ring: Int32Array, corners: Int32Array, ends: Int64Array, n_corners: int, n_rings: int
) -> tuple[Int32Array, Int64Array, int, int]:
    while n_corners + ring.shape[0] > corners.shape[0]:
        corners = taller(corners)
    for i in range(ring.shape[0]):
        corners[n_corners, 0], corners[n_corners, 1] = ring[i, 0], ring[i, 1]
        n_corners += 1
    if n_rings == ends.size:
        ends = longer(ends)
    ends[n_rings] = n_corners
    return corners, ends, n_corners, n_rings + 1


@compiled
def trace(flags: ByteArray, stacked: Int32Array) -> tuple[Int32Array, Int64Array]:
    """The outlines of the px of `flags` (h + 2, w + 2) that are FOREGROUND, along px edges; its border must be 0.

    Gives the corners (n, 2) as x, y with the top left of px (1, 1) as (1, 1), ring after ring, and where each ring
    ends. Every ring is simple, with the foreground on its right: outer rings run clockwise as seen, holes the other
    way. Where two px touch by a corner alone the foreground is parted; a ring that comes by a corner again is split.

    `flags` is changed; `stacked` (the same shape, zeros) is room to work in: a corner's place on the stack.
    """
    height, width = flags.shape
    corners = np.empty((64, 2), np.int32)
    ends = np.empty(8, np.int64)
    stack = np.empty((64, 2), np.int32)
    n_corners = n_rings = 0
    for y_start in range(1, height - 1):
        for x_start in range(1, width - 1):
            if flags[y_start, x_start] != FOREGROUND or flags[y_start - 1, x_start] & FOREGROUND:
                continue
            x, y, heading, top = x_start, y_start, RIGHT, 0
            while True:
                if heading == RIGHT:
                    flags[y, x] |= SEEN
                x += (heading == RIGHT) - (heading == LEFT)
                y += (heading == DOWN) - (heading == UP)
                ahead_left, ahead_right = _ahead(flags, x, y, heading)
                if ahead_right and not ahead_left:
                    continue
                heading = (heading + 3) % 4 if ahead_right else (heading + 1) % 4
                is_back = x == x_start and y == y_start and heading == RIGHT
                is_pinch = ahead_left and not ahead_right
                first = stacked[y, x] - 1 if is_pinch else -1
                if 0 <= first < top and stack[first, 0] == x and stack[first, 1] == y:
                    ring = stack[first:top]
                    corners, ends, n_corners, n_rings = _append_ring(ring, corners, ends, n_corners, n_rings)
                    top = first + 1
                else:
                    if top == stack.shape[0]:
                        stack = taller(stack)
                    stack[top, 0], stack[top, 1] = x, y
                    top += 1
                    if is_pinch:
                        stacked[y, x] = top
                if is_back:
                    corners, ends, n_corners, n_rings = _append_ring(stack[:top], corners, ends, n_corners, n_rings)
                    break
    return corners[:n_corners], ends[:n_rings]
