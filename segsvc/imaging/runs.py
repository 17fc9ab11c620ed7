"""Kernels that find the 8-connected regions of a score map by its row runs, without an image of labels.

Rows come top to bottom. A row's foreground becomes runs; a run joins the components of the runs that it touches in the
row above (union-find; He, Chao, Suzuki: "A run-based two-scan labeling algorithm", IEEE TIP 17(5), 2008) and adds its
px, sum and maximum to the component while its scores are in the cache. When a component can no longer grow, its mask
is written as COCO's compressed RLE out of its runs alone: between two rows only the columns in the symmetric difference
of their runs change, so the work is that of the outline and not of the area.

State that lives from one band of rows to the next (`int32` and `int64` arrays that grow by doubling):

bounds  int32 (2 * capacity,)  run i covers the columns bounds[2 * i] to bounds[2 * i + 1], half-open
places  int32 (capacity, 2)    its row, and the component that it was given to
parts   int64 (capacity, 8)    components, with the columns below; all but PARENT hold for roots only
"""
# ruff: noqa: PLR0917 -- compiled kernels take their arguments by position

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from segsvc.imaging.compiled import compiled, trailing_zeros

_Scalar = TypeVar("_Scalar", bound=np.generic)
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]

PARENT, X0, Y0, X1, Y1, AREA, SUM, HIGHEST = range(8)
COLUMNS = 8
RLE_END = 0  # in the rows that `sweep` gives out, the place of PARENT holds where the region's RLE ends
BLOCK_PX = 64  # px whose comparisons with the threshold fit one uint64
SUM_PX = 32768  # so many scores of 16 bit can be summed in 32 bit


