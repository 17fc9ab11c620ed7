"""Detected objects -> candidates: small masks pasted into their boxes as runs, and objects of several tiles made one.

No mask is ever painted in a frame of the image: a mask is computed column by column within its box, and kept as the runs
down its columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segsvc.card import Extraction
from segsvc.imaging.instance_masks import (
    Int32Array,
    counts_within,
    overlapping_pairs,
    paste,
    shared_px,
)
from segsvc.imaging.region_masks import write_counts
from segsvc.imaging.regions import in_order, lowest_score_from
from segsvc.imaging.tiling import AxisPlan, TilePlan
from segsvc.types import SCORE_ONE, Box, Candidate, CandidateKind, ExtractionCounts, ScoreArray

_PADDING = 1  # px of nothing around a small mask, which are pasted with it
_LEEWAY = 8  # a tile is also heard of an object whose centre is this part of its size beyond the tile's core


@dataclass(frozen=True, slots=True)
class Detections:
    """The objects that a detector found in one tile, the best first.

    boxes: (n, 4) float32 x0, y0, x1, y1 in px of the tile. scores: (n,) uint16, 65535 stands for 1.0. labels: (n,) int64,
    the place of the class in the card. masks: (n, side, side) float32 in [0, 1], the probability of each part of the box to
    be of the object; they are not rounded, so that a px at the threshold falls as it does for others.
    """

    boxes: npt.NDArray[np.float32]
    scores: ScoreArray
    labels: npt.NDArray[np.int64]
    masks: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        n, side = len(self.boxes), self.masks.shape[-1]
        shapes = self.boxes.shape, self.scores.shape, self.labels.shape, self.masks.shape
        if shapes != ((n, 4), (n,), (n,), (n, side, side)):
            raise ValueError(f"expected boxes (n, 4), scores (n,), labels (n,) and masks (n, side, side), got {shapes}")

    def __len__(self) -> int:
        return len(self.boxes)


def pasted_corners(boxes: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.int64]:
    """(n, 4) x0, y0, x1, y1: the first and the last px that a padded mask of `side` px covers, of boxes (n, 4) float32.

    As torchvision places them: a box grows by the padding, in float32, and its corners are cut to integers.
    """
    scale = np.float32((side + 2 * _PADDING) / side)
    middle = (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5)
    half = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5) * scale
    return np.concatenate((middle - half, middle + half), axis=1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class _Found:
    """An object of one tile in px of the image; `runs` down its columns (x, first y, last y + 1)."""

    tile: int
    label: int
    score: int
    total: int  # of the scores of its px
    area_px: int
    box: Box
    runs: Int32Array
    owned: bool  # whether its centre lies in the core of its tile

    @property
    def rank(self) -> tuple[int, Box, int, int]:
        return -self.score, self.box, self.label, self.tile


class InstanceCollector:
    """Candidates of one frame out of the detections of its tiles, which come in any order.

    A px belongs to an object where its mask, interpolated bilinearly, reaches `mask_min`. `mean_score` is the mean of these
    values over the mask, `score` the detection's own. An object is stored if its score reaches `extraction.floor` and its
    mask has at least `extraction.min_area_px` px; `counts` says how many were taken away (once each, as far as one can
    tell: by the tile whose core holds the centre).

    An object belongs to the tile whose core, the part that is nearer to it than to its neighbours, holds the centre of the
    mask's box. As two tiles may put that centre a little differently, a tile is heard as well of an object that it sees
    whole and whose centre is up to an eighth of its size outside. Of two objects of a class from different tiles whose masks
    have IoU >= 0.5 the one with the higher score stays, and of equal scores the one whose box comes first. An object that is
    larger than the overlap of the tiles may be cut, or come in parts: the card's `overlap_px` should be that of the largest.

    Memory holds the candidates, and runs of those objects only that another tile may see too.
    """

    def __init__(self, plan: TilePlan, *, extraction: Extraction, mask_min: float, class_names: Sequence[str],
                 frame: int) -> None:
        self._plan = plan
        self._floor = lowest_score_from(extraction.floor)
        self._min_area_px = extraction.min_area_px
        self._mask_min = np.float32(mask_min)
        self._class_names = tuple(class_names)
        self._frame = frame
        self._candidates: list[Candidate] = []
        self._shared: list[_Found] = []
        self._below_floor = self._below_area = 0

    def add(self, detections: Detections, *, row: int, column: int) -> None:
        """Takes in what was found in that tile of the plan."""
        x, y = self._plan.x, self._plan.y
        (left, right), (top, bottom) = x.covered(column), y.covered(row)
        shift_x, shift_y = left - x.pad_before_px, top - y.pad_before_px
        covered = np.array((left - shift_x, top - shift_y, right - shift_x, bottom - shift_y), np.int64)
        corners = pasted_corners(detections.boxes, detections.masks.shape[-1])
        for index in range(len(detections)):
            score = int(detections.scores[index])
            if score < self._floor:
                self._below_floor += self._is_of_core(detections.boxes[index], covered, row, column, shift_x, shift_y)
                continue
            runs, total = paste(detections.masks[index], corners[index], covered, self._mask_min)
            if not len(runs):  # a mask that nowhere reaches mask_min, or what lies in the reflection beyond the image
                self._below_area += self._is_of_core(detections.boxes[index], covered, row, column, shift_x, shift_y)
                continue
            runs += np.array((shift_x, shift_y, shift_y), np.int32)
            box = Box(int(runs[0, 0]), int(runs[:, 1].min()), int(runs[-1, 0]) + 1, int(runs[:, 2].max()))
            self._take(_Found(row * self._plan.columns + column, int(detections.labels[index]), score, int(total),
                              int((runs[:, 2] - runs[:, 1]).sum()), box, runs, self._owns(box, row, column)), row, column)

    def finish(self) -> tuple[tuple[Candidate, ...], ExtractionCounts]:
        """The candidates in order, and what was kept and taken away."""
        for found in _without_doubles(self._shared):
            self._candidates.append(self._candidate(found))
        self._shared = []
        return in_order(self._candidates), ExtractionCounts(len(self._candidates), self._below_floor, self._below_area)

    def _take(self, found: _Found, row: int, column: int) -> None:
        x, y, box = self._plan.x, self._plan.y, found.box
        if not found.owned and not (_near(x, column, box.x0, box.x1) and _near(y, row, box.y0, box.y1)):
            return  # the neighbour's, or only a part of what the neighbour sees
        if found.area_px < self._min_area_px:
            self._below_area += found.owned
        elif _is_shared(x, column, box.x0, box.x1) or _is_shared(y, row, box.y0, box.y1):
            self._shared.append(found)
        else:
            self._candidates.append(self._candidate(found))

    def _owns(self, box: Box, row: int, column: int) -> bool:
        return _holds(self._plan.x, column, box.x0, box.x1, 0) and _holds(self._plan.y, row, box.y0, box.y1, 0)

    def _is_of_core(self, corners: npt.NDArray[np.float32], covered: npt.NDArray[np.int64], row: int, column: int,
                    shift_x: int, shift_y: int) -> bool:
        """Whether the box of a detection that is not pasted, as far as it lies in the image, belongs to the tile."""
        x0, y0 = np.maximum(np.floor(corners[:2]), covered[:2]).astype(int).tolist()
        x1, y1 = np.minimum(np.ceil(corners[2:]), covered[2:]).astype(int).tolist()
        if x1 <= x0 or y1 <= y0:
            return False
        return self._owns(Box(x0 + shift_x, y0 + shift_y, x1 + shift_x, y1 + shift_y), row, column)

    def _candidate(self, found: _Found) -> Candidate:
        box = found.box
        counts = counts_within(found.runs, box.x0, box.y0, box.width_px, box.height_px)
        return Candidate(
            self._frame, self._class_names[found.label], CandidateKind.INSTANCE, box, found.area_px,
            found.score / SCORE_ONE, found.total / found.area_px / SCORE_ONE, write_counts(counts).tobytes(), None,
            box.x0 == 0 or box.y0 == 0 or box.x1 == self._plan.x.size_px or box.y1 == self._plan.y.size_px)


def _holds(axis: AxisPlan, index: int, start: int, stop: int, leeway: int) -> bool:
    """Whether the core of the tile, widened by `leeway` halves of a px, holds the middle of start..stop."""
    twice = start + stop
    starts, tile_px = axis.starts_px, axis.tile_px
    after_left = index == 0 or twice + leeway >= starts[index - 1] + tile_px + starts[index]
    before_right = index == len(starts) - 1 or twice - leeway < starts[index] + tile_px + starts[index + 1]
    return after_left and before_right


def _near(axis: AxisPlan, index: int, start: int, stop: int) -> bool:
    """Whether the tile sees start..stop whole, and its middle lies in the core or little beyond."""
    left, right = axis.covered(index)
    whole = (start > left or left == 0) and (stop < right or right == axis.size_px)
    return _holds(axis, index, start, stop, 0) or (whole and _holds(axis, index, start, stop,
                                                                    2 * (stop - start) // _LEEWAY))


def _is_shared(axis: AxisPlan, index: int, start: int, stop: int) -> bool:
    """Whether another tile along the axis covers some of start..stop."""
    return (index > 0 and start < axis.covered(index - 1)[1]) or (
        index < len(axis.starts_px) - 1 and stop > axis.starts_px[index + 1])


def _without_doubles(found: Sequence[_Found]) -> list[_Found]:
    """Those of which no better one of the same class is of another tile and has IoU >= 0.5."""
    ordered = sorted(found, key=lambda each: each.box)
    if not ordered:
        return []
    boxes = np.array([(each.box.x0, each.box.y0, each.box.x1, each.box.y1) for each in ordered], np.int32)
    kinds = np.array([(each.label, each.tile) for each in ordered], np.int32)
    same: dict[int, list[int]] = {}
    for first, second in overlapping_pairs(boxes, kinds).tolist():
        one, other = ordered[first], ordered[second]
        if 3 * shared_px(one.runs, other.runs) >= one.area_px + other.area_px:  # that is: IoU >= 1/2
            same.setdefault(first, []).append(second)
            same.setdefault(second, []).append(first)
    kept: set[int] = set()
    for index in sorted(range(len(ordered)), key=lambda index: ordered[index].rank):
        if kept.isdisjoint(same.get(index, ())):
            kept.add(index)
    return [ordered[index] for index in sorted(kept)]


def warm() -> None:
    """Compiles or loads the kernels now, so that the first image does not wait for it."""
    corners, covered = np.array((0, 0, 3, 3), np.int64), np.array((0, 0, 2, 2), np.int64)
    runs, _ = paste(np.ones((2, 2), np.float32), corners, covered, np.float32(0.5))
    write_counts(counts_within(runs, 0, 0, 2, 2))
    shared_px(runs, runs)
    overlapping_pairs(np.zeros((1, 4), np.int32), np.zeros((1, 2), np.int32))
