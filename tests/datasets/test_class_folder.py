"""Folders that are classes, and folders that are splits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segsvc.datasets import ClassTruth, Dataset, ProblemKind, Split
from segsvc.errors import ConfigError
from segsvc.truth import read_dataset
from tests.datasets.support import kinds, names_of, write_classes


def labels(dataset: Dataset) -> dict[str, tuple[str, Split | None]]:
    return {image.ref.uri.rsplit("/", 1)[1]: (next(iter(image.truth.names)), image.split) for image in dataset.images
            if isinstance(image.truth, ClassTruth)}


def test_the_folder_of_an_image_is_its_class_however_deep_it_lies(tmp_path: Path) -> None:
    write_classes(tmp_path, ["bus/1.png", "bus/more/2.PNG", "night car/a/b/3.bmp"])
    (tmp_path / "bus" / "notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    dataset = read_dataset(str(tmp_path))
    assert labels(dataset) == {"1.png": ("bus", None), "2.PNG": ("bus", None), "3.bmp": ("night car", None)}
    assert (dataset.classes, dataset.exclusive, dataset.problems) == (("bus", "night car"), True, ())
    assert dataset.skipped == {"hidden": 1, "not_an_image_by_its_ending": 1}


def test_splits_are_folders_around_the_classes(tmp_path: Path) -> None:
    write_classes(tmp_path, ["train/bus/1.png", "train/car/2.png", "val/bus/3.png", "calibration/car/4.png",
                             "test/car/5.png"])
    assert labels(read_dataset(str(tmp_path))) == {
        "1.png": ("bus", Split.TRAIN), "2.png": ("car", Split.TRAIN), "3.png": ("bus", Split.VAL),
        "4.png": ("car", Split.CALIBRATION), "5.png": ("car", Split.TEST)}


@pytest.mark.parametrize("inner", ["train/3.png", "train/3.png train/4.png train/night/5.png"])
def test_a_class_may_be_called_train(tmp_path: Path, inner: str) -> None:
    write_classes(tmp_path, ["bus/1.png", "car/2.png", *inner.split()])
    dataset = read_dataset(str(tmp_path))
    assert (dataset.classes, dataset.splits) == (("bus", "car", "train"), ())


def test_a_folder_that_is_no_split_beside_splits_and_images_beside_classes_are_said(tmp_path: Path) -> None:
    write_classes(tmp_path, ["train/bus/1.png", "train/car/2.png", "valid/bus/3.png", "train/4.png", "5.png"])
    dataset = read_dataset(str(tmp_path))
    assert names_of(dataset) == ["1.png", "2.png"]
    said = {problem.where: problem.kind for problem in dataset.problems}
    assert said == {"valid/bus/3.png": ProblemKind.UNKNOWN_SPLIT, "train/4.png": ProblemKind.NO_LABELS,
                    "5.png": ProblemKind.UNKNOWN_SPLIT}
    assert any("'valid': rename" in problem.message for problem in dataset.problems)


def test_an_image_beside_the_classes_is_said(tmp_path: Path) -> None:
    write_classes(tmp_path, ["bus/1.png", "car/2.png", "overview.png"])
    dataset = read_dataset(str(tmp_path))
    assert kinds(dataset.problems) == [ProblemKind.NO_LABELS]
    assert dataset.problems[0].where == "overview.png"


def test_a_name_that_is_no_text_is_a_class_all_the_same(tmp_path: Path) -> None:
    write_classes(tmp_path, ["bus/1.png"])
    os.rename(tmp_path / "bus", os.fsencode(tmp_path) + b"/b\xffs")  # noqa: PTH104 - bytes
    (name,) = read_dataset(str(tmp_path)).classes
    name.encode()


def test_images_without_any_folder_are_no_set(tmp_path: Path) -> None:
    write_classes(tmp_path, ["1.png", "2.png"])
    with pytest.raises(ConfigError, match="holds 2 images and none of these"):
        read_dataset(str(tmp_path))


@pytest.mark.parametrize(("images", "folders", "said"), [
    (("bus/1.png", "car/2.png"), ("bike", "bus/more", ".hidden"), ["bike"]),
    (("train/bus/1.png", "train/car/2.png", "val/bus/3.png"), ("val/car", "val/bus/more", "test"), ["val/car"]),
])
def test_an_empty_folder_of_a_class_is_said(tmp_path: Path, images: tuple[str, ...], folders: tuple[str, ...],
                                            said: list[str]) -> None:
    write_classes(tmp_path, images)
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    problems = read_dataset(str(tmp_path)).problems
    assert [(problem.kind, problem.where) for problem in problems] == [(ProblemKind.EMPTY_CLASS, where) for where in said]
