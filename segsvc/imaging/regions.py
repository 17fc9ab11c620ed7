"""Scores -> candidates: the connected regions of one class in one frame, whole or as bands of rows arrive."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from segsvc.card import Extraction
from segsvc.imaging import region_masks, runs
from segsvc.types import SCORE_ONE, Box, Candidate, CandidateKind, ExtractionCounts, ScoreArray

ROOM = 4096  # runs and components that a new extractor has room for; it grows as it needs
SWEEP_RUNS = 1 << 16  # so many runs may wait before finished regions are looked for


def lowest_score_above(score: float) -> int:
    """The least integer score q in [0, 65536] with q / 65535 > score, as floats compare; 65536 stands for none.

    Scores are compared as the floats that users see, so that 0.6 is not above 0.6 though 0.6 * 65535 rounds up.
    """
    q = max(int(score * SCORE_ONE) - 1, 0)
    while q <= SCORE_ONE and q / SCORE_ONE <= score:
        q += 1
    return q


def lowest_score_from(score: float) -> int:
    """The least integer score q in [0, 65535] with q / 65535 >= score, as floats compare."""
    q = max(int(score * SCORE_ONE) - 1, 0)
    while q < SCORE_ONE and q / SCORE_ONE < score:
        q += 1
    return q


def in_order(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The candidates of an image in the order in which they are stored.

    By frame, class name, box (x0, y0, x1, y1), then mask and text: the order says nothing of how they were found.
    """
    def place(candidate: Candidate) -> tuple[int, str, int, int, int, int, bytes, str]:
        box = candidate.box
        return (candidate.frame, candidate.class_name, box.x0, box.y0, box.x1, box.y1,
                candidate.mask_rle or b"", candidate.text or "")

    return tuple(sorted(candidates, key=place))


class RegionExtractor:
    """Finds the regions of one class in one frame as bands of rows arrive, top to bottom.

    A region is a maximal 8-connected set of px with scores strictly above `extraction.extent_min`. It is stored if its
    highest score reaches `extraction.floor` and it has at least `extraction.min_area_px` px; `counts` says how many
    regions were kept and taken away so far (one that fails both counts as below the floor). However the rows are cut
    into bands, the regions are the same to the byte. Memory holds the outlines of the regions that may still grow, and
    of as many finished ones again: never pixels.

    Not for several threads at once; extractors of their own run side by side (the work does not hold the GIL).
    """

    def __init__(self, *, width_px: int, height_px: int, extraction: Extraction, class_name: str, frame: int) -> None:
        if width_px < 1 or height_px < 1:
            raise ValueError(f"expected an image of at least 1 x 1 px, got {width_px} x {height_px} px")
        self.counts = ExtractionCounts()
        self._width_px = width_px
        self._height_px = height_px
        self._class_name = class_name
        self._frame = frame
        self._below = np.uint16(lowest_score_above(extraction.extent_min) - 1)
        self._floor = lowest_score_from(extraction.floor)
        self._min_area_px = extraction.min_area_px
        self._y = 0
        self._bounds = np.empty(2 * ROOM, np.int32)
        self._places = np.empty((ROOM, 2), np.int32)
        self._parts = np.empty((ROOM, runs.COLUMNS), np.int64)
        self._n_runs = self._n_parts = self._row_start = 0
        self._sweep_from = SWEEP_RUNS

    @property
    def held_bytes(self) -> int:
        """The memory of what is kept from band to band."""
        return self._bounds.nbytes + self._places.nbytes + self._parts.nbytes

    def feed(self, scores: ScoreArray) -> list[Candidate]:
        """Regions that have ended, in any order; those not given yet come from a later call, at the latest `finish`.

        scores: (rows, width_px) uint16, the rows that follow those fed so far; 65535 stands for 1.0. Raises ValueError
        for another dtype or width, or more rows than the image has. Finished regions are looked for whenever the runs
        held have doubled, so that each run is gone over a bounded number of times however thin the bands are.
        """
        if scores.dtype != np.uint16 or scores.ndim != 2 or scores.shape[1] != self._width_px:
            raise ValueError(f"expected scores of uint16 (rows, {self._width_px}), got {scores.dtype} {scores.shape}")
        if self._y + scores.shape[0] > self._height_px:
            raise ValueError(f"expected {self._height_px} rows in all, got {self._y + scores.shape[0]}")
        band = np.ascontiguousarray(scores).view()
        band.flags.writeable = False  # one type of array, one compiled kernel
        self._bounds, self._places, self._parts, self._n_runs, self._n_parts, self._row_start = runs.scan(
            band, self._below, self._y, self._bounds, self._places, self._parts,
            self._n_runs, self._n_parts, self._row_start)
        self._y += scores.shape[0]
        if self._n_runs < self._sweep_from or self._y == self._height_px:
            return []
        found = self._sweep(self._y)
        self._sweep_from = max(SWEEP_RUNS, 2 * self._n_runs)
        return found

    def finish(self) -> list[Candidate]:
        """The remaining regions, in any order. Raises ValueError if rows are missing."""
        if self._y != self._height_px:
            raise ValueError(f"expected {self._height_px} rows in all, got {self._y}")
        return self._sweep(-1)

    def _sweep(self, y_open: int) -> list[Candidate]:
        n_before = self._n_runs
        found, text, self._n_runs, self._n_parts, below_floor, below_area = region_masks.sweep(
            self._bounds, self._places, self._parts, self._n_runs, self._n_parts, y_open,
            self._floor, self._min_area_px)
        self._row_start -= n_before - self._n_runs  # the runs of the last row are open, and so stay the last ones
        self.counts += ExtractionCounts(len(found), below_floor, below_area)
        return self._candidates(found, text.tobytes())

    def _candidates(self, found: runs.Int64Array, text: bytes) -> list[Candidate]:
        candidates = []
        start = 0
        for stop, x0, y0, x1, y1, area_px, total, highest in found.tolist():
            candidates.append(Candidate(
                self._frame, self._class_name, CandidateKind.REGION, Box(x0, y0, x1, y1), area_px,
                highest / SCORE_ONE, total / area_px / SCORE_ONE, text[start:stop], None,
                x0 == 0 or y0 == 0 or x1 == self._width_px or y1 == self._height_px))
            start = stop
        return candidates


def extract_regions(
    scores: ScoreArray, *, extraction: Extraction, class_name: str, frame: int = 0
) -> tuple[tuple[Candidate, ...], ExtractionCounts]:
    """The regions of a whole score map, in order, and what the filters kept and took away.

    scores: (h, w) uint16, 65535 stands for 1.0. Raises ValueError for another dtype or no pixels. See `RegionExtractor`
    for what a region is.
    """
    if scores.ndim != 2:
        raise ValueError(f"expected scores of uint16 (h, w), got {scores.dtype} {scores.shape}")
    extractor = RegionExtractor(width_px=scores.shape[1], height_px=scores.shape[0], extraction=extraction,
                                class_name=class_name, frame=frame)
    candidates = extractor.feed(scores) + extractor.finish()
    return in_order(candidates), extractor.counts


def warm() -> None:
    """Compiles or loads the kernels now, so that the first image does not wait for it."""
    extract_regions(np.full((1, 1), SCORE_ONE, np.uint16), extraction=Extraction(), class_name="")
