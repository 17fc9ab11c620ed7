"""How scores become candidates, chosen on images that the model did not learn from: by the objects that are found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from segsvc.card import Extraction
from segsvc.datasets import TrueObject
from segsvc.imaging.regions import extract_regions
from segsvc.quality.matching import Shape, areas_px, finds, shared_px
from segsvc.types import ScoreArray

EXTENTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
_AS_GOOD = 0.005  # of all objects: extents that find so many fewer than the best are still as good
_HUNDREDTHS = 100


@dataclass(slots=True)
class _Tally:
    """What an extent comes to: of each found object the best score, the largest area and the best IoU of its finders."""

    scores: list[float] = field(default_factory=list)
    areas_px: list[int] = field(default_factory=list)
    ious: list[float] = field(default_factory=list)


class ExtractionChoice:
    """Gathers scored images one by one, and then says how regions are best formed."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._class_names = tuple(class_names)
        self._tallies: Mapping[float, _Tally] = {extent: _Tally() for extent in EXTENTS}
        self._objects = 0

    def add(self, scores: ScoreArray, objects: Iterable[TrueObject]) -> None:
        """scores: (classes, h, w) uint16, 65535 stands for 1.0; objects: those of the same image."""
        by_class: dict[str, list[TrueObject]] = {}
        for each in objects:
            if not each.ignored:
                by_class.setdefault(each.class_name, []).append(each)
        for name, of_class in zip(self._class_names, scores, strict=True):
            true = [Shape(each.box, each.mask_rle) for each in by_class.get(name, [])]
            self._objects += len(true)
            if true:
                for extent, tally in self._tallies.items():
                    _count(tally, of_class, true, name, extent)

    def choose(self) -> Extraction:
        """extent_min, floor and min_area_px.

        extent_min: of those with which the most objects are found (or as good as that), the one whose candidates fit their
        objects best by IoU. floor and min_area_px: half the way to where the first found object would be lost, since
        fresh images hold objects that are fainter and smaller than these. Extraction's defaults where there is no object.
        """
        most = max(len(tally.scores) for tally in self._tallies.values())
        if not most:
            return Extraction()
        enough = most - math.floor(_AS_GOOD * self._objects)
        good = [extent for extent, tally in self._tallies.items() if len(tally.scores) >= enough]
        extent = max(good, key=lambda each: (round(float(np.mean(self._tallies[each].ious)), 3), each))
        tally = self._tallies[extent]
        floor = math.floor((extent + min(tally.scores)) / 2 * _HUNDREDTHS) / _HUNDREDTHS
        return Extraction(extent_min=extent, floor=max(extent, floor), min_area_px=max(1, min(tally.areas_px) // 2))


def _count(tally: _Tally, scores: ScoreArray, true: Sequence[Shape], class_name: str, extent: float) -> None:
    candidates, _ = extract_regions(scores, extraction=Extraction(extent_min=extent, floor=extent), class_name=class_name)
    if not candidates:
        return
    shapes = [Shape(each.box, each.mask_rle) for each in candidates]
    shared, areas, sizes = shared_px(shapes, true), areas_px(shapes), areas_px(true)
    found = finds(shared, areas, sizes)
    ious = shared / np.maximum(areas[:, None] + sizes[None, :] - shared, 1)
    heights = np.array([each.score for each in candidates])
    for column in np.flatnonzero(found.any(axis=0)).tolist():
        by = found[:, column]
        tally.scores.append(float(heights[by].max()))
        tally.areas_px.append(int(areas[by].max()))
        tally.ious.append(float(ious[by, column].max()))
