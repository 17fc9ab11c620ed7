"""What evaluations say: figures with their intervals, as plain values that metrics.json holds as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its interval. None where it is undefined (no object to be found), or where there are too few units."""

    value: float | None
    low: float | None = None
    high: float | None = None


UNDEFINED = Figure(None)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The examples whose scores lie from `low` to `high`: their number, mean score, and the share that is true."""

    low: float
    high: float
    n: int
    mean_score: float
    true_share: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a curve by rising threshold; None where a share is undefined."""

    threshold: tuple[float, ...]
    recall: tuple[float | None, ...]
    precision: tuple[float | None, ...]
    false_alarms: tuple[float | None, ...]  # the share of what is not of the class that reaches the threshold


@dataclass(frozen=True, slots=True)
class Overlap:
    """How px said at a threshold agree with the truth, over the px of all images.

    `dice_an_image` is the mean of the images that hold the class.
    """

    threshold: float
    dice: Figure
    iou: Figure
    precision: Figure
    recall: Figure
    dice_an_image: Figure


@dataclass(frozen=True, slots=True)
class DenseClass:
    """The figures of a class. `true_px` and `images` are how much of it there is."""

    class_name: str
    true_px: int
    images: int
    at_half: Overlap
    at_flag: Overlap | None
    average_precision: Figure
    roc_area: Figure
    calibration_error: Figure
    curve: Curve
    reliability: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class DenseFigures:
    """The figures of all classes, and the means over those that the images hold."""

    classes: tuple[DenseClass, ...]
    mean_dice: Figure
    mean_iou: Figure
    mean_dice_at_flag: Figure
    mean_iou_at_flag: Figure


@dataclass(frozen=True, slots=True)
class FoundAt:
    """At a threshold: how many of the objects are found (recall), and of the candidates right (precision)."""

    threshold: float
    objects: int
    found: int
    candidates: int
    right: int
    recall: Figure
    precision: Figure


@dataclass(frozen=True, slots=True)
class FoundClass:
    """The objects of a class: with all stored candidates, at the class's `flag_at`, and by threshold.

    `calibration_error` and `reliability` are of the stored candidates: whether as many are right as their scores say.
    """

    class_name: str
    stored: FoundAt
    at_flag: FoundAt | None
    by_threshold: tuple[FoundAt, ...]
    calibration_error: Figure = UNDEFINED
    reliability: tuple[ReliabilityBin, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundFigures:
    """The objects of all classes; the means are over classes that have objects. What no candidate finds is missed always."""

    classes: tuple[FoundClass, ...]
    mean_recall: Figure
    mean_precision: Figure
    mean_recall_at_flag: Figure
    mean_precision_at_flag: Figure
    passed_over: int  # candidates that lie in what is to be ignored


@dataclass(frozen=True, slots=True)
class Averages:
    """Average precision over IoU 0.50 to 0.95, at 0.50 and at 0.75, and average recall over 0.50 to 0.95."""

    objects: int
    ap: Figure
    ap50: Figure
    ap75: Figure
    ar: Figure


@dataclass(frozen=True, slots=True)
class ClassAverages:
    """The averages of one class."""

    class_name: str
    averages: Averages


@dataclass(frozen=True, slots=True)
class DetectionFigures:
    """Averages over classes, of objects of all sizes and by size, and class by class.

    Small is below 32 x 32 px of area, large from 96 x 96 px. `resamples` are those of these intervals.
    """

    all: Averages
    small: Averages
    medium: Averages
    large: Averages
    classes: tuple[ClassAverages, ...]
    resamples: int


@dataclass(frozen=True, slots=True)
class LabelAt:
    """A label at a threshold: images that are it and said to be, are not but said, are but not said."""

    threshold: float
    true: int
    false: int
    missed: int
    precision: Figure
    recall: Figure
    f1: Figure


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """The figures of one label; `images` show it."""

    class_name: str
    images: int
    at_half: LabelAt
    at_flag: LabelAt | None
    average_precision: Figure
    roc_area: Figure
    calibration_error: Figure
    curve: Curve
    reliability: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many images of each class (rows) got each class as the best one (columns); the last column is any other class.

    `unknown` counts images whose class is none of these; they are in no row.
    """

    class_names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    unknown: int


@dataclass(frozen=True, slots=True)
class ClassificationFigures:
    """The figures of a classifier; means are over labels that some image shows.

    `accuracy`, `confusion`, `top_calibration_error` and `top_reliability` (of the best score being right) are there only
    where each image has exactly one class.
    """

    labels: tuple[LabelFigures, ...]
    mean_f1: Figure
    mean_average_precision: Figure
    mean_roc_area: Figure
    mean_calibration_error: Figure
    accuracy: Figure
    top_calibration_error: Figure
    confusion: Confusion | None
    top_reliability: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class InstanceFigures:
    """Averages by the px of masks (None where an image has objects or detections without masks) and by boxes."""

    masks: DetectionFigures | None
    boxes: DetectionFigures


@dataclass(frozen=True, slots=True)
class SliceFigures:
    """The figures of the images whose `column` has this value."""

    column: str
    value: str
    images: int
    units: int
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class WorstImage:
    """An image of those on which the model did worst: by what, and how much of it."""

    image_uri: str
    measure: str
    value: float


@dataclass(frozen=True, slots=True)
class Sureness:
    """What the intervals are: the middle `confidence` of `resamples` bootstrap samples of `units`, drawn by `unit`.

    `note` says why there are none, where there are none.
    """

    confidence: float
    unit: str
    units: int
    resamples: int
    seed: int
    note: str
