"""Figures of a classifier, against plain counting."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segsvc.quality.bootstrap import Resamples
from segsvc.quality.classification import classification_figures, image_loss
from segsvc.quality.observations import ClassScores
from segsvc.types import SCORE_ONE

NAMES = ("cat", "dog", "eel")


def exclusive(seed: int, n: int = 60) -> list[ClassScores]:
    """Images with one class each, the last few with one that is not compared, or with one that the set lacks on top."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(n):
        true = int(random.integers(0, 3)) if number < n - 4 else -1
        scores = random.random(3) * 0.6
        if true >= 0:
            scores[true] += 0.35
        raised = np.rint(scores * SCORE_ONE).astype(np.uint16)
        top = int(raised.argmax()) if number % 15 else -1
        found.append(ClassScores(raised, np.arange(3) == true, top, int(raised.max()) if top >= 0 else SCORE_ONE, true))
    return found


def drawn(tallies: list[ClassScores], n: int = 50) -> Resamples:
    return Resamples([str(number) for number in range(len(tallies))], n=n, seed=0)


def test_accuracy_and_confusion_are_those_of_plain_counting() -> None:
    tallies = exclusive(1)
    figures = classification_figures(tallies, NAMES, [None] * 3, drawn(tallies), exclusive=True)
    right = [each.top == each.true and each.true >= 0 for each in tallies]
    assert figures.accuracy.value == pytest.approx(np.mean(right))
    assert figures.accuracy.low is not None
    assert figures.confusion is not None
    assert figures.confusion.unknown == 4
    assert np.array(figures.confusion.counts).sum() == 56
    assert sum(figures.confusion.counts[i][i] for i in range(3)) == sum(right)
    assert sum(row[3] for row in figures.confusion.counts) == sum(each.top < 0 <= each.true for each in tallies)
    assert sum(one.n for one in figures.top_reliability) == 60


def test_a_label_at_a_threshold_is_counted_by_itself() -> None:
    tallies = exclusive(2)
    figures = classification_figures(tallies, NAMES, [0.7, None, 0.2], drawn(tallies), exclusive=False)
    for number, (label, flag) in enumerate(zip(figures.labels, (0.7, None, 0.2), strict=True)):
        truth = np.array([each.truth[number] for each in tallies])
        scores = np.array([each.scores[number] for each in tallies]) / SCORE_ONE
        for cut, at in ((0.5, label.at_half), (flag, label.at_flag)):
            if cut is None or at is None:
                assert cut is None
                assert at is None
                continue
            said = scores >= cut
            assert (at.true, at.false, at.missed) == ((said & truth).sum(), (said & ~truth).sum(), (~said & truth).sum())
            assert at.f1.value == pytest.approx(2 * at.true / (2 * at.true + at.false + at.missed))
    assert figures.accuracy.value is None
    assert figures.confusion is None


def test_several_labels_an_image_and_none_are_allowed_and_a_label_that_nothing_shows_is_in_no_mean() -> None:
    def tally(scores: tuple[int, int, int], truth: tuple[bool, bool, bool]) -> ClassScores:
        return ClassScores(np.array(scores, np.uint16), np.array(truth), int(np.argmax(scores)), max(scores), -1)

    tallies = [tally((65535, 60000, 0), (True, True, False)), tally((0, 0, 0), (False, False, False)),
               tally((60000, 100, 0), (True, False, False))]
    figures = classification_figures(tallies, NAMES, [None] * 3, drawn(tallies), exclusive=False)
    assert [label.images for label in figures.labels] == [2, 1, 0]
    assert figures.labels[2].average_precision.value is None
    assert figures.mean_average_precision.value == 1.0
    assert figures.mean_f1.value == 1.0


def test_the_loss_of_an_image_grows_with_how_wrong_it_is() -> None:
    def loss(cat: int, dog: int) -> float:
        return image_loss(ClassScores(np.array([cat, dog], np.uint16), np.array([True, False]), 0, cat, 0))

    assert loss(SCORE_ONE, 0) == 0.0
    assert loss(SCORE_ONE // 2, SCORE_ONE // 2) == pytest.approx(math.log(2), abs=1e-4)
    assert loss(0, SCORE_ONE) == pytest.approx(-math.log(1e-7))
