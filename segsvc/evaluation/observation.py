"""What a model says of one labelled image, beside what is true of it, reduced to what figures need."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from segsvc import truth
from segsvc.card import Activation, Extraction, ModelCard, Task
from segsvc.datasets import Dataset, LabelledImage, MaskTruth, Split, TrueObject
from segsvc.errors import ConfigError, ImageError, ImageErrorKind
from segsvc.imaging import masks
from segsvc.imaging.regions import RegionExtractor, in_order, lowest_score_from
from segsvc.quality.average_precision import detection_tally
from segsvc.quality.dense import DenseCounter
from segsvc.quality.found import ScoredShape, found_tally
from segsvc.quality.matching import Shape
from segsvc.quality.observations import ClassScores, DenseTally, DetectionTally, FoundTally
from segsvc.readers import ReadLimits, opened
from segsvc.segment import Predictor, Stopwatch, score_rows, segment_source
from segsvc.stores import store_of
from segsvc.types import SCORE_ONE, Box, Candidate, ImageRef, ScoreArray, Source

# task of a model: tasks that a data set may be labelled for
_LABELLED_FOR = {Task.SEMANTIC: (Task.SEMANTIC, Task.INSTANCE), Task.INSTANCE: (Task.INSTANCE,),
                 Task.CLASSIFICATION: (Task.CLASSIFICATION, Task.INSTANCE)}


@dataclass(frozen=True, slots=True)
class Compared:
    """The classes that a model and a data set both know, in the set's order, and those that only one of them does.

    `folded` are classes of the model that count as another: each with the ancestor, of those that both know, that it
    counts as.
    """

    names: tuple[str, ...]
    only_in_data: tuple[str, ...] = ()
    only_in_model: tuple[str, ...] = ()
    folded: Mapping[str, str] = field(default_factory=dict)

    def counted_as(self, name: str) -> tuple[str, ...]:
        """The classes of the model that count as one of its classes: that one, and those that are folded into it."""
        return (name, *(each for each, ancestor in self.folded.items() if ancestor == name))


@dataclass(frozen=True, slots=True)
class Observation:
    """What a model said of one image, reduced to what figures need; class numbers are places in the compared names.

    `candidates` and `objects` are kept for pictures.
    """

    ref: ImageRef
    split: Split | None
    dense: DenseTally | None = None
    found: FoundTally | None = None
    masks: DetectionTally | None = None
    boxes: DetectionTally | None = None
    labels: ClassScores | None = None
    candidates: tuple[Candidate, ...] = ()
    objects: tuple[TrueObject, ...] = ()


def compared(card: ModelCard, dataset: Dataset) -> Compared:
    """The classes of a model and a data set, matched by name; by the card's tree where the set has no name for a class.

    Such a class of the model counts as its nearest ancestor that the set does know: to a set of cars, a trailer is a car.
    What a set says of an ancestor tells nothing of its descendants. Candidates count as a run stores them, one by one: an
    object that is called two things which are folded has two. Scores of px and of whole images become one score a class:
    under softmax, where one class holds, their sum is the probability that the ancestor does; under sigmoid, where classes
    are judged one by one, the highest counts. A class that both know is compared by its name alone.

    Raises ConfigError where they share none, or where the set is not labelled for the model's task.
    """
    if dataset.task not in _LABELLED_FOR[card.task]:
        wanted = " or ".join(task.value for task in _LABELLED_FOR[card.task])
        raise ConfigError(f"data set {dataset.place}: expected labels for {wanted}, as model {card.name} answers "
                          f"{card.task.value}, got {dataset.layout} with labels for {dataset.task.value}")
    names = tuple(name for name in dataset.classes if name in card.class_names)
    if not names:
        raise ConfigError(f"expected a data set with classes of model {card.name} ({_some(card.class_names)}), got "
                          f"{dataset.place} with {_some(dataset.classes)}: they have none in common")
    known = frozenset(names)
    unknown = tuple(name for name in card.class_names if name not in known)
    parents = {node.name: node.parent for node in card.classes}
    nearest = {name: _nearest(name, parents, known) for name in unknown}
    return Compared(names, tuple(name for name in dataset.classes if name not in known),
                    tuple(name for name in unknown if nearest[name] is None),
                    {name: ancestor for name, ancestor in nearest.items() if ancestor is not None})


def _nearest(name: str | None, parents: Mapping[str, str | None], known: Collection[str]) -> str | None:
    """The first of a class and its ancestors that is known; None where none is."""
    while name is not None and name not in known:
        name = parents[name]
    return name


def observe(image: LabelledImage, dataset: Dataset, predictor: Predictor, limits: ReadLimits, *,
            flag_at: Mapping[str, float] | None = None, needs_px: bool = True) -> Observation:
    """What the model says of an image, beside what is true of it.

    flag_at: thresholds of an operating point by class, at which px are counted besides 0.5. needs_px: whether labels of px
    must be there for a semantic model; without, objects that people only drew a box around will do. Raises ImageError where
    the image cannot be read, ConfigError where its labels cannot, or the model and the set have nothing in common.
    """
    classes = compared(predictor.card, dataset)
    with opened(store_of(image.ref.uri).open(image.ref), limits) as source:
        if source.frames != 1:
            raise ImageError(ImageErrorKind.UNSUPPORTED,
                             f"expected an image of one frame, which its labels are of, got {source.frames} frames")
        task = predictor.card.task
        if task is Task.SEMANTIC and not needs_px and truth.has_boxes_alone(image):
            task = Task.INSTANCE  # candidates are compared with objects, px by px of the candidates
        return _OBSERVERS[task](image, dataset, predictor, classes, source, flag_at or {})


def _observe_dense(image: LabelledImage, dataset: Dataset, predictor: Predictor, classes: Compared, source: Source,
                   flag_at: Mapping[str, float]) -> Observation:
    width, height = source.width_px, source.height_px
    mask = truth.index_mask(image, dataset, width_px=width, height_px=height)
    card, names = predictor.card, classes.names
    channels = [[card.class_names.index(each) for each in classes.counted_as(name)] for name in names]
    values = [dataset.classes.index(name) + 1 for name in names]
    extractors = {channel: RegionExtractor(width_px=width, height_px=height, extraction=card.extraction, class_name=name,
                                           frame=0) for name, own in zip(names, channels, strict=True) for channel in own}
    counter = DenseCounter(len(names))
    candidates: list[Candidate] = []
    top = 0
    for rows in score_rows(source, predictor, watch=Stopwatch()):
        of_rows = mask[top: top + rows.shape[1]]
        top += rows.shape[1]
        is_counted = of_rows != truth.IGNORE
        for number, (own, value) in enumerate(zip(channels, values, strict=True)):
            counter.add(number, _one_score([rows[channel] for channel in own], card), of_rows == value, is_counted)
        for channel, extractor in extractors.items():
            candidates += extractor.feed(rows[channel])
    for extractor in extractors.values():
        candidates += extractor.finish()
    every = truth.regions(mask, dataset) if isinstance(image.truth, MaskTruth) else truth.objects(
        image, dataset, width_px=width, height_px=height)
    objects = tuple(each for each in every if each.class_name in names)
    ignored = [(None, shape) for shape in _ignored_px(mask)]
    said = [lowest_score_from(flag_at.get(name, 0.5)) for name in names]
    return Observation(image.ref, image.split, dense=counter.tally(said), found=_found(candidates, objects, ignored, names),
                       candidates=in_order(candidates), objects=objects)


def _observe_instances(image: LabelledImage, dataset: Dataset, predictor: Predictor, classes: Compared, source: Source,
                       flag_at: Mapping[str, float]) -> Observation:
    names = classes.names
    counts_as = {name: name for name in names} | dict(classes.folded)
    candidates = in_order(replace(each, class_name=counts_as[each.class_name]) for each in segment_source(
        source, predictor, Stopwatch()) if each.class_name in counts_as)
    every = truth.objects(image, dataset, width_px=source.width_px, height_px=source.height_px)
    objects = tuple(each for each in every if each.class_name in names)
    ignored = [(names.index(each.class_name), Shape(each.box, each.mask_rle)) for each in objects if each.ignored]
    has_masks = all(each.mask_rle is not None for each in candidates) and all(each.mask_rle is not None for each in objects)
    return Observation(image.ref, image.split, found=_found(candidates, objects, ignored, names),
                       masks=_detections(candidates, objects, names, by_box=False) if has_masks else None,
                       boxes=_detections(candidates, objects, names, by_box=True), candidates=candidates, objects=objects)


def _observe_labels(image: LabelledImage, dataset: Dataset, predictor: Predictor, classes: Compared, source: Source,
                    flag_at: Mapping[str, float]) -> Observation:
    card, names = predictor.card, classes.names
    candidates = segment_source(source, _Unfiltered(predictor), Stopwatch()).candidates
    said = {each.class_name: np.array(round(each.score * SCORE_ONE), np.uint16) for each in candidates}
    of_class = {name: int(_one_score([said[each] for each in classes.counted_as(name)], card)) for name in card.class_names
                if name not in classes.folded}
    best = max(of_class, key=of_class.__getitem__)
    shown = truth.class_names(image)
    is_true = np.array([name in shown for name in names])
    scores = ClassScores(scores=np.array([of_class[name] for name in names], np.uint16), truth=is_true,
                         top=names.index(best) if best in names else -1, top_score=of_class[best],
                         true=int(is_true.argmax()) if is_true.sum() == 1 else -1)
    return Observation(image.ref, image.split, labels=scores, candidates=tuple(
        replace(each, score=of_class[each.class_name] / SCORE_ONE, mean_score=of_class[each.class_name] / SCORE_ONE)
        for each in candidates if each.class_name in of_class))


def _one_score(scores: Sequence[ScoreArray], card: ModelCard) -> ScoreArray:
    """One score of several that count as one class, each of the same shape, uint16."""
    if len(scores) == 1:
        return scores[0]
    if card.activation is Activation.SIGMOID:
        highest: ScoreArray = np.maximum.reduce(scores)
        return highest
    return np.minimum(np.sum(scores, axis=0, dtype=np.int64), SCORE_ONE).astype(np.uint16)  # each was rounded for itself


_Observer = Callable[[LabelledImage, Dataset, Predictor, Compared, Source, Mapping[str, float]], Observation]
_OBSERVERS: Mapping[Task, _Observer] = {Task.SEMANTIC: _observe_dense, Task.INSTANCE: _observe_instances,
                                        Task.CLASSIFICATION: _observe_labels}


class _Unfiltered:
    """A classifier that answers with the scores of all classes, whatever its card stores of them."""

    def __init__(self, predictor: Predictor) -> None:
        self.card = predictor.card.model_copy(update={"extraction": Extraction(extent_min=0.0, floor=0.0)})
        self.threads, self.flexible, self.submit = predictor.threads, predictor.flexible, predictor.submit


def _found(candidates: Collection[Candidate], objects: Collection[TrueObject], ignored: Sequence[tuple[int | None, Shape]],
           names: Sequence[str]) -> FoundTally:
    scored = [ScoredShape(names.index(each.class_name), each.score, Shape(each.box, each.mask_rle)) for each in candidates]
    return found_tally(scored, [(names.index(each.class_name), Shape(each.box, each.mask_rle)) for each in objects
                                if not each.ignored], ignored)


def _detections(candidates: Collection[Candidate], objects: Collection[TrueObject], names: Sequence[str], *,
                by_box: bool) -> DetectionTally:
    def shapes(of: Collection[Candidate] | Collection[TrueObject]) -> list[Shape]:
        return [Shape(each.box, None if by_box else each.mask_rle) for each in of]

    def numbers(of: Collection[Candidate] | Collection[TrueObject]) -> npt.NDArray[np.int64]:
        return np.array([names.index(each.class_name) for each in of], np.int64)

    scores = np.array([each.score for each in candidates], np.float64)
    return detection_tally(shapes(candidates), scores, numbers(candidates), shapes(objects), numbers(objects),
                           np.array([each.ignored for each in objects], np.bool_), n_classes=len(names))


def _ignored_px(mask: npt.NDArray[np.uint8]) -> list[Shape]:
    """The px to be ignored, as one shape; none where there are none."""
    rows, columns = np.flatnonzero((mask == truth.IGNORE).any(axis=1)), np.flatnonzero((mask == truth.IGNORE).any(axis=0))
    if not rows.size:
        return []
    box = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return [Shape(box, masks.encode(mask[box.y0: box.y1, box.x0: box.x1] == truth.IGNORE))]


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
