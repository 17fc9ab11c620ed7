"""Observations -> figures: what stands in them, slices, units, the worst images, and that they come out the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from segsvc.card import Task
from segsvc.datasets import Split
from segsvc.errors import ConfigError
from segsvc.evaluation import Observation, slice_columns, summarise
from segsvc.quality.average_precision import detection_tally
from segsvc.quality.dense import DenseCounter
from segsvc.quality.found import ScoredShape, found_tally
from segsvc.quality.matching import Shape
from segsvc.quality.observations import ClassScores
from segsvc.types import Box, ImageRef

NAMES = ("thing",)


def reference(number: int, *, group: str | None = None, **meta: str) -> ImageRef:
    return ImageRef(f"file:///set/{number:03d}.png", "1", 100, group=group, meta=meta)


def semantic(number: int, *, shift_px: int, group: str | None = None, **meta: str) -> Observation:
    """An image of 32 px with a square, which the model sees shifted."""
    truth, scores = np.zeros((32, 32), np.bool_), np.full((32, 32), 6000, np.uint16)
    truth[8:20, 4:16] = True
    scores[8:20, 4 + shift_px: 16 + shift_px] = 60000
    counter = DenseCounter(1)
    counter.add(0, scores, truth, np.ones_like(truth))
    found = found_tally([ScoredShape(0, 60000 / 65535, Shape(Box(4 + shift_px, 8, 16 + shift_px, 20)))],
                        [(0, Shape(Box(4, 8, 16, 20)))], [])
    return Observation(reference(number, group=group, **meta), None, dense=counter.tally([32768]), found=found)


def instance(number: int, *, right: bool) -> Observation:
    box = Box(0, 0, 40, 40)
    said = box if right else Box(100, 100, 140, 140)
    tally = detection_tally([Shape(said)], np.array([0.9]), np.array([0]), [Shape(box)], np.array([0]), np.array([False]),
                            n_classes=1)
    return Observation(reference(number), None, boxes=tally,
                       found=found_tally([ScoredShape(0, 0.9, Shape(said))], [(0, Shape(box))], []))


def labelled(number: int, score: float) -> Observation:
    scores = np.array([round(score * 65535), round((1 - score) * 65535)], np.uint16)
    return Observation(reference(number), Split.TEST, labels=ClassScores(scores, np.array([True, False]), int(score < 0.5),
                                                                         int(scores.max()), 0))


def test_semantic_figures_are_px_and_objects() -> None:
    summary = summarise([semantic(number, shift_px=number % 3) for number in range(9)], NAMES, Task.SEMANTIC, seed=0)
    assert list(summary.figures) == ["dice", "iou", "object_recall", "object_precision"]
    assert summary.figures["dice"].value == pytest.approx((12 + 11 + 10) / 36)
    assert summary.figures["object_recall"].value == 1.0
    assert summary.instance is None
    assert summary.classification is None
    assert (summary.sureness.unit, summary.sureness.units, summary.sureness.resamples) == ("image", 9, 1000)


def test_instance_figures_are_average_precision_and_objects() -> None:
    summary = summarise([instance(number, right=number != 3) for number in range(4)], NAMES, Task.INSTANCE, seed=0)
    assert list(summary.figures) == ["ap50", "ap", "ar", "object_recall", "object_precision"]
    assert summary.figures["ar"].value == 0.75
    assert summary.instance is not None
    assert summary.instance.masks is None  # boxes alone were compared
    assert [(bad.image_uri, bad.measure, bad.value) for bad in summary.worst] == [
        ("file:///set/003.png", "missed or false objects", 2.0)]


def test_classification_figures_have_an_accuracy_only_where_one_class_holds() -> None:
    seen = [labelled(number, score) for number, score in enumerate((0.9, 0.8, 0.3))]
    exclusive = summarise(seen, ("cat", "dog"), Task.CLASSIFICATION, seed=0, exclusive=True)
    several = summarise(seen, ("cat", "dog"), Task.CLASSIFICATION, seed=0)
    assert exclusive.figures["accuracy"].value == pytest.approx(2 / 3)
    assert "accuracy" not in several.figures
    assert [bad.image_uri[-7:-4] for bad in exclusive.worst] == ["002", "001", "000"]


def test_at_an_operating_point_objects_are_counted_by_its_thresholds() -> None:
    seen = [semantic(number, shift_px=1) for number in range(3)]
    below = summarise(seen, NAMES, Task.SEMANTIC, seed=0, flag_at={"thing": 0.5})
    above = summarise(seen, NAMES, Task.SEMANTIC, seed=0, flag_at={"thing": 0.95})
    assert (below.figures["object_recall"].value, above.figures["object_recall"].value) == (1.0, 0.0)


def test_the_same_observations_and_seed_give_the_same_figures() -> None:
    seen = [semantic(number, shift_px=number % 4) for number in range(12)]
    assert summarise(seen, NAMES, Task.SEMANTIC, seed=1) == summarise(seen, NAMES, Task.SEMANTIC, seed=1)
    other = summarise(seen, NAMES, Task.SEMANTIC, seed=2).figures["dice"]
    assert other.value == summarise(seen, NAMES, Task.SEMANTIC, seed=1).figures["dice"].value
    assert other.low != summarise(seen, NAMES, Task.SEMANTIC, seed=1).figures["dice"].low


def test_groups_are_the_units_where_there_are_any() -> None:
    seen = [semantic(number, shift_px=number % 2, group=f"street {number // 4}") for number in range(8)]
    sureness = summarise(seen, NAMES, Task.SEMANTIC, seed=0).sureness
    assert (sureness.unit, sureness.units) == ("group", 2)


def test_one_group_gives_figures_without_intervals_and_says_why() -> None:
    seen = [semantic(number, shift_px=number % 2, group="all") for number in range(8)]
    summary = summarise(seen, NAMES, Task.SEMANTIC, seed=0)
    assert summary.sureness.note == "at least 2 groups are needed for intervals"
    assert summary.sureness.resamples == 0
    assert summary.figures["dice"].value is not None
    assert summary.figures["dice"].low is None


def test_slices_are_the_figures_of_their_images_alone() -> None:
    seen = [semantic(number, shift_px=0 if number < 6 else 3, weather="dry" if number < 6 else "wet", camera="one")
            for number in range(10)]
    summary = summarise([*seen, semantic(10, shift_px=5)], NAMES, Task.SEMANTIC, seed=0)
    assert [(each.column, each.value, each.images) for each in summary.slices] == [
        ("camera", "", 1), ("camera", "one", 10), ("weather", "", 1), ("weather", "dry", 6), ("weather", "wet", 4)]
    of_value = {each.value: each for each in summary.slices if each.column == "weather"}
    assert of_value["dry"].figures["dice"].value == 1.0
    assert of_value["wet"].figures["dice"].value == pytest.approx(9 / 12)
    assert of_value[""].figures["dice"].low is None  # one unit


def test_columns_with_one_value_or_too_many_are_no_slices_unless_a_single_one_is_wanted() -> None:
    seen = [semantic(number, shift_px=0, street=str(number), camera="one", side="ab"[number % 2]) for number in range(25)]
    assert slice_columns(seen) == ("side",)
    assert slice_columns(seen, ["camera"]) == ("camera",)
    with pytest.raises(ConfigError, match="--slice street: expected a column with at most 20 values, got one with 25"):
        slice_columns(seen, ["street"])
    with pytest.raises(ConfigError, match=r"--slice town: .* got none of that name\. There are: camera, side\."):
        slice_columns(seen, ["town"])


def test_a_column_that_names_each_image_is_no_slice() -> None:
    seen = [semantic(number, shift_px=0, group=str(number), side="ab"[number % 2]) for number in range(6)]
    assert slice_columns(seen) == ("side",)
    assert slice_columns(seen, ["group"]) == ("group",)


def test_the_worst_images_are_the_twelve_worst_in_order_without_perfect_ones() -> None:
    seen = [semantic(number, shift_px=number % 7) for number in range(28)]
    worst = summarise(seen, NAMES, Task.SEMANTIC, seed=0).worst
    assert len(worst) == 12
    assert [bad.value for bad in worst] == sorted(bad.value for bad in worst)
    assert worst[0].value == pytest.approx(0.5)
    assert not summarise([semantic(0, shift_px=0)], NAMES, Task.SEMANTIC, seed=0).worst


def test_without_an_image_there_are_no_figures() -> None:
    summary = summarise([], NAMES, Task.SEMANTIC, seed=0)
    assert (summary.images, summary.figures, summary.slices, summary.worst) == (0, {}, (), ())


def test_an_image_with_masks_beside_one_without_has_average_precision_by_boxes_alone() -> None:
    one = instance(0, right=True)
    assert one.boxes is not None
    summary = summarise([replace(one, masks=one.boxes), instance(1, right=True)], NAMES, Task.INSTANCE, seed=0)
    assert summary.instance is not None
    assert summary.instance.masks is None
    assert summary.instance.boxes.all.objects == 2
