"""Average precision of detected objects, by COCO's rules: equal to pycocotools, and with intervals.

Lin et al., "Microsoft COCO: Common Objects in Context" (2014), and its evaluation server's definitions: detections are
matched greedily by falling score at IoU 0.50, 0.55 ... 0.95; precision is taken at 101 recalls as the highest at that
recall or beyond, and averaged. Objects to be ignored, and those outside of a range of sizes, count neither for nor
against. Not by a library: matches are kept an image, so that a bootstrap weighs them anew without the masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from segsvc.imaging.compiled import compiled
from segsvc.quality.bootstrap import Floats, Resamples, figure, mean_of_defined
from segsvc.quality.figures import UNDEFINED, Averages, ClassAverages, DetectionFigures
from segsvc.quality.matching import Shape, measured, overlaps
from segsvc.quality.observations import DetectionTally

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
SMALL_PX, MEDIUM_PX = 32**2, 96**2  # COCO's borders between small, medium and large, in px of area
AREA_RANGES = np.array([(0, 10**10), (0, SMALL_PX), (SMALL_PX, MEDIUM_PX), (MEDIUM_PX, 10**10)], np.int64)
ALL, SMALL, MEDIUM, LARGE = range(4)  # rows of these
MOST_DETECTIONS = 1000  # an image and class; COCO's own figures take 100
MOST_STEPS = 2_000_000_000  # of a bootstrap, some seconds; more detections have fewer resamples, at least:
_FEWEST_RESAMPLES = 100


class Outcome(IntEnum):
    """What became of a detection."""

    FALSE = 0
    TRUE = 1
    IGNORED = 2


_FALSE, _TRUE, _IGNORED = (int(outcome) for outcome in Outcome)


def detection_tally(detections: Sequence[Shape], scores: Floats, detection_classes: Int64Array, objects: Sequence[Shape],
                    object_classes: Int64Array, ignored: BoolArray, *, n_classes: int,
                    most: int = MOST_DETECTIONS) -> DetectionTally:
    """Matches an image's detections with its objects.

    detections: shapes, scores (n,) and classes (n,) as numbers from 0; objects: shapes, classes (m,), and which are to be
    ignored (m,). At most the `most` best detections of a class count. Equal scores keep their order.
    """
    order = np.argsort(-scores, kind="stable")
    of_class = detection_classes[order]
    place = np.zeros(len(order), np.int64)
    for number in np.unique(of_class):
        place[of_class == number] = np.arange((of_class == number).sum())
    order = order[place < most]
    shapes = [detections[index] for index in order.tolist()]
    shared, areas, object_areas = measured(shapes, objects)
    overlap = overlaps(shared, areas, object_areas, ignored)
    outcome = _match(overlap, areas, detection_classes[order], object_areas, object_classes, ignored, AREA_RANGES,
                     IOU_THRESHOLDS)
    counts = np.zeros((n_classes, len(AREA_RANGES)), np.int64)
    for number, (low, high) in enumerate(AREA_RANGES.tolist()):
        is_counted = ~ignored & (object_areas >= low) & (object_areas <= high)
        counts[:, number] = np.bincount(object_classes[is_counted], minlength=n_classes)
    return DetectionTally(detection_classes[order], scores[order], outcome, counts)


@compiled
def _match(overlap: Floats, areas: Int64Array, classes: Int64Array, object_areas: Int64Array, object_classes: Int64Array,
           ignored: BoolArray, ranges: Int64Array, thresholds: Floats) -> npt.NDArray[np.int8]:
    n, m = overlap.shape
    outcome = np.empty((n, ranges.shape[0], thresholds.size), np.int8)
    passed = np.empty(m, np.bool_)
    order = np.empty(m, np.int64)
    for area in range(ranges.shape[0]):
        low, high = ranges[area, 0], ranges[area, 1]
        n_ordered = 0
        for wanted in (False, True):  # objects that are passed over come last
            for j in range(m):
                passed[j] = ignored[j] or object_areas[j] < low or object_areas[j] > high
                if passed[j] == wanted:
                    order[n_ordered] = j
                    n_ordered += 1
        for at in range(thresholds.size):
            taken = np.zeros(m, np.bool_)
            for i in range(n):
                best = min(thresholds[at], 1 - 1e-10)
                match = -1
                for k in range(m):
                    j = order[k]
                    if object_classes[j] != classes[i] or (taken[j] and not ignored[j]):
                        continue
                    if match >= 0 and not passed[match] and passed[j]:
                        break
                    if overlap[i, j] < best:
                        continue
                    best = overlap[i, j]
                    match = j
                if match >= 0:
                    taken[match] = True
                    outcome[i, area, at] = _IGNORED if passed[match] else _TRUE
                else:
                    outcome[i, area, at] = _IGNORED if areas[i] < low or areas[i] > high else _FALSE
    return outcome


def detection_figures(tallies: Sequence[DetectionTally], class_names: Sequence[str], resamples: Resamples, *,
                      most_steps: int = MOST_STEPS) -> DetectionFigures:
    """The figures of images, one tally each, in the order in which equal scores of several images are to be ranked."""
    outcomes = np.concatenate([tally.outcome for tally in tallies])
    rows = _rows(resamples.n, outcomes.size, most_steps)
    objects = resamples.totals(np.stack([tally.objects for tally in tallies]))[:rows]  # (rows, classes, areas)
    precision, recall = (np.full((*objects.shape, len(IOU_THRESHOLDS)), np.nan) for _ in range(2))
    classes = np.concatenate([tally.detection_class for tally in tallies])
    scores = np.concatenate([tally.score for tally in tallies])
    units = np.repeat(resamples.of_image, [len(tally.score) for tally in tallies])
    for number in range(len(class_names)):
        own = np.flatnonzero(classes == number)
        own = own[np.argsort(-scores[own], kind="stable")]
        ranked = np.ascontiguousarray(np.moveaxis(outcomes[own], 0, 2))
        precision[:, number], recall[:, number] = _accumulate(ranked, units[own], resamples.weights[:rows],
                                                              np.ascontiguousarray(objects[:, number]), RECALLS)
    by_size = [_averages(precision[:, :, area], recall[:, :, area], objects[:, :, area]) for area in range(len(AREA_RANGES))]
    by_class = [_averages(*(values[:, [number], ALL] for values in (precision, recall, objects)))
                for number in range(len(class_names))]
    return DetectionFigures(
        all=by_size[ALL], small=by_size[SMALL], medium=by_size[MEDIUM], large=by_size[LARGE], resamples=rows - 1,
        classes=tuple(ClassAverages(name, of_class) for name, of_class in zip(class_names, by_class, strict=True)))


def _rows(resamples: int, steps_a_resample: int, most_steps: int) -> int:
    """How many rows of weights are worked on: the sample, and as many resamples as there is time for."""
    affordable = max(_FEWEST_RESAMPLES, most_steps // max(1, steps_a_resample))
    return 1 + min(resamples, affordable)


@compiled
def _accumulate(outcomes: npt.NDArray[np.int8], units: Int64Array, weights: npt.NDArray[np.uint16], objects: Floats,
                recalls: Floats) -> tuple[Floats, Floats]:
    """Average precision and last recall, (rows, areas, thresholds) each, of ranked outcomes (areas, thresholds, n).

    objects: (rows, areas) those that are to be found. NaN where there are none.
    """
    n_areas, n_thresholds, n = outcomes.shape
    precision = np.full((weights.shape[0], n_areas, n_thresholds), np.nan)
    recall = np.full((weights.shape[0], n_areas, n_thresholds), np.nan)
    weight = np.empty(n)
    reached, precise = np.empty(n), np.empty(n)
    for row in range(weights.shape[0]):
        for i in range(n):
            weight[i] = weights[row, units[i]]
        for area in range(n_areas):
            wanted = objects[row, area]
            if wanted == 0:
                continue
            for at in range(n_thresholds):
                of_cell = outcomes[area, at]
                true = false = 0.0
                n_true = 0
                for i in range(n):
                    if weight[i] == 0 or of_cell[i] == _IGNORED:
                        continue
                    if of_cell[i] == _TRUE:
                        true += weight[i]
                        reached[n_true] = true / wanted
                        precise[n_true] = true / (false + true + 2.220446049250313e-16)
                        n_true += 1
                    else:
                        false += weight[i]
                precision[row, area, at] = _sampled(reached[:n_true], precise[:n_true], recalls)
                recall[row, area, at] = true / wanted
    return precision, recall


@compiled
def _sampled(reached: Floats, precise: Floats, recalls: Floats) -> float:
    """The mean, over the recalls, of the highest precision from where each is reached on; 0 where it is not.

    `precise` is changed: to that highest precision.
    """
    for i in range(reached.size - 2, -1, -1):
        precise[i] = max(precise[i], precise[i + 1])
    total = 0.0
    i = 0
    for k in range(recalls.size):
        while i < reached.size and reached[i] < recalls[k]:
            i += 1
        if i == reached.size:
            break
        total += precise[i]
    return total / recalls.size


def _averages(precision: Floats, recall: Floats, objects: Floats) -> Averages:
    """The averages of classes (rows, classes, thresholds); objects: (rows, classes)."""
    if not objects[0].sum():
        return Averages(0, UNDEFINED, UNDEFINED, UNDEFINED, UNDEFINED)
    found = [figure(mean_of_defined(values, axis=1)) for values in
             (precision.mean(axis=2), precision[:, :, 0], precision[:, :, 5], recall.mean(axis=2))]
    return Averages(int(objects[0].sum()), found[0], found[1], found[2], found[3])
