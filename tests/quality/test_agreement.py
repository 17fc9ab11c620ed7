"""What people who labelled the same image agree on."""

from __future__ import annotations

import pytest

from segsvc.quality.agreement import Marked, agreement, consensus, matches
from segsvc.quality.matching import Shape
from segsvc.types import Box


def _car(x0: int, width: int = 10) -> Marked:
    return Marked("car", Shape(Box(x0, 0, x0 + width, 10)))


def test_objects_are_the_same_from_half_their_union_on_and_each_once() -> None:
    assert matches([_car(0)], [_car(3)]) == [(0, 0)]  # 7 of 13 columns
    assert matches([_car(0)], [_car(4)]) == []  # 6 of 14
    assert matches([_car(0), _car(2)], [_car(1)]) == [(0, 0)]  # a tie: the first
    assert matches([_car(0), _car(2)], [_car(2)]) == [(1, 0)]  # the better one
    assert matches([_car(0)], [Marked("sign", Shape(Box(0, 0, 10, 10)))]) == []


def test_whole_images_agree_class_by_class() -> None:
    assert matches([Marked("day", None), Marked("wet", None)], [Marked("wet", None)]) == [(1, 0)]
    assert agreement([[Marked("day", None)], [Marked("day", None)]]) == 1.0


def test_agreement_is_dice_over_objects_and_the_mean_over_pairs() -> None:
    assert agreement([[_car(0), _car(50)], [_car(1)]]) == pytest.approx(2 / 3)
    assert agreement([[], []]) == 1.0
    assert agreement([[_car(0)], []]) == 0.0
    assert agreement([[_car(0)], [_car(0)], []]) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="expected what two people marked, got 1"):
        agreement([[]])


def test_what_enough_people_marked_stands_once_as_the_first_drew_it() -> None:
    opinions = [[_car(0), _car(50)], [_car(51), _car(90)], [_car(2), _car(91)]]
    assert consensus(opinions, at_least=2) == [(0, 0), (0, 1), (1, 1)]
    assert consensus(opinions, at_least=1) == [(0, 0), (0, 1), (1, 1)]
    assert consensus(opinions, at_least=3) == []
    assert consensus([[], []], at_least=1) == []
