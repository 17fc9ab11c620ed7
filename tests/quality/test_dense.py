"""Figures of dense scores, against plain counting of px."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from segsvc.quality.bootstrap import Resamples
from segsvc.quality.dense import DenseCounter, dense_figures, image_dice
from segsvc.quality.observations import DenseTally
from segsvc.types import SCORE_ONE

FLAG = 45000  # in 1/65535


def drawn(seed: int, *, noise: float = 0.25) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Scores, truth and which px count, of 40 x 30 px."""
    random = np.random.default_rng(seed)
    truth = np.zeros((30, 40), np.bool_)
    truth[5:20, 8: 12 + seed] = True
    scores = np.clip(truth * 0.7 + 0.15 + random.normal(0, noise, truth.shape), 0, 1)
    return np.rint(scores * SCORE_ONE).astype(np.uint16), truth, random.random(truth.shape) < 0.9


def tally_of(seed: int) -> DenseTally:
    scores, truth, counted = drawn(seed)
    counter = DenseCounter(2)
    for top in (0, 11):  # as rows come
        rows = slice(top, 11 if top == 0 else 30)
        counter.add(0, scores[rows], truth[rows], counted[rows])
        counter.add(1, np.zeros_like(scores[rows]), np.zeros_like(truth[rows]), counted[rows])
    return counter.tally([FLAG, FLAG])


def dice_of(said: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    return float(2 * (said & truth).sum() / (said.sum() + truth.sum()))


def test_dice_and_iou_are_those_of_the_px_that_count_at_both_thresholds() -> None:
    seeds = range(5)
    figures = dense_figures([tally_of(seed) for seed in seeds], ("thing", "nowhere"), [FLAG / SCORE_ONE, None],
                            Resamples([str(seed) for seed in seeds], n=50, seed=0))
    scores, truth, counted = (np.stack(each) for each in zip(*(drawn(seed) for seed in seeds), strict=True))
    thing, nowhere = figures.classes
    for cut, overlap in ((0.5, thing.at_half), (FLAG / SCORE_ONE, thing.at_flag)):
        assert overlap is not None
        said, true = (scores / SCORE_ONE >= cut) & counted, truth & counted
        dice = dice_of(said, true)
        assert overlap.dice.value == pytest.approx(dice)
        assert overlap.iou.value == pytest.approx(dice / (2 - dice))
        assert overlap.precision.value == pytest.approx((said & true).sum() / said.sum())
        assert overlap.recall.value == pytest.approx((said & true).sum() / true.sum())
        an_image = [dice_of(*image) for image in zip(said, true, strict=True)]
        assert overlap.dice_an_image.value == pytest.approx(np.mean(an_image))
        assert overlap.dice.low is not None
        assert overlap.dice.high is not None
        assert overlap.dice.low < dice < overlap.dice.high
    assert nowhere.at_half.dice.value is None
    assert nowhere.at_flag is None
    assert figures.mean_dice == thing.at_half.dice  # the class that is nowhere is in no mean
    assert figures.mean_dice_at_flag.value is None  # not every class has a threshold
    assert (thing.true_px, thing.images, nowhere.images) == (int((truth & counted).sum()), 5, 0)


def test_px_to_ignore_change_no_figure() -> None:
    scores, truth, counted = drawn(1)
    plain, other = DenseCounter(1), DenseCounter(1)
    plain.add(0, scores, truth, counted)
    other.add(0, np.where(counted, scores, 65535 - scores).astype(np.uint16), np.where(counted, truth, ~truth), counted)
    one, two = plain.tally([FLAG]), other.tally([FLAG])
    assert (one.histogram == two.histogram).all()
    assert (one.reliability == two.reliability).all()
    assert (one.at == two.at).all()


def test_a_tally_holds_every_px_that_counts_once() -> None:
    tally = tally_of(2)
    counted = int(drawn(2)[2].sum())
    assert tally.histogram.sum(axis=(1, 2)).tolist() == [counted, counted]
    assert tally.reliability[:, :, 0].sum(axis=1).tolist() == [counted, counted]


def test_perfect_scores_have_perfect_figures() -> None:
    _, truth, _ = drawn(0)
    counter = DenseCounter(1)
    counter.add(0, truth.astype(np.uint16) * SCORE_ONE, truth, np.ones_like(truth))
    tally = counter.tally([FLAG])
    (only,) = dense_figures([tally, tally], ("thing",), [None], Resamples(["a", "b"], n=9, seed=0)).classes
    figures = (only.at_half.dice, only.average_precision, only.roc_area, only.calibration_error)
    assert [figure.value for figure in figures] == [1.0, 1.0, 1.0, 0.0]
    assert image_dice(tally) == 1.0


def test_an_image_without_a_class_and_without_a_px_said_has_no_dice() -> None:
    counter = DenseCounter(1)
    counter.add(0, np.zeros((4, 4), np.uint16), np.zeros((4, 4), np.bool_), np.ones((4, 4), np.bool_))
    assert image_dice(counter.tally([FLAG])) is None
