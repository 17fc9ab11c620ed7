"""What is kept of one image: px, objects, detections and labels, beside what is true of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from segsvc.card import Activation, ClassNode, ModelCard, Task
from segsvc.datasets import ClassTruth, Dataset, LabelledImage, MaskTruth, ObjectTruth, TrueObject
from segsvc.errors import ConfigError, ImageError
from segsvc.evaluation.evaluating import thresholds
from segsvc.evaluation.observation import compared, observe
from segsvc.models.library import find_model
from segsvc.models.runtime import Predictor, Scored
from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint
from segsvc.readers import ReadLimits
from segsvc.stores import store_of
from segsvc.truth import read_dataset
from segsvc.types import SCORE_ONE, Box, ImageRef, Runtime
from tests.evaluated import ToldPredictor, card_of, detected, plain_image, scored, write_mask_set
from tests.scenes import scene

LIMITS = ReadLimits()


def ref(path: Path) -> ImageRef:
    return store_of(str(path)).find(str(path))


def object_set(*images: LabelledImage, classes: tuple[str, ...] = ("bolt", "nut")) -> Dataset:
    return Dataset(place="objects", layout="coco", task=Task.INSTANCE, classes=classes, images=images)


def label_set(*images: LabelledImage, classes: tuple[str, ...], exclusive: bool = True) -> Dataset:
    return Dataset(place="labels", layout="class_folder", task=Task.CLASSIFICATION, classes=classes, images=images,
                   exclusive=exclusive)


def test_px_are_counted_as_the_mask_has_them_and_those_to_ignore_are_not(
        in_process: Callable[[], None], tmp_path: Path) -> None:
    dataset = read_dataset(str(write_mask_set(tmp_path / "set", 4, splits=("test",))))
    predictor = Predictor(find_model("bright"), Runtime.TORCH_CPU, threads=1)
    try:
        seen = observe(dataset.images[3], dataset, predictor, LIMITS, flag_at={"bright": 0.75})
    finally:
        predictor.close()
    picture = scene(3)
    truth = cv2.dilate((picture > 150).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)[6:]
    said = (picture > 127)[6:]  # the model's answer is known: what is brighter than grey
    assert seen.dense is not None
    assert seen.dense.at[0, 0].tolist() == [int((said & truth).sum()), int(said.sum()), int(truth.sum())]
    assert seen.dense.at[0, 1, 1] <= seen.dense.at[0, 0, 1]
    assert seen.dense.histogram[0].sum() == truth.size
    assert seen.found is not None
    assert len(seen.found.object_class) == len(seen.objects)
    assert (seen.found.object_score > 0.9).any()


def test_detections_are_matched_by_masks_and_by_boxes_class_by_class(tmp_path: Path) -> None:
    image = LabelledImage(ref(plain_image(tmp_path / "one.png", 10)), ObjectTruth((
        TrueObject("bolt", Box(4, 4, 20, 20), None), TrueObject("nut", Box(30, 30, 50, 50), None),
        TrueObject("nut", Box(0, 40, 20, 60), None, ignored=True)), 64, 64))
    dataset = object_set(image)
    answer = detected((2, Box(4, 4, 20, 19), 0.9), (0, Box(4, 4, 20, 20), 0.8), (1, Box(30, 30, 50, 50), 0.95),
                      (0, Box(1, 41, 20, 60), 0.7))
    predictor = ToldPredictor(card_of(Task.INSTANCE, ("nut", "gear", "bolt")), {10: answer})
    seen = observe(image, dataset, predictor, LIMITS)
    assert [(each.class_name, round(each.score, 3)) for each in seen.candidates] == [
        ("bolt", 0.9), ("nut", 0.7), ("nut", 0.8)]  # a class that the set does not know is left out
    assert seen.masks is None  # the set has boxes alone
    assert seen.boxes is not None
    assert seen.boxes.objects[:, 0].tolist() == [1, 1]
    assert seen.boxes.detection_class.tolist() == [0, 1, 1]
    assert seen.boxes.outcome[:, 0, 0].tolist() == [1, 0, 2]  # right, of the wrong class, within what is to be ignored
    assert seen.found is not None
    assert seen.found.passed_over == 1
    assert sorted(seen.found.object_score.tolist()) == [-1.0, round(0.9 * SCORE_ONE) / SCORE_ONE]


def test_all_scores_of_a_classifier_count_whatever_its_card_stores(tmp_path: Path) -> None:
    image = LabelledImage(ref(plain_image(tmp_path / "one.png", 10)), ClassTruth(frozenset({"dog"})))
    dataset = label_set(image, classes=("dog", "cat", "wolf"))
    predictor = ToldPredictor(card_of(Task.CLASSIFICATION, ("cat", "fox", "dog")), {10: scored(0.2, 0.5, 0.3)})
    seen = observe(image, dataset, predictor, LIMITS)
    assert seen.labels is not None
    assert compared(predictor.card, dataset).names == ("dog", "cat")
    assert (seen.labels.scores / SCORE_ONE).round(2).tolist() == [0.3, 0.2]
    assert seen.labels.truth.tolist() == [True, False]
    assert (seen.labels.top, seen.labels.top_score, seen.labels.true) == (-1, round(0.5 * SCORE_ONE), 0)


def test_an_image_of_several_classes_has_no_true_one_and_one_of_an_unknown_class_neither(tmp_path: Path) -> None:
    path = plain_image(tmp_path / "one.png", 10)
    both = LabelledImage(ref(path), ClassTruth(frozenset({"dog", "cat"})))
    wolf = LabelledImage(ref(path), ClassTruth(frozenset({"wolf"})))
    dataset = label_set(both, wolf, classes=("cat", "dog", "wolf"), exclusive=False)
    predictor = ToldPredictor(card_of(Task.CLASSIFICATION, ("cat", "dog")), {10: scored(0.9, 0.8)})
    labels = [observe(image, dataset, predictor, LIMITS).labels for image in (both, wolf)]
    assert [(each.truth.tolist(), each.true, each.top) for each in labels if each is not None] == [
        ([True, True], -1, 0), ([False, False], -1, 0)]


def test_classes_are_compared_by_name_and_what_only_one_side_knows_is_said() -> None:
    found = compared(card_of(Task.INSTANCE, ("nut", "gear")), object_set(classes=("bolt", "nut")))
    assert (found.names, found.only_in_data, found.only_in_model) == (("nut",), ("bolt",), ("gear",))


VEHICLES = (ClassNode(name="sedan", parent="car"), ClassNode(name="dog"), ClassNode(name="trailer", parent="car"),
            ClassNode(name="car", parent="traffic"), ClassNode(name="traffic"))


def with_tree(task: Task, activation: Activation = Activation.SIGMOID) -> ModelCard:
    return card_of(task, ("any",)).model_copy(update={"classes": VEHICLES, "activation": activation})


@pytest.mark.parametrize(("classes", "names", "folded", "only_in_model"), [
    (("car",), ("car",), {"sedan": "car", "trailer": "car"}, ("dog", "traffic")),
    (("traffic", "dog"), ("traffic", "dog"), {"sedan": "traffic", "trailer": "traffic", "car": "traffic"}, ()),
    (("sedan", "car", "traffic"), ("sedan", "car", "traffic"), {"trailer": "car"}, ("dog",)),  # the nearest one
    (("sedan",), ("sedan",), {}, ("dog", "trailer", "car", "traffic")),  # a car may be no sedan
])
def test_a_class_that_the_set_has_no_name_for_counts_as_its_nearest_ancestor(
        classes: tuple[str, ...], names: tuple[str, ...], folded: dict[str, str], only_in_model: tuple[str, ...]) -> None:
    found = compared(with_tree(Task.INSTANCE), object_set(classes=classes))
    assert (found.names, found.folded, found.only_in_model) == (names, folded, only_in_model)


@pytest.mark.parametrize(("activation", "score", "best"), [(Activation.SOFTMAX, 0.6, 0), (Activation.SIGMOID, 0.3, -1)])
def test_scores_of_an_image_are_added_under_softmax_and_the_highest_is_taken_under_sigmoid(
        tmp_path: Path, activation: Activation, score: float, best: int) -> None:
    image = LabelledImage(ref(plain_image(tmp_path / "one.png", 10)), ClassTruth(frozenset({"car"})))
    dataset = label_set(image, classes=("car",))
    predictor = ToldPredictor(with_tree(Task.CLASSIFICATION, activation), {10: scored(0.3, 0.35, 0.2, 0.1, 0.05)})
    seen = observe(image, dataset, predictor, LIMITS)
    assert seen.labels is not None
    assert (seen.labels.scores / SCORE_ONE).round(4).tolist() == [score]
    assert (seen.labels.top, seen.labels.true) == (best, 0)  # a dog, where the cars are not added
    assert {each.class_name: round(each.score, 4) for each in seen.candidates} == {"car": score, "dog": 0.35,
                                                                                  "traffic": 0.05}


def test_a_sum_of_rounded_scores_is_at_most_one(tmp_path: Path) -> None:
    image = LabelledImage(ref(plain_image(tmp_path / "one.png", 10)), ClassTruth(frozenset({"car"})))
    predictor = ToldPredictor(with_tree(Task.CLASSIFICATION, Activation.SOFTMAX), {10: scored(0.9, 0, 0.05, 0.050008, 0)})
    seen = observe(image, label_set(image, classes=("car",)), predictor, LIMITS)
    assert seen.labels is not None
    assert seen.labels.scores.tolist() == [SCORE_ONE]


@pytest.mark.parametrize(("activation", "said"), [(Activation.SOFTMAX, [1024, 2048]), (Activation.SIGMOID, [1024, 1024])])
def test_px_of_descendants_are_px_of_the_ancestor_and_regions_stay_as_a_run_stores_them(
        tmp_path: Path, activation: Activation, said: list[int]) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 1
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    image = LabelledImage(ref(plain_image(tmp_path / "one.png", 10)), MaskTruth(ref(tmp_path / "mask.png")))
    dataset = Dataset(place="masks", layout="mask_folder", task=Task.SEMANTIC, classes=("car",), images=(image,))
    scores = np.zeros((5, 64, 64))
    scores[0, :32, :16] = 0.9  # a sedan
    scores[2, 32:, :32], scores[3, 32:, :32] = 0.4, 0.3  # a trailer or another car: neither alone is one
    scores[4, :, 48:] = 1.0  # traffic that may be no car
    scores[2, :32, 16:32] = 0.6
    answer = Scored(np.rint(scores * SCORE_ONE).astype(np.uint16), 0.0)
    seen = observe(image, dataset, ToldPredictor(with_tree(Task.SEMANTIC, activation), {10: answer}), LIMITS)
    assert seen.dense is not None
    assert seen.dense.at[0, 0].tolist() == [said[1], said[1], 2048]
    assert [(each.class_name, each.box) for each in seen.candidates] == [
        ("car", Box(0, 0, 16, 32)), ("car", Box(16, 0, 32, 32))]
    assert seen.found is not None
    assert seen.found.object_score.tolist() == [-1.0]  # each covers a quarter


def test_each_detected_descendant_is_a_candidate_of_the_ancestor(tmp_path: Path) -> None:
    image = LabelledImage(ref(plain_image(tmp_path / "one.png", 10)), ObjectTruth((
        TrueObject("car", Box(4, 4, 20, 20)), TrueObject("car", Box(30, 30, 50, 50))), 64, 64))
    dataset = object_set(image, classes=("car",))
    answer = detected((0, Box(4, 4, 20, 20), 0.7), (2, Box(4, 4, 20, 20), 0.6), (4, Box(30, 30, 50, 50), 0.9),
                      (1, Box(30, 30, 50, 50), 0.8))
    seen = observe(image, dataset, ToldPredictor(with_tree(Task.INSTANCE, Activation.SOFTMAX), {10: answer}), LIMITS)
    assert [(each.class_name, round(each.score, 3)) for each in seen.candidates] == [("car", 0.7), ("car", 0.6)]
    assert seen.found is not None
    assert seen.found.candidate_right.tolist() == [True, True]
    assert seen.boxes is not None
    assert sorted(seen.boxes.outcome[:, 0, 0].tolist()) == [0, 1]  # one car is found once


def test_a_class_that_others_count_as_has_a_threshold_where_it_is_that_of_all() -> None:
    classes = compared(with_tree(Task.INSTANCE), object_set(classes=("car", "dog")))
    every = {"*": ClassThresholds(flag_at=0.4), "dog": ClassThresholds(flag_at=0.2)}
    point = OperatingPoint(basis=Basis.BY_HAND, classes=every)
    assert thresholds(point, classes) == {"car": 0.4, "dog": 0.2}
    apart = point.model_copy(update={"classes": {**every, "trailer": ClassThresholds(flag_at=0.5)}})
    assert thresholds(apart, classes) == {"dog": 0.2}
    assert thresholds(None, classes) == {}


def test_a_set_without_a_class_of_the_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"of model told \(gear\), got objects with bolt, nut: they have none in common"):
        compared(card_of(Task.INSTANCE, ("gear",)), object_set())


@pytest.mark.parametrize(("task", "wanted"), [(Task.SEMANTIC, "semantic or instance"), (Task.INSTANCE, "instance")])
def test_a_set_with_labels_for_another_task_is_refused(task: Task, wanted: str) -> None:
    with pytest.raises(ConfigError, match=f"expected labels for {wanted}, as model told answers {task.value}, got"):
        compared(card_of(task, ("cat",)), label_set(classes=("cat",)))


def test_an_image_of_several_frames_is_one_that_cannot_be_read(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "film.tif", np.zeros((2, 32, 32), np.uint8), photometric="minisblack")
    image = LabelledImage(ref(tmp_path / "film.tif"), ObjectTruth((), 32, 32))
    predictor = ToldPredictor(card_of(Task.INSTANCE, ("nut",)), {})
    with pytest.raises(ImageError, match="expected an image of one frame, which its labels are of, got 2 frames"):
        observe(image, object_set(image), predictor, LIMITS)
