"""Kernels that find the 8-connected regions of a score map by its row runs, without an image of labels.

Rows come top to bottom. A row's foreground becomes runs; a run joins the components of the runs that it touches in the
row above (union-find; He, Chao, Suzuki: "A run-based two-scan labeling algorithm", IEEE TIP 17(5), 2008) and adds its
px, sum and maximum to the component while its scores are in the cache. `region_masks` takes out what is finished.

State that lives from one band of rows to the next, in arrays that grow by doubling:

bounds  int32 (2 * capacity,)  run i covers the columns bounds[2 * i] to bounds[2 * i + 1], half-open
places  int32 (capacity, 2)    its row, and the component that it was given to
parts   int64 (capacity, 8)    components, with the columns below; all but PARENT hold for roots only
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segsvc.imaging.compiled import compiled, longer, taller, trailing_zeros

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

PARENT, X0, Y0, X1, Y1, AREA, SUM, HIGHEST = range(8)
COLUMNS = 8
BLOCK_PX = 64  # px whose comparisons with the threshold fit one uint64
SUM_PX = 32768  # so many scores of 16 bit can be summed in 32 bit


@compiled
def _root(parts: Int64Array, part: int) -> int:
    while parts[part, PARENT] != part:
        parts[part, PARENT] = parts[parts[part, PARENT], PARENT]  # path halving
        part = parts[part, PARENT]
    return part


@compiled
def _join(parts: Int64Array, one: int, other: int) -> int:
    """Makes one component of two roots; the older stays the root, so that a parent always comes before its child."""
    if one == other:
        return one
    keep, gone = min(one, other), max(one, other)
    parts[gone, PARENT] = keep
    parts[keep, X0] = min(parts[keep, X0], parts[gone, X0])
    parts[keep, Y0] = min(parts[keep, Y0], parts[gone, Y0])
    parts[keep, X1] = max(parts[keep, X1], parts[gone, X1])
    parts[keep, Y1] = max(parts[keep, Y1], parts[gone, Y1])
    parts[keep, AREA] += parts[gone, AREA]
    parts[keep, SUM] += parts[gone, SUM]
    parts[keep, HIGHEST] = max(parts[keep, HIGHEST], parts[gone, HIGHEST])
    return keep


@compiled
def _find_runs(line: npt.NDArray[np.uint16], below: np.uint16, bounds: Int32Array, n_runs: int) -> int:
    """Writes the runs of scores above `below` in a row, from run `n_runs` on; gives the new number of runs."""
    width = line.size
    at = 2 * n_runs
    carry = np.uint64(0)  # whether the px before this block is foreground
    for start in range(0, width, BLOCK_PX):
        above = np.uint64(0)
        if start + BLOCK_PX <= width:
            block = line[start:start + BLOCK_PX]
            for k in range(BLOCK_PX):  # without branches: LLVM makes vector code of it
                above |= np.uint64(block[k] > below) << np.uint64(k)
        else:
            for k in range(width - start):
                above |= np.uint64(line[start + k] > below) << np.uint64(k)
        changes = above ^ ((above << np.uint64(1)) | carry)
        carry = above >> np.uint64(BLOCK_PX - 1)
        while changes:
            bounds[at] = start + int(trailing_zeros(changes))
            at += 1
            changes &= changes - np.uint64(1)
    if at & 1:
        bounds[at] = width
        at += 1
    return at // 2


@compiled
def _sum_and_highest(line: npt.NDArray[np.uint16], x0: int, x1: int) -> tuple[int, int]:
    total = 0
    highest = np.uint16(0)
    for start in range(x0, x1, SUM_PX):
        piece = line[start:min(start + SUM_PX, x1)]
        partial = np.uint32(0)
        for k in range(piece.size):
            partial = np.uint32(partial + piece[k])
            highest = max(highest, piece[k])
        total += int(partial)
    return total, int(highest)


@compiled
def scan(
    scores: npt.NDArray[np.uint16], below: np.uint16, y_first: int, bounds: Int32Array, places: Int32Array,
    parts: Int64Array, n_runs: int, n_parts: int, row_start: int,
) -> tuple[Int32Array, Int32Array, Int64Array, int, int, int]:
    """Takes in a band of rows (rows, width) whose first row is `y_first`; px above `below` are foreground.

    `row_start` is the first run of the row before. Gives the state back: the three arrays (larger ones where they were
    full), the numbers of runs and components in them, and the first run of the last row.
    """
    rows, width = scores.shape
    for row in range(rows):
        while n_runs + width // 2 + 1 > places.shape[0]:
            bounds, places = longer(bounds), taller(places)
        line = scores[row]
        y = y_first + row
        above, row_start = row_start, n_runs
        n_runs = _find_runs(line, below, bounds, n_runs)
        while n_parts + n_runs - row_start > parts.shape[0]:
            parts = taller(parts)
        for run in range(row_start, n_runs):
            x0, x1 = int(bounds[2 * run]), int(bounds[2 * run + 1])
            while above < row_start and bounds[2 * above + 1] < x0:
                above += 1
            part = -1
            touching = above
            while touching < row_start and bounds[2 * touching] <= x1:
                root = _root(parts, places[touching, 1])
                part = root if part < 0 else _join(parts, part, root)
                touching += 1
            above = max(above, touching - 1)  # the last one may touch the next run too
            total, highest = _sum_and_highest(line, x0, x1)
            if part < 0:
                part = n_parts
                n_parts += 1
                parts[part, PARENT] = part
                parts[part, X0], parts[part, Y0], parts[part, X1] = x0, y, x1
                parts[part, AREA] = parts[part, SUM] = parts[part, HIGHEST] = 0
            parts[part, X0] = min(parts[part, X0], x0)
            parts[part, X1] = max(parts[part, X1], x1)
            parts[part, Y1] = y + 1
            parts[part, AREA] += x1 - x0
            parts[part, SUM] += total
            parts[part, HIGHEST] = max(parts[part, HIGHEST], highest)
            places[run, 0] = y
            places[run, 1] = part
    return bounds, places, parts, n_runs, n_parts, row_start