@compiled
def _longer(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """The array (n,) with room for as many again. A plain loop: numpy's functions take numba seconds to compile."""
    longer = np.empty(2 * array.size, array.dtype)
    for i in range(array.size):
        longer[i] = array[i]
    return longer


@compiled
def _taller(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """The array (n, columns) with room for as many rows again."""
    taller = np.empty((2 * array.shape[0], array.shape[1]), array.dtype)
    for i in range(array.shape[0]):
        for j in range(array.shape[1]):
            taller[i, j] = array[i, j]
    return taller


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
            bounds, places = _longer(bounds), _taller(places)
        line = scores[row]
        y = y_first + row
        above, row_start = row_start, n_runs
        n_runs = _find_runs(line, below, bounds, n_runs)
        while n_parts + n_runs - row_start > parts.shape[0]:
            parts = _taller(parts)
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


@compiled
def _append_count(text: ByteArray, at: int, value: int) -> int:
    """Writes a number as COCO does: 5 bits a character, lowest first, bit 5 says that more follow, sign extended."""
    while True:
        low = value & 31
        value >>= 5
        more = value != -1 if low & 16 else value != 0
        text[at] = np.uint8((low | 32 if more else low) + 48)
        at += 1
        if not more:
            return at


@compiled
def write_counts(counts: Int64Array) -> ByteArray:
    """COCO's compressed RLE (uint8 (n,), ASCII) of run lengths (int64 (n,), the first of background)."""
    text = np.empty(13 * counts.size, np.uint8)
    at = 0
    for i in range(counts.size):
        at = _append_count(text, at, counts[i] - (counts[i - 2] if i > 2 else 0))
    return text[:at].copy()


@compiled
def _row_changes(
    bounds: Int32Array, before: int, start: int, stop: int, x_first: int, y: int, changes: Int32Array, n_changes: int
) -> int:
    """Writes the columns (from, to, y) in which row y (runs start:stop) differs from the row before (before:start)."""
    i, j = 2 * before, 2 * start
    i_stop, j_stop = 2 * start, 2 * stop
    is_open = False
    while i < i_stop or j < j_stop:
        if j == j_stop or (i < i_stop and bounds[i] < bounds[j]):
            x = bounds[i]
            i += 1
        elif i == i_stop or bounds[j] < bounds[i]:
            x = bounds[j]
            j += 1
        else:  # both change here: no difference begins or ends
            i += 1
            j += 1
            continue
        if is_open:
            changes[n_changes, 1] = x - x_first
            n_changes += 1
        else:
            changes[n_changes, 0] = x - x_first
            changes[n_changes, 2] = y
        is_open = not is_open
    return n_changes


@compiled
def _mask_changes(
    bounds: Int32Array, rows: Int32Array, start: int, stop: int, x_first: int, height: int
) -> tuple[Int32Array, int]:
    """Where a component (runs start:stop, in the order of rows) differs from row to row, and how many px do."""
    changes = np.empty((2 * (stop - start), 3), np.int32)
    n_changes = 0
    before = run = start
    y_first = rows[start]
    for y in range(height + 1):
        row_start = run
        while run < stop and rows[run] == y_first + y:
            run += 1
        n_changes = _row_changes(bounds, before, row_start, run, x_first, y, changes, n_changes)
        before = row_start
    n_px = 0
    for i in range(n_changes):
        n_px += changes[i, 1] - changes[i, 0]
    return changes[:n_changes], n_px


@compiled
def _mask_positions(changes: Int32Array, n_px: int, height: int, width: int) -> Int64Array:
    """The positions down the columns of a mask (height, width) at which it differs from the px before, ascending."""
    starts = np.zeros(width + 2, np.int64)
    for i in range(changes.shape[0]):  # how many px change in a column: first as the differences between neighbours
        starts[changes[i, 0] + 1] += 1
        starts[changes[i, 1] + 1] -= 1
    for _ in range(2):
        for x in range(1, width + 1):
            starts[x] += starts[x - 1]
    positions = np.empty(n_px, np.int64)
    for i in range(changes.shape[0]):  # counting sort by column: within a column they stay in the order of rows
        for x in range(changes[i, 0], changes[i, 1]):
            positions[starts[x]] = changes[i, 2]
            starts[x] += 1
    start = n_positions = 0
    for x in range(width):
        for i in range(start, starts[x]):
            position = x * height + positions[i]
            if n_positions > 0 and positions[n_positions - 1] == position:
                n_positions -= 1  # a run goes on from the foot of one column to the head of the next
            else:
                positions[n_positions] = position
                n_positions += 1
        start = starts[x]
    return positions[:n_positions]


@compiled
def _append_mask(text: ByteArray, at: int, positions: Int64Array, mask_px: int) -> tuple[ByteArray, int]:
    """Writes the RLE of a mask of `mask_px` that changes at `positions`; gives the text (a longer one) and its end."""
    characters = 2
    while mask_px >> (5 * characters - 6) > 0:
        characters += 1
    while text.size < at + characters * (positions.size + 1):
        text = _longer(text)
    last = one_back = two_back = 0
    for i in range(positions.size + 1):
        position = positions[i] if i < positions.size else mask_px
        if i < positions.size or position > last:  # no background after the last run where it ends at the last px
            count = position - last
            at = _append_count(text, at, count - (two_back if i > 2 else 0))
            two_back, one_back, last = one_back, count, position
    return text, at


@compiled
def _sort_out(
    parts: Int64Array, n_parts: int, y_open: int, floor: int, min_area_px: int
) -> tuple[Int32Array, Int64Array, int, int, int]:
    """Decides what becomes of each component: stays open (-2 - its new number), is dropped (-1), or its output row.

    Moves open components to the front of `parts`. Gives the fates (int32, one a component), the rows for the finished
    ones (int64 (kept, 8)), and how many are open, below the floor and below the area.
    """
    fates = np.empty(n_parts, np.int32)
    finished = np.empty((n_parts, COLUMNS), np.int64)
    n_open = n_kept = n_below_floor = n_below_area = 0
    for part in range(n_parts):
        parent = parts[part, PARENT]
        if parent != part:
            fates[part] = fates[parent]  # parents come first
        elif parts[part, Y1] == y_open:
            fates[part] = -2 - n_open
            for column in range(COLUMNS):
                parts[n_open, column] = parts[part, column]
            parts[n_open, PARENT] = n_open
            n_open += 1
        elif parts[part, HIGHEST] < floor:
            fates[part] = -1
            n_below_floor += 1
        elif parts[part, AREA] < min_area_px:
            fates[part] = -1
            n_below_area += 1
        else:
            fates[part] = n_kept
            for column in range(COLUMNS):
                finished[n_kept, column] = parts[part, column]
            n_kept += 1
    return fates, finished[:n_kept].copy(), n_open, n_below_floor, n_below_area


@compiled
def _group_runs(
    bounds: Int32Array, places: Int32Array, n_runs: int, fates: Int32Array, n_kept: int
) -> tuple[Int32Array, Int32Array, Int64Array, int]:
    """Copies the runs of each kept component to one place, in their order, and moves those of open ones to the front.

    Gives the bounds and rows of the copies, where each component's first one is (and, last, how many there are), and
    how many runs are open.
    """
    starts = np.zeros(n_kept + 1, np.int64)
    for run in range(n_runs):
        fate = fates[places[run, 1]]
        if fate >= 0:
            starts[fate] += 1
    n_grouped = 0
    for i in range(n_kept + 1):
        n_grouped, starts[i] = n_grouped + starts[i], n_grouped
    free = starts.copy()
    grouped = np.empty(2 * n_grouped, np.int32)
    rows = np.empty(n_grouped, np.int32)
    n_open = 0
    for run in range(n_runs):
        fate = fates[places[run, 1]]
        if fate >= 0:
            to = free[fate]
            free[fate] += 1
            grouped[2 * to], grouped[2 * to + 1] = bounds[2 * run], bounds[2 * run + 1]
            rows[to] = places[run, 0]
        elif fate < -1:
            bounds[2 * n_open], bounds[2 * n_open + 1] = bounds[2 * run], bounds[2 * run + 1]
            places[n_open, 0], places[n_open, 1] = places[run, 0], -2 - fate
            n_open += 1
    return grouped, rows, starts, n_open


@compiled
def sweep(
    bounds: Int32Array, places: Int32Array, parts: Int64Array, n_runs: int, n_parts: int, y_open: int,
    floor: int, min_area_px: int,
) -> tuple[Int64Array, ByteArray, int, int, int, int]:
    """Takes the finished components out of the state: all whose last row is not `y_open - 1`.

    Changes `bounds`, `places` and `parts` so that only the runs and components that are open remain, in their order.
    Gives a row of int64 (kept, 8) for each finished component with `floor` and `min_area_px` reached (RLE_END and the
    columns of `parts`), their RLEs one after the other (uint8 ASCII), the numbers of runs and components that remain,
    and how many were taken away by the floor, and of the others by the area.
    """
    fates, finished, n_open, n_below_floor, n_below_area = _sort_out(parts, n_parts, y_open, floor, min_area_px)
    n_kept = finished.shape[0]
    grouped, rows, starts, n_left = _group_runs(bounds, places, n_runs, fates, n_kept)
    text = np.empty(max(1024, 8 * rows.size), np.uint8)
    at = 0
    for i in range(n_kept):
        width, height = finished[i, X1] - finished[i, X0], finished[i, Y1] - finished[i, Y0]
        changes, n_px = _mask_changes(grouped, rows, starts[i], starts[i + 1], finished[i, X0], height)
        positions = _mask_positions(changes, n_px, height, width)
        text, at = _append_mask(text, at, positions, height * width)
        finished[i, RLE_END] = at
    return finished, text[:at].copy(), n_left, n_open, n_below_floor, n_below_area
