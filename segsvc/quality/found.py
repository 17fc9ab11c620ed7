"""Objects found by the rule of found, and how many candidates are right, at every threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from segsvc.quality.bootstrap import Floats, Resamples, figure, mean_of_defined, share
from segsvc.quality.calibration_error import calibration_error, reliability, tally_of_all
from segsvc.quality.figures import UNDEFINED, Figure, FoundAt, FoundClass, FoundFigures
from segsvc.quality.matching import Shape, finds, measured, shared_px
from segsvc.quality.observations import FoundTally
from segsvc.types import SCORE_ONE

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

NOT_FOUND = -1.0
THRESHOLDS = tuple(hundredth / 100 for hundredth in range(101))
_HALF = 2  # a candidate of which a half or more lies in what is to be ignored is passed over


@dataclass(frozen=True, slots=True)
class ScoredShape:
    """A candidate: its class as a number, its score in [0, 1] and its px."""

    class_number: int
    score: float
    shape: Shape


def found_tally(candidates: Sequence[ScoredShape], objects: Sequence[tuple[int, Shape]],
                ignored: Sequence[tuple[int | None, Shape]]) -> FoundTally:
    """Matches an image's candidates with its objects, class by class.

    objects: class number and px. ignored: px that count neither for nor against; with None, those of every class. A
    candidate is judged without its ignored px.
    """
    shapes = [candidate.shape for candidate in candidates]
    classes = np.fromiter((candidate.class_number for candidate in candidates), np.int64, len(candidates))
    scores = np.fromiter((candidate.score for candidate in candidates), np.float64, len(candidates))
    object_classes = np.fromiter((number for number, _ in objects), np.int64, len(objects))
    shared, areas, object_areas = measured(shapes, [shape for _, shape in objects])
    hidden = _ignored_px(shapes, classes, ignored)
    found = finds(shared, areas - hidden, object_areas)
    found &= classes[:, None] == object_classes[None, :]
    right: BoolArray = np.any(found, axis=1)
    keep = right | (_HALF * hidden < areas)
    best = np.where(found, scores[:, None], NOT_FOUND).max(axis=0, initial=NOT_FOUND)
    return FoundTally(object_classes, best, classes[keep], scores[keep], right[keep], int((~keep).sum()))


def _ignored_px(shapes: Sequence[Shape], classes: Int64Array, ignored: Sequence[tuple[int | None, Shape]]) -> Int64Array:
    """(n,) the px of each candidate that lie in what is to be ignored; where such places overlap, the largest counts."""
    if not ignored:
        return np.zeros(len(shapes), np.int64)
    shared = shared_px(shapes, [shape for _, shape in ignored])
    for column, (number, _) in enumerate(ignored):
        if number is not None:
            shared[classes != number, column] = 0
    most: Int64Array = shared.max(axis=1, initial=0)
    return most


def found_figures(tallies: Sequence[FoundTally], class_names: Sequence[str], flag_at: Sequence[float | None],
                  resamples: Resamples, *, curves: bool = True) -> FoundFigures:
    """The figures of images, one tally each. Without `curves` there are no figures by threshold and none of calibration."""
    thresholds = np.asarray(THRESHOLDS if curves else ())
    classes, stored, flagged = [], [], []
    for number, name in enumerate(class_names):
        flag = flag_at[number]
        cuts = np.concatenate([[NOT_FOUND / 2], [flag if flag is not None else 2.0], thresholds])
        counts = resamples.totals(np.stack([_counts(tally, number, cuts) for tally in tallies]))
        figures = [_found_at(max(float(cut), 0.0), counts[:, place]) for place, cut in enumerate(cuts)]
        plain = FoundClass(name, figures[0], figures[1] if flag is not None else None, tuple(figures[2:]))
        classes.append(_with_reliability(plain, tallies, number, resamples) if curves else plain)
        stored.append(counts[:, 0])
        flagged.append(counts[:, 1])
    has_flags = all(flag is not None for flag in flag_at)
    return FoundFigures(tuple(classes), *_means(stored), *(_means(flagged) if has_flags else (UNDEFINED, UNDEFINED)),
                        sum(tally.passed_over for tally in tallies))


def _with_reliability(plain: FoundClass, tallies: Sequence[FoundTally], number: int, resamples: Resamples) -> FoundClass:
    own = [tally.candidate_class == number for tally in tallies]
    bins = resamples.totals(np.stack([
        tally_of_all(np.rint(tally.candidate_score[of_class] * SCORE_ONE).astype(np.uint16), tally.candidate_right[of_class])
        for tally, of_class in zip(tallies, own, strict=True)]))
    return replace(plain, calibration_error=figure(calibration_error(bins)), reliability=reliability(bins[0]))


def missed(tally: FoundTally, flag_at: Sequence[float | None]) -> int:
    """How many objects of an image are missed at the classes' `flag_at`; where there is none, by all stored candidates."""
    cuts = np.array([0.0 if flag is None else flag for flag in flag_at])
    return int((tally.object_score < cuts[tally.object_class]).sum())


def false_candidates(tally: FoundTally, flag_at: Sequence[float | None]) -> int:
    """How many candidates of an image find nothing, from the classes' `flag_at` on; where there is none, all stored."""
    cuts = np.array([0.0 if flag is None else flag for flag in flag_at])
    return int((~tally.candidate_right & (tally.candidate_score >= cuts[tally.candidate_class])).sum())


def _counts(tally: FoundTally, number: int, cuts: Floats) -> Int64Array:
    """(cuts, 4) objects, those found, candidates, right ones of a class at each threshold."""
    of_objects = tally.object_score[tally.object_class == number]
    is_own = tally.candidate_class == number
    scores, right = tally.candidate_score[is_own], tally.candidate_right[is_own]
    return np.stack([np.full(len(cuts), len(of_objects)), _reaching(of_objects, cuts), _reaching(scores, cuts),
                     _reaching(scores[right], cuts)], axis=1)


def _reaching(scores: Floats, cuts: Floats) -> npt.NDArray[np.intp]:
    """(cuts,) how many scores reach each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), cuts, side="left")


def _found_at(threshold: float, counts: Floats) -> FoundAt:
    objects, found, candidates, right = (int(value) for value in counts[0])
    return FoundAt(threshold, objects, found, candidates, right, figure(share(counts[:, 1], counts[:, 0])),
                   figure(share(counts[:, 3], counts[:, 2])))


def _means(counts: Sequence[Floats]) -> tuple[Figure, Figure]:
    """Mean recall and precision over classes with objects, of counts (n, 4) a class."""
    every = np.stack(counts, axis=1)
    has_objects = every[:, :, 0] > 0
    recall = np.where(has_objects, share(every[:, :, 1], every[:, :, 0]), np.nan)
    precision = np.where(has_objects, share(every[:, :, 3], every[:, :, 2]), np.nan)
    return figure(mean_of_defined(recall, axis=1)), figure(mean_of_defined(precision, axis=1))
