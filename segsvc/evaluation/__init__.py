"""How good a model is: observations of labelled images -> figures with their intervals, by slice, and the worst images.

`observe` and `summarise` are all that there is to it, here and in training; observations may come from several models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segsvc.card import Task
from segsvc.datasets import LabelledImage
from segsvc.errors import ConfigError
from segsvc.evaluation.observation import Compared, Observation, compared, observe
from segsvc.quality.average_precision import MOST_STEPS, detection_figures
from segsvc.quality.bootstrap import CONFIDENCE, FEWEST_UNITS, Resamples
from segsvc.quality.classification import classification_figures, image_loss
from segsvc.quality.dense import dense_figures, image_dice
from segsvc.quality.figures import (
    ClassificationFigures,
    DenseFigures,
    Figure,
    FoundFigures,
    InstanceFigures,
    SliceFigures,
    Sureness,
    WorstImage,
)
from segsvc.quality.found import false_candidates, found_figures, missed
from segsvc.types import ImageRef

__all__ = ["Compared", "Observation", "Summary", "compared", "observe", "slice_columns", "summarise"]

MOST_SLICES = 20
MOST_WORST = 12
RESAMPLES = 1000
NO_VALUE = ""
_IMAGES_A_VALUE = 2
_SLICE_STEPS = 200_000_000  # of average precision's bootstrap in one slice


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a model on labelled images. `figures` are those that say it in few words.

    Objects are counted at the operating point's `flag_at` where every class has one (`flag_at`), else all stored candidates.
    """

    task: Task
    class_names: tuple[str, ...]
    flag_at: tuple[float | None, ...]
    images: int
    sureness: Sureness
    figures: Mapping[str, Figure]
    semantic: DenseFigures | None
    instance: InstanceFigures | None
    classification: ClassificationFigures | None
    found: FoundFigures | None
    slices: tuple[SliceFigures, ...]
    worst: tuple[WorstImage, ...]


@dataclass(frozen=True, slots=True)
class _Figures:
    semantic: DenseFigures | None = None
    instance: InstanceFigures | None = None
    classification: ClassificationFigures | None = None
    found: FoundFigures | None = None

    def in_few_words(self) -> dict[str, Figure]:
        """The figures that stand first, by the names that metrics.json gives them."""
        named: dict[str, Figure] = {}
        if self.semantic is not None:
            named |= {"dice": self.semantic.mean_dice, "iou": self.semantic.mean_iou}
        if self.instance is not None:
            best = self.instance.masks or self.instance.boxes
            named |= {"ap50": best.all.ap50, "ap": best.all.ap, "ar": best.all.ar}
        if self.found is not None:
            at_flag = self.found.mean_recall_at_flag.value is not None
            named |= {"object_recall": self.found.mean_recall_at_flag if at_flag else self.found.mean_recall,
                      "object_precision": self.found.mean_precision_at_flag if at_flag else self.found.mean_precision}
        if self.classification is not None:
            if self.classification.confusion is not None:
                named["accuracy"] = self.classification.accuracy
            named |= {"f1": self.classification.mean_f1, "average_precision": self.classification.mean_average_precision,
                      "roc_area": self.classification.mean_roc_area}
        return named


def summarise(observations: Sequence[Observation], classes: Sequence[str], task: Task, *, seed: int,
              resamples: int = RESAMPLES, slices: Sequence[str] | None = None,
              flag_at: Mapping[str, float] | None = None, exclusive: bool = False) -> Summary:
    """The figures of observed images; none without an image. The same observations and seed give the same to the bit.

    classes: the compared names, whose places the observations' class numbers are. slices: columns (`slice_columns` by
    default). flag_at: the thresholds that were given to `observe`. exclusive: each image has exactly one class.
    """
    flags = tuple((flag_at or {}).get(name) for name in classes)
    drawn = Resamples(units_of([each.ref for each in observations]), n=resamples, seed=seed)
    every = _figures(observations, classes, task, flags, drawn, exclusive=exclusive) if observations else _Figures()
    columns = slice_columns(observations) if slices is None else slices
    return Summary(
        task=task, class_names=tuple(classes), flag_at=flags, images=len(observations),
        sureness=_sureness(observations, drawn, seed), figures=every.in_few_words(), semantic=every.semantic,
        instance=every.instance, classification=every.classification, found=every.found,
        slices=tuple(figures for column in columns for figures in
                     _sliced(column, observations, classes, task, flags, seed, resamples, exclusive=exclusive)),
        worst=_worst(observations, task, flags))


def units_of(refs: Sequence[ImageRef]) -> list[str]:
    """What is drawn together with each image: its group, or itself alone."""
    return [f"group {ref.group}" if ref.group is not None else f"image {ref.uri} {ref.version}" for ref in refs]


