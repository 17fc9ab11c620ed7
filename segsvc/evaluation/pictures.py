"""Pictures of the images on which a model did worst: what is true and what was said, outlined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2

from segsvc.datasets import TrueObject
from segsvc.errors import ImageError
from segsvc.evaluation import Observation
from segsvc.imaging import masks
from segsvc.imaging.overlay import Line, Mark, draw, resized, to_display
from segsvc.quality.figures import WorstImage
from segsvc.readers import ReadLimits, opened
from segsvc.stores import store_of
from segsvc.types import SCORE_ONE, Box, Candidate, Source

TRUE_COLOUR, SAID_COLOUR = (86, 180, 233), (230, 159, 0)  # of Okabe and Ito, as in segsvc.imaging.overlay
_WINDOW_PX = 1024
_PICTURE_PX = 760
_JPEG_QUALITY = 80
_VERTICES = 400
_MOST_MARKS = 500
_MOST_LABELS = 5


@dataclass(frozen=True, slots=True)
class BadExample:
    """An image with its truth and what was said of it; `labels` are of a classifier: name, score, whether it is true."""

    worst: WorstImage
    picture: bytes
    window: Box
    width_px: int
    height_px: int
    n_objects: int
    n_candidates: int
    labels: tuple[tuple[str, float, bool], ...]


def bad_examples(worst: Sequence[WorstImage], observations: Sequence[Observation], class_names: Sequence[str],
                 flag_at: Mapping[str, float], limits: ReadLimits) -> list[BadExample]:
    """Pictures of these images, without those that are gone or were changed since."""
    of_uri = {each.ref.uri: each for each in observations}
    examples = []
    for bad in worst:
        try:
            examples.append(_example(bad, of_uri[bad.image_uri], class_names, flag_at, limits))
        except ImageError:  # gone or changed since: it is named without a picture
            continue
    return examples


def _example(worst: WorstImage, seen: Observation, class_names: Sequence[str], flag_at: Mapping[str, float],
             limits: ReadLimits) -> BadExample:
    said = [] if seen.labels is not None else sorted(
        (each for each in seen.candidates if each.score >= flag_at.get(each.class_name, 0.0)), key=lambda each: -each.score)
    with opened(store_of(seen.ref.uri).open(seen.ref), limits) as source:
        window = _window(source, [*(each.box for each in seen.objects), *(each.box for each in said[:_MOST_MARKS])])
        picture = resized(to_display(source.read(window)), longest_side_px=_PICTURE_PX)
        size = source.width_px, source.height_px
    true = [each for each in seen.objects if not each.ignored]
    marks = [*_marks(true, window, of_truth=True), *_marks(said, window, of_truth=False)]
    encoded = cv2.imencode(".jpg", draw(picture, marks, window=window)[:, :, ::-1],
                           [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
    return BadExample(worst, encoded, window, *size, len(true), len(said), _labels(seen, class_names))


def _labels(seen: Observation, class_names: Sequence[str]) -> tuple[tuple[str, float, bool], ...]:
    """The labels that are true or have the highest scores, the highest first."""
    if seen.labels is None:
        return ()
    scored = [(each.class_name, each.score) for each in seen.candidates]
    true = {name for name, is_true in zip(class_names, seen.labels.truth.tolist(), strict=True) if is_true}
    order = sorted(scored, key=lambda pair: (pair[0] not in true, -pair[1]))[:_MOST_LABELS]
    return tuple((name, round(score * SCORE_ONE) / SCORE_ONE, name in true)
                 for name, score in sorted(order, key=lambda pair: -pair[1]))


def _window(source: Source, boxes: Sequence[Box]) -> Box:
    """All of an image, or of a large one so much around the middle of what is marked."""
    middle_x = sum(box.x0 + box.x1 for box in boxes) // (2 * len(boxes)) if boxes else source.width_px // 2
    middle_y = sum(box.y0 + box.y1 for box in boxes) // (2 * len(boxes)) if boxes else source.height_px // 2
    x0 = min(max(0, middle_x - _WINDOW_PX // 2), max(0, source.width_px - _WINDOW_PX))
    y0 = min(max(0, middle_y - _WINDOW_PX // 2), max(0, source.height_px - _WINDOW_PX))
    return Box(x0, y0, min(x0 + _WINDOW_PX, source.width_px), min(y0 + _WINDOW_PX, source.height_px))


def _marks(shapes: Sequence[TrueObject] | Sequence[Candidate], window: Box, *, of_truth: bool) -> list[Mark]:
    marks: list[Mark] = []
    for each in shapes:
        box = each.box
        is_shown = box.x0 < window.x1 and window.x0 < box.x1 and box.y0 < window.y1 and window.y0 < box.y1
        if is_shown and len(marks) < _MOST_MARKS:
            outlines = masks.polygons(each.mask_rle, box, max_vertices=_VERTICES) if each.mask_rle is not None else ()
            rings = tuple(ring for outline in outlines for ring in (outline.outer, *outline.holes))
            marks.append(Mark(box=box, rings=rings, colour=TRUE_COLOUR if of_truth else SAID_COLOUR,
                              line=Line.SOLID if of_truth else Line.DASHED))
    return marks
