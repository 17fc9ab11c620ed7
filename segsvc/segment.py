"""One image in memory: tiles -> model -> merge -> candidates."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from segsvc.card import IntensityScale, ModelCard, Task
from segsvc.imaging.intensity import Affine, affine, to_channels, to_input
from segsvc.imaging.resizing import model_view
from segsvc.imaging.tiling import BandMerger, TilePlan, cut_tile, plan_tiles
from segsvc.types import (
    SCORE_ONE,
    Box,
    Candidate,
    CandidateKind,
    ExtractionCounts,
    PixelArray,
    ScoreArray,
    Segmentation,
    Source,
)

if TYPE_CHECKING:
    from segsvc.models.runtime import Detected, Scored

_SAMPLE_WHOLE_PX = 4_000_000  # up to this many px percentiles are taken over the whole image
_SAMPLE_GRID = 8  # beyond, over this many boxes along each axis
_SAMPLE_BOX_PX = 256


class Predictor(Protocol):
    """A model that computes inputs one after the other: `segsvc.models.runtime.Predictor`, or one that is being trained."""

    @property
    def card(self) -> ModelCard: ...
    @property
    def threads(self) -> int: ...
    @property
    def flexible(self) -> bool: ...
    def submit(self, pixels: npt.NDArray[np.float32]) -> Future[Scored] | Future[Detected]:
        """Scores, or objects where the card's task is instance."""


