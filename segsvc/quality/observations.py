"""What is kept of one image for the figures: small counts instead of scores and masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

SCORE_BINS = 1001  # bin k holds scores from k / 1000 to below (k + 1) / 1000; the last one a score of 1
RELIABILITY_BINS = 15


@dataclass(frozen=True, slots=True)
class DenseTally:
    """The px of an image by class, score and truth; px to be ignored are in none of it.

    histogram: (classes, 2, SCORE_BINS) px that are not of the class, and px that are.
    reliability: (classes, RELIABILITY_BINS, 3) px, sum of their scores in 1/65535, px of the class; bins of equal width.
    at: (classes, 2, 3) px that are said and true, said, true: at a score of 0.5, and at the class's `flag_at`.
    """

    histogram: npt.NDArray[np.uint32]
    reliability: Int64Array
    at: Int64Array


@dataclass(frozen=True, slots=True)
class FoundTally:
    """The objects and stored candidates of an image by the rule of found; classes are numbers from 0.

    `object_score` (m,) is the highest score of a candidate that finds the object, -1 where none does. `candidate_right`
    (n,) is whether a candidate finds an object. Candidates that lie half or more in what is to be ignored and find
    nothing are not among them: `passed_over` counts those.
    """

    object_class: Int64Array
    object_score: FloatArray
    candidate_class: Int64Array
    candidate_score: FloatArray
    candidate_right: BoolArray
    passed_over: int = 0


@dataclass(frozen=True, slots=True)
class DetectionTally:
    """The detections of an image matched with its objects as COCO does (`average_precision`); scores fall within a class.

    outcome: (n, areas, thresholds) int8, one of `average_precision.Outcome`; objects: (classes, areas) those that count.
    """

    detection_class: Int64Array
    score: FloatArray
    outcome: npt.NDArray[np.int8]
    objects: Int64Array


@dataclass(frozen=True, slots=True)
class ClassScores:
    """What a classifier says of an image: scores in 1/65535 and truth, (classes,), of the classes that are compared.

    `top` is the class with the highest score of all that the model knows, and `top_score` that score; `true` is the class
    that holds where there is just one; -1 stands for a class that is not compared.
    """

    scores: npt.NDArray[np.uint16]
    truth: BoolArray
    top: int
    top_score: int
    true: int
