"""Objects found and candidates right, at every threshold; what is to be ignored counts neither way."""

from __future__ import annotations

import numpy as np
import pytest

from segsvc.quality.bootstrap import Resamples
from segsvc.quality.found import NOT_FOUND, ScoredShape, false_candidates, found_figures, found_tally, missed
from segsvc.quality.matching import Shape
from segsvc.types import Box

THING = Shape(Box(0, 0, 10, 10))
FAR = Shape(Box(100, 100, 110, 110))


def test_an_object_has_the_best_score_of_those_that_find_it() -> None:
    tally = found_tally([ScoredShape(0, 0.6, THING), ScoredShape(0, 0.9, Shape(Box(0, 0, 10, 8))),
                         ScoredShape(0, 0.95, Shape(Box(0, 0, 3, 3)))], [(0, THING), (0, FAR)], [])
    assert tally.object_score.tolist() == [0.9, NOT_FOUND]
    assert tally.candidate_right.tolist() == [True, True, False]


def test_a_candidate_of_another_class_finds_nothing() -> None:
    tally = found_tally([ScoredShape(1, 0.9, THING)], [(0, THING)], [])
    assert tally.object_score.tolist() == [NOT_FOUND]
    assert tally.candidate_right.tolist() == [False]


def test_a_candidate_in_what_is_to_be_ignored_is_passed_over_and_counted() -> None:
    ignored = [(None, Shape(Box(50, 0, 60, 10)))]
    half = ScoredShape(0, 0.9, Shape(Box(45, 0, 55, 10)))
    less = ScoredShape(0, 0.9, Shape(Box(44, 0, 54, 10)))
    tally = found_tally([half, less], [], ignored)
    assert (tally.passed_over, len(tally.candidate_score)) == (1, 1)


def test_what_is_to_be_ignored_of_one_class_does_not_excuse_another() -> None:
    tally = found_tally([ScoredShape(1, 0.9, THING)], [], [(0, THING)])
    assert (tally.passed_over, tally.candidate_right.tolist()) == (0, [False])


def test_a_candidate_is_judged_without_its_ignored_px() -> None:
    vast = Shape(Box(0, 0, 100, 100))
    thing = Shape(Box(0, 0, 10, 10))
    assert not found_tally([ScoredShape(0, 0.9, vast)], [(0, thing)], []).candidate_right.any()
    hidden = [(None, Shape(Box(10, 0, 100, 100)))]  # what is left is ten times the object
    tally = found_tally([ScoredShape(0, 0.9, vast)], [(0, thing)], hidden)
    assert (tally.object_score.tolist(), tally.candidate_right.tolist(), tally.passed_over) == ([0.9], [True], 0)


def test_figures_at_a_threshold_are_those_of_plain_counting() -> None:
    random = np.random.default_rng(0)
    tallies = []
    for _ in range(20):
        n = int(random.integers(0, 6))
        things = [(int(random.integers(0, 2)), Shape(Box(20 * i, 0, 20 * i + 10, 10))) for i in range(n)]
        said = [ScoredShape(number, round(float(random.random()), 2), shape) for number, shape in things
                if random.random() < 0.7]
        said += [ScoredShape(0, round(float(random.random()), 2), FAR)]
        tallies.append(found_tally(said, things, []))
    figures = found_figures(tallies, ("one", "two"), [0.5, 0.25], Resamples([str(i) for i in range(20)], n=100, seed=0))
    for number, (of_class, flag) in enumerate(zip(figures.classes, (0.5, 0.25), strict=True)):
        objects = np.concatenate([tally.object_score[tally.object_class == number] for tally in tallies])
        scores = np.concatenate([tally.candidate_score[tally.candidate_class == number] for tally in tallies])
        right = np.concatenate([tally.candidate_right[tally.candidate_class == number] for tally in tallies])
        assert of_class.at_flag is not None
        for at in (of_class.stored, of_class.at_flag, *of_class.by_threshold):
            reached = scores >= at.threshold
            assert (at.objects, at.found) == (len(objects), int((objects >= at.threshold).sum()))
            assert (at.candidates, at.right) == (int(reached.sum()), int(right[reached].sum()))
            assert at.recall.value == pytest.approx(at.found / at.objects)
            assert at.precision.value is None if not at.candidates else at.precision.value == at.right / at.candidates
        assert of_class.at_flag.threshold == flag
    assert figures.mean_recall.value == pytest.approx(
        np.mean([of_class.stored.found / of_class.stored.objects for of_class in figures.classes]))
    assert missed(tallies[0], [0.5, 0.25]) == int((tallies[0].object_score < np.array([0.5, 0.25])[
        tallies[0].object_class]).sum())
    assert sum(false_candidates(tally, [None, None]) for tally in tallies) == 20


def test_an_object_that_no_candidate_finds_is_missed_at_the_lowest_threshold_too() -> None:
    tally = found_tally([ScoredShape(0, 0.0, FAR)], [(0, THING)], [])
    (only,) = found_figures([tally], ("thing",), [None], Resamples(["a"], n=0, seed=0)).classes
    assert (only.by_threshold[0].threshold, only.by_threshold[0].found, only.by_threshold[0].candidates) == (0.0, 0, 1)
    assert only.at_flag is None


def test_classes_without_objects_are_in_no_mean() -> None:
    tally = found_tally([ScoredShape(0, 0.9, THING), ScoredShape(1, 0.9, FAR)], [(0, THING)], [])
    figures = found_figures([tally], ("thing", "nowhere"), [None, None], Resamples(["a"], n=0, seed=0))
    assert (figures.mean_recall.value, figures.mean_precision.value) == (1.0, 1.0)
    assert figures.classes[1].stored.recall.value is None
    assert figures.classes[1].stored.precision.value == 0.0


def test_whether_as_many_candidates_are_right_as_their_scores_say_is_told() -> None:
    candidates = [ScoredShape(0, 0.9, THING), ScoredShape(0, 0.5, FAR), ScoredShape(1, 0.2, FAR)]
    tallies = [found_tally(candidates, [(0, THING)], []) for _ in range(4)]
    drawn = Resamples(["a", "b", "c", "d"], n=50, seed=0)
    first, second = found_figures(tallies, ("a", "b"), (None, None), drawn).classes
    assert [(one.n, one.true_share, round(one.mean_score, 4)) for one in first.reliability] == [(4, 0.0, 0.5), (4, 1.0, 0.9)]
    assert first.calibration_error.value == pytest.approx((0.5 + 0.1) / 2, abs=1e-4)
    assert first.calibration_error.low is not None
    assert second.calibration_error.value == pytest.approx(0.2, abs=1e-4)
    assert found_figures(tallies, ("a", "b"), (None, None), drawn, curves=False).classes[0].reliability == ()
