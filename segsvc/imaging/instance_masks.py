"""Kernels on the masks of detected objects: a small mask -> runs down the columns of its box, and what runs share.

Runs are int32 (n, 3): x, first y, last y + 1, by x and then y; no two of a column touch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segsvc.imaging.compiled import compiled, taller

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@compiled
def _steps(size: int, side: int, first: int, last: int) -> tuple[Int32Array, FloatArray]:
    """Where px first..last - 1 of `size` lie between `side` samples: the sample before, and how far beyond it, 0 to 1."""
    places = np.empty(last - first, np.int32)
    beyond = np.empty(last - first, np.float32)
    scale = np.float32(side) / np.float32(size)
    half = np.float32(0.5)
    for i in range(last - first):
        at = scale * (np.float32(first + i) + half) - half
        if at < 0:
            at = np.float32(0)
        place = min(int(at), side - 1)
        places[i] = place
        beyond[i] = min(at - np.float32(place), np.float32(1))
    return places, beyond


@compiled
def paste(mask: FloatArray, corners: Int64Array, covered: Int64Array, least: np.float32) -> tuple[Int32Array, int]:
    """The runs of the px of an object, and the sum of its px's scores in multiples of 1/65535.

    mask: (side, side) float32 in [0, 1], around which one px of 0 is thought. corners: (4,) int64, the first px and the
    last px (both included) on which the mask with that border is stretched, bilinearly and as torch's `interpolate` does
    without aligned corners. covered: (4,) int64, half-open; px outside are left out. A px is of the object from `least`.
    """
    side = mask.shape[0] + 2
    x_first, y_first = corners[0], corners[1]
    width, height = max(corners[2] - x_first + 1, 1), max(corners[3] - y_first + 1, 1)
    x0, x1 = max(x_first, covered[0]), min(x_first + width, covered[2])
    y0, y1 = max(y_first, covered[1]), min(y_first + height, covered[3])
    runs = np.empty((64, 3), np.int32)
    n_runs = 0
    total = 0
    if x0 >= x1 or y0 >= y1:
        return runs[:0].copy(), total
    columns, beyond_x = _steps(width, side, x0 - x_first, x1 - x_first)
    rows, beyond_y = _steps(height, side, y0 - y_first, y1 - y_first)
    one, zero = np.float32(1), np.float32(0)
    column = np.zeros(side + 1, np.float32)  # the mask's values along this column of px; one more stands for the last again
    for x in range(x1 - x0):
        place = columns[x]
        left, right = one - beyond_x[x], beyond_x[x]
        for k in range(1, side - 1):
            a = mask[k - 1, place - 1] if 0 < place < side - 1 else zero
            b = mask[k - 1, place] if place < side - 2 else zero
            column[k] = left * a + right * b
        start = -1
        for y in range(y1 - y0):
            k = rows[y]
            value = (one - beyond_y[y]) * column[k] + beyond_y[y] * column[k + 1]
            if value >= least:
                total += int(value * 65535.0 + 0.5)
                if start < 0:
                    start = y
            elif start >= 0:
                if n_runs == runs.shape[0]:
                    runs = taller(runs)
                runs[n_runs, 0], runs[n_runs, 1], runs[n_runs, 2] = x0 + x, y0 + start, y0 + y
                n_runs += 1
                start = -1
        if start >= 0:
            if n_runs == runs.shape[0]:
                runs = taller(runs)
            runs[n_runs, 0], runs[n_runs, 1], runs[n_runs, 2] = x0 + x, y0 + start, y1
            n_runs += 1
    return runs[:n_runs].copy(), total


@compiled
def counts_within(runs: Int32Array, x0: int, y0: int, width: int, height: int) -> Int64Array:
    """The run lengths down the columns of the box at (x0, y0), first of background, as COCO counts them."""
    counts = np.empty(2 * runs.shape[0] + 2, np.int64)
    n_counts = 0
    last = 0  # where the run before ended
    for i in range(runs.shape[0]):
        start = (runs[i, 0] - x0) * height + runs[i, 1] - y0
        length = runs[i, 2] - runs[i, 1]
        if n_counts > 0 and start == last:  # goes on from the foot of one column to the head of the next
            counts[n_counts - 1] += length
        else:
            counts[n_counts], counts[n_counts + 1] = start - last, length
            n_counts += 2
        last = start + length
    if last < width * height or n_counts == 0:
        counts[n_counts] = width * height - last
        n_counts += 1
    return counts[:n_counts].copy()


@compiled
def shared_px(first: Int32Array, second: Int32Array) -> int:
    """How many px two masks share."""
    i = j = shared = 0
    while i < first.shape[0] and j < second.shape[0]:
        if first[i, 0] < second[j, 0]:
            i += 1
        elif second[j, 0] < first[i, 0]:
            j += 1
        else:
            shared += max(0, min(first[i, 2], second[j, 2]) - max(first[i, 1], second[j, 1]))
            if first[i, 2] < second[j, 2]:
                i += 1
            else:
                j += 1
    return shared


@compiled
def overlapping_pairs(boxes: Int32Array, kinds: Int32Array) -> Int32Array:
    """Pairs (n, 2) of places whose boxes (x0, y0, x1, y1) share px, of one label and of different tiles.

    boxes: (m, 4), ascending by x0. kinds: (m, 2) label and tile of each.
    """
    pairs = np.empty((64, 2), np.int32)
    n_pairs = 0
    for i in range(boxes.shape[0]):
        for j in range(i + 1, boxes.shape[0]):
            if boxes[j, 0] >= boxes[i, 2]:
                break
            if boxes[j, 1] < boxes[i, 3] and boxes[i, 1] < boxes[j, 3] and (
                    kinds[i, 0] == kinds[j, 0] and kinds[i, 1] != kinds[j, 1]):
                if n_pairs == pairs.shape[0]:
                    pairs = taller(pairs)
                pairs[n_pairs, 0], pairs[n_pairs, 1] = i, j
                n_pairs += 1
    return pairs[:n_pairs].copy()