class Stopwatch:
    """Seconds per stage of one image."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] += seconds


def segment_source(source: Source, predictor: Predictor, watch: Stopwatch) -> Segmentation:
    """What the model finds in an opened image, all its frames.

    Raises ImageError where the source cannot be decoded.
    """
    find = {Task.CLASSIFICATION: _classify, Task.INSTANCE: _instances, Task.SEMANTIC: _regions}[predictor.card.task]
    candidates: list[Candidate] = []
    counts = ExtractionCounts()
    for frame in range(source.frames):
        found, counted = find(source, predictor, frame, watch)
        candidates += found
        counts += counted
    return Segmentation(source.width_px, source.height_px, source.frames, tuple(candidates), counts)


def _intensity(source: Source, predictor: Predictor, frame: int, watch: Stopwatch) -> Affine:
    normalisation = predictor.card.normalisation
    sample = None
    if normalisation.scale is IntensityScale.PERCENTILE:
        begun = time.perf_counter()
        sample = to_channels(intensity_sample(source, frame), predictor.card.channels)
        watch.add("read", time.perf_counter() - begun)
    return affine(normalisation, dtype=source.dtype, sample=sample)


def intensity_sample(source: Source, frame: int) -> PixelArray:
    """(h, w, C) the pixels over which percentiles are taken: all of them, or boxes on a regular grid of a large image."""
    width, height = source.width_px, source.height_px
    if width * height <= _SAMPLE_WHOLE_PX:
        return source.read(Box(0, 0, width, height), frame=frame)
    boxes = [source.read(Box(x0, y0, min(x0 + _SAMPLE_BOX_PX, width), min(y0 + _SAMPLE_BOX_PX, height)), frame=frame)
             for y0 in _spread(height) for x0 in _spread(width)]
    return np.concatenate([box.reshape(-1, 1, box.shape[2]) for box in boxes])


def _spread(size_px: int) -> list[int]:
    room = max(0, size_px - _SAMPLE_BOX_PX)
    return sorted({index * room // (_SAMPLE_GRID - 1) for index in range(_SAMPLE_GRID)})


def _regions(source: Source, predictor: Predictor, frame: int,
             watch: Stopwatch) -> tuple[list[Candidate], ExtractionCounts]:
    from segsvc.imaging.regions import RegionExtractor, in_order

    card = predictor.card
    extractors = [RegionExtractor(width_px=source.width_px, height_px=source.height_px, extraction=card.extraction,
                                  class_name=name, frame=frame) for name in card.class_names]
    candidates: list[Candidate] = []
    for merged in score_rows(source, predictor, frame=frame, watch=watch):
        begun = time.perf_counter()
        for extractor, of_class in zip(extractors, merged, strict=True):
            candidates += extractor.feed(of_class)
        watch.add("regions", time.perf_counter() - begun)
    counts = ExtractionCounts()
    for extractor in extractors:
        candidates += extractor.finish()
        counts += extractor.counts
    return list(in_order(candidates)), counts


def score_rows(source: Source, predictor: Predictor, *, frame: int = 0, watch: Stopwatch) -> Iterator[ScoreArray]:
    """The dense scores of a frame from top to bottom: (classes, rows, width_px), one piece a row of tiles.

    Raises ImageError where the source cannot be decoded.
    """
    plan = _plan(source, predictor)
    merger = BandMerger(plan, classes=len(predictor.card.classes))
    scores = _tile_scores(source, predictor, plan, frame, watch)
    for row in range(plan.rows):
        yield merger.row(scores, row)


def _plan(source: Source, predictor: Predictor) -> TilePlan:
    card = predictor.card
    return plan_tiles(source.width_px, source.height_px, tile_px=card.tile_px, overlap_px=card.overlap_px,
                      stride_px=card.stride_px, flexible=predictor.flexible)


def _instances(source: Source, predictor: Predictor, frame: int,
               watch: Stopwatch) -> tuple[list[Candidate], ExtractionCounts]:
    from segsvc.imaging.instances import InstanceCollector
    from segsvc.models.runtime import Detected

    card = predictor.card
    if card.detection is None:
        raise ValueError(f"model {card.name}: a model of instances needs card.detection, got none")
    plan = _plan(source, predictor)
    collector = InstanceCollector(plan, extraction=card.extraction, mask_min=card.detection.mask_min,
                                  class_names=card.class_names, frame=frame)
    for place, answer in enumerate(_answers(source, predictor, plan, frame, watch)):
        if not isinstance(answer, Detected):
            raise ValueError(f"model {card.name}: expected objects from it, got {type(answer).__name__}")
        begun = time.perf_counter()
        collector.add(answer.detections, row=place // plan.columns, column=place % plan.columns)
        watch.add("masks", time.perf_counter() - begun)
    begun = time.perf_counter()
    candidates, counts = collector.finish()
    watch.add("masks", time.perf_counter() - begun)
    return list(candidates), counts


def _tile_scores(source: Source, predictor: Predictor, plan: TilePlan, frame: int,
                 watch: Stopwatch) -> Iterator[ScoreArray]:
    """Scores (classes, tile_y, tile_x) of all tiles in order."""
    return (_scores(answer, predictor.card) for answer in _answers(source, predictor, plan, frame, watch))


def _scores(answer: Scored | Detected, card: ModelCard) -> ScoreArray:
    from segsvc.models.runtime import Scored

    if not isinstance(answer, Scored):
        raise ValueError(f"model {card.name}: expected scores from it, got {type(answer).__name__}")
    return answer.scores


def _answers(source: Source, predictor: Predictor, plan: TilePlan, frame: int,
             watch: Stopwatch) -> Iterator[Scored | Detected]:
    """What the model answers to all tiles in order, with enough of them ahead to keep it busy."""
    to = _intensity(source, predictor, frame, watch)
    ahead: deque[Future[Scored] | Future[Detected]] = deque()

    def next_answer() -> Scored | Detected:
        answer = ahead.popleft().result()
        watch.add("model", answer.seconds)
        return answer

    try:
        for tile in _tiles(source, plan, channels=predictor.card.channels, to=to, frame=frame, watch=watch):
            ahead.append(predictor.submit(tile))
            if len(ahead) > 2 * predictor.threads:
                yield next_answer()
        while ahead:
            yield next_answer()
    finally:
        for pending in ahead:
            pending.cancel()


def _tiles(source: Source, plan: TilePlan, *, channels: int, to: Affine, frame: int,
           watch: Stopwatch) -> Iterator[npt.NDArray[np.float32]]:
    for row in range(plan.rows):
        begun = time.perf_counter()
        band = to_channels(source.read(plan.band(row), frame=frame), channels)
        watch.add("read", time.perf_counter() - begun)
        for column in range(plan.columns):
            begun = time.perf_counter()
            tile = to_input(cut_tile(band, plan, row=row, column=column), to)
            watch.add("tile", time.perf_counter() - begun)
            yield tile


def _classify(source: Source, predictor: Predictor, frame: int,
              watch: Stopwatch) -> tuple[list[Candidate], ExtractionCounts]:
    card = predictor.card
    if card.resize is None:
        raise ValueError(f"model {card.name}: a classifier needs card.resize, got none")
    begun = time.perf_counter()
    view = to_channels(model_view(source, card.resize, frame=frame), card.channels)
    watch.add("read", time.perf_counter() - begun)
    scale = affine(card.normalisation, dtype=source.dtype, sample=view)
    answer = predictor.submit(to_input(view, scale)).result()
    watch.add("model", answer.seconds)
    reached = [(int(score), name) for name, score in zip(card.class_names, _scores(answer, card), strict=True)
               if score / SCORE_ONE >= card.extraction.floor]
    if card.extraction.top_k is not None:
        reached = sorted(reached, key=lambda pair: -pair[0])[: card.extraction.top_k]
    whole = Box(0, 0, source.width_px, source.height_px)
    candidates = [Candidate(frame, name, CandidateKind.IMAGE, whole, whole.area_px, score / SCORE_ONE,
                            score / SCORE_ONE, touches_edge=True)
                  for score, name in sorted(reached, key=lambda pair: pair[1])]
    return candidates, ExtractionCounts(kept=len(candidates), below_floor=len(card.classes) - len(candidates))
