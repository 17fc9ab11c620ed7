"""What a model's stored candidates say of labelled images, as tallies a class, by the units that were drawn together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segsvc import truth
from segsvc.card import Task
from segsvc.datasets import Dataset, LabelledImage
from segsvc.evaluation import Compared, compared, observe
from segsvc.quality.found import NOT_FOUND
from segsvc.quality.observations import FoundTally
from segsvc.quality.thresholds import Tally
from segsvc.readers import ReadLimits, opened
from segsvc.segment import Predictor, Stopwatch, segment_source
from segsvc.stores import store_of
from segsvc.types import Candidate, ImageRef


@dataclass(frozen=True, slots=True)
class Looked:
    """An image: which of its objects candidates find, and the candidates as a run stores them."""

    ref: ImageRef
    found: FoundTally
    candidates: tuple[Candidate, ...]


def look(image: LabelledImage, dataset: Dataset, predictor: Predictor, limits: ReadLimits) -> Looked:
    """Asks the model about an image. Raises ImageError where it cannot be read, ConfigError where its labels cannot."""
    if predictor.card.task is not Task.CLASSIFICATION:
        seen = observe(image, dataset, predictor, limits, needs_px=False)
        if seen.found is None:
            raise ValueError(f"{image.ref.uri}: expected objects and candidates, got none of both")
        return Looked(image.ref, seen.found, seen.candidates)
    with opened(store_of(image.ref.uri).open(image.ref), limits) as source:
        candidates = tuple(segment_source(source, predictor, Stopwatch()))
    return Looked(image.ref, _found_classes(image, candidates, compared(predictor.card, dataset)), candidates)


def _found_classes(image: LabelledImage, candidates: Sequence[Candidate], classes: Compared) -> FoundTally:
    """An image shows a class or does not: its candidate finds it. A score that is not stored finds nothing."""
    shown = truth.class_names(image)
    number = {each: place for place, name in enumerate(classes.names) for each in classes.counted_as(name)}
    counted = [each for each in candidates if each.class_name in number]
    candidate_class = np.array([number[each.class_name] for each in counted], np.int64)
    candidate_score = np.array([each.score for each in counted], np.float64)
    objects = np.array([place for place, name in enumerate(classes.names) if name in shown], np.int64)
    best = np.where(candidate_class[:, None] == objects[None, :], candidate_score[:, None], NOT_FOUND).max(
        axis=0, initial=NOT_FOUND)
    return FoundTally(objects, best, candidate_class, candidate_score, np.isin(candidate_class, objects))


def unit_numbers(images: Sequence[Looked]) -> npt.NDArray[np.int64]:
    """(images,) what was drawn together with each: its group, or itself alone; numbered in the order of their names."""
    names = [f"group {each.ref.group}" if each.ref.group is not None else f"image {each.ref.uri}" for each in images]
    number = {name: place for place, name in enumerate(sorted(set(names)))}
    return np.array([number[name] for name in names], np.int64)


def tallies(images: Sequence[Looked], n_classes: int) -> list[Tally]:
    """A tally for each class of the comparison."""
    units = unit_numbers(images)
    n_units = int(units.max()) + 1
    found = [each.found for each in images]

    object_class = np.concatenate([each.object_class for each in found])
    object_score = np.concatenate([each.object_score for each in found])
    object_unit = np.repeat(units, [len(each.object_class) for each in found])
    candidate_class = np.concatenate([each.candidate_class for each in found])
    candidate_score = np.concatenate([each.candidate_score for each in found])
    candidate_right = np.concatenate([each.candidate_right for each in found])
    candidate_unit = np.repeat(units, [len(each.candidate_class) for each in found])

    def of_class(place: int) -> Tally:
        objects, candidates = object_class == place, candidate_class == place
        return Tally(n_units, object_unit[objects], object_score[objects], candidate_unit[candidates],
                     candidate_score[candidates], candidate_right[candidates])

    return [of_class(place) for place in range(n_classes)]
