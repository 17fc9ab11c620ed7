"""Kernels that take finished regions out of the state of `runs` and write their masks as COCO's compressed RLE.

A mask is written out of its runs alone. Between two rows only the columns in the symmetric difference of their runs
change; sorted by column, these changes are the run lengths down the columns. The work is that of the outline, not of
the area, and no mask is ever painted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segsvc.imaging.compiled import compiled, longer
from segsvc.imaging.runs import AREA, COLUMNS, HIGHEST, PARENT, X0, X1, Y0, Y1, Int32Array, Int64Array

ByteArray = npt.NDArray[np.uint8]

RLE_END = PARENT  # in the rows that `sweep` gives out, the place of PARENT holds where the region's RLE ends


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
        text = longer(text)
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