def slice_columns(images: Sequence[Observation | LabelledImage], wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """The columns by which images are sliced: those that are wanted, else, sorted, those with 2 to 20 values that have two
    images each on average.

    Raises ConfigError for a wanted column that there is not, or with more values; the message names those that there are.
    """
    columns = [columns_of(each) for each in images]
    names = sorted({name for of_image in columns for name in of_image})
    values = {name: {of_image.get(name, NO_VALUE) for of_image in columns} for name in names}
    possible = tuple(name for name in names if len(values[name]) <= MOST_SLICES)
    for name in wanted or ():
        if name not in possible:
            came = f"one with {len(values[name])}" if name in values else "none of that name"
            raise ConfigError(f"--slice {name}: expected a column with at most {MOST_SLICES} values, got {came}. "
                              f"There are: {', '.join(possible) or 'none'}.")
    if wanted:
        return tuple(wanted)
    return tuple(name for name in possible if 1 < len(values[name]) <= len(images) / _IMAGES_A_VALUE)


def columns_of(image: Observation | LabelledImage) -> dict[str, str]:
    """The columns of an image: those of its manifest, its group and its split."""
    columns = dict(image.ref.meta)
    if image.ref.group is not None:
        columns["group"] = image.ref.group
    if image.split is not None:
        columns["split"] = image.split.value
    return columns


def badness(observation: Observation, task: Task, flag_at: Sequence[float | None]) -> WorstImage | None:
    """By what an image is bad, and how much; None where nothing is wrong with it."""
    uri = observation.ref.uri
    if task is Task.SEMANTIC and observation.dense is not None:
        dice = image_dice(observation.dense)
        return WorstImage(uri, "dice", dice) if dice is not None and dice < 1 else None
    if task is Task.INSTANCE and observation.found is not None:
        wrong = missed(observation.found, flag_at) + false_candidates(observation.found, flag_at)
        return WorstImage(uri, "missed or false objects", float(wrong)) if wrong else None
    if observation.labels is not None:
        return WorstImage(uri, "loss", image_loss(observation.labels))
    return None


def _figures(observations: Sequence[Observation], classes: Sequence[str], task: Task, flags: Sequence[float | None],
             drawn: Resamples, *, exclusive: bool, curves: bool = True) -> _Figures:
    if task is Task.CLASSIFICATION:
        labels = [each.labels for each in observations if each.labels is not None]
        return _Figures(classification=classification_figures(labels, classes, flags, drawn, exclusive=exclusive,
                                                              curves=curves))
    found = found_figures([each.found for each in observations if each.found is not None], classes, flags, drawn,
                          curves=curves)
    if task is Task.SEMANTIC:
        dense = [each.dense for each in observations if each.dense is not None]
        return _Figures(semantic=dense_figures(dense, classes, flags, drawn, curves=curves), found=found)
    steps = MOST_STEPS if curves else _SLICE_STEPS
    boxes = [each.boxes for each in observations if each.boxes is not None]
    masked = [each.masks for each in observations if each.masks is not None]
    return _Figures(found=found, instance=InstanceFigures(
        masks=detection_figures(masked, classes, drawn, most_steps=steps) if len(masked) == len(observations) else None,
        boxes=detection_figures(boxes, classes, drawn, most_steps=steps)))


def _sliced(column: str, observations: Sequence[Observation], classes: Sequence[str], task: Task,
            flags: Sequence[float | None], seed: int, resamples: int, *, exclusive: bool) -> list[SliceFigures]:
    of_value: dict[str, list[Observation]] = {}
    for each in observations:
        of_value.setdefault(columns_of(each).get(column, NO_VALUE), []).append(each)
    slices = []
    for value, own in sorted(of_value.items()):
        drawn = Resamples(units_of([each.ref for each in own]), n=resamples, seed=seed)
        figures = _figures(own, classes, task, flags, drawn, exclusive=exclusive, curves=False)
        slices.append(SliceFigures(column, value, len(own), drawn.n_units, figures.in_few_words()))
    return slices


def _sureness(observations: Sequence[Observation], drawn: Resamples, seed: int) -> Sureness:
    has_groups = any(each.ref.group is not None for each in observations)
    note = ""
    if drawn.n_units < FEWEST_UNITS:
        note = f"at least {FEWEST_UNITS} {'groups' if has_groups else 'images'} are needed for intervals"
    elif not drawn.n:
        note = "no intervals were asked for"
    return Sureness(CONFIDENCE, "group" if has_groups else "image", drawn.n_units, drawn.n, seed, note)


def _worst(observations: Sequence[Observation], task: Task, flags: Sequence[float | None]) -> tuple[WorstImage, ...]:
    found = [bad for each in observations if (bad := badness(each, task, flags)) is not None]
    sign = 1 if task is Task.SEMANTIC else -1
    return tuple(sorted(found, key=lambda bad: (sign * bad.value, bad.image_uri))[:MOST_WORST])
