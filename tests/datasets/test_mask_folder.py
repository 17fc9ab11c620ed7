"""Images and index masks of the same names, and the classes that their values stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segsvc.card import Task
from segsvc.datasets import MaskTruth, ProblemKind, Severity, Split
from segsvc.errors import ConfigError
from segsvc.truth import index_mask, read_dataset
from tests.datasets.support import (
    HEIGHT_PX,
    WIDTH_PX,
    kinds,
    mask_of,
    names_of,
    the_problem,
    write_image,
    write_mask,
    write_masked,
)


def test_images_meet_masks_of_their_stems_whatever_the_endings(tmp_path: Path) -> None:
    for name, mask_name in (("a b.JPG", "a b.png"), ("deep/c.d.bmp", "deep/c.d.TIF"), ("ü+1.png", "ü+1.bmp")):
        write_image(tmp_path / "images" / name, seed=len(name))
        write_mask(tmp_path / "masks" / mask_name, mask_of(1, 2, 255))
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfbackground\r\n disc \r\nbar\r\n\r\n")
    dataset = read_dataset(str(tmp_path))
    assert (dataset.task, dataset.classes, dataset.problems) == (Task.SEMANTIC, ("disc", "bar"), ())
    assert names_of(dataset) == ["%C3%BC%2B1.png", "a%20b.JPG", "c.d.bmp"]
    for image in dataset.images:
        found = index_mask(image, dataset, width_px=WIDTH_PX, height_px=HEIGHT_PX)
        assert np.array_equal(found, mask_of(1, 2, 255))


def test_splits_are_folders_with_both_in_them(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_masked(tmp_path / split, {"a": mask_of(1)}, classes=("disc", "bar"))
    dataset = read_dataset(str(tmp_path))
    assert [image.split for image in dataset.images] == [Split.TEST, Split.TRAIN, Split.VAL]
    assert dataset.classes == ("disc", "bar")


def test_images_and_masks_without_the_other_are_all_said(tmp_path: Path) -> None:
    write_masked(tmp_path, {"a": mask_of(1), "b": mask_of(2)})
    write_image(tmp_path / "images" / "c.png", seed=9)
    write_image(tmp_path / "images" / "a.bmp", seed=8)
    write_image(tmp_path / "elsewhere" / "e.png", seed=7)
    write_mask(tmp_path / "masks" / "d.png", mask_of(1))
    dataset = read_dataset(str(tmp_path))
    assert sorted(kinds(dataset.problems)) == [ProblemKind.DUPLICATE, ProblemKind.NO_IMAGE, ProblemKind.NO_LABELS,
                                               ProblemKind.NO_LABELS]
    assert {problem.where for problem in dataset.problems} == {
        "images/a.png", "images/c.png", "elsewhere/e.png", "masks/d.png"}
    assert len(dataset.images) == 2


@pytest.mark.parametrize("split", ["", "train"])
def test_where_classes_are_named_and_all_masks_are_missing_each_is_said(tmp_path: Path, split: str) -> None:
    write_image(tmp_path / split / "images" / "a.png", seed=1)
    write_image(tmp_path / split / "images" / "b.png", seed=2)
    write_masked(tmp_path / "val", {"c": mask_of(1)} if split else {}, classes=None)
    (tmp_path / "classes.txt").write_text("background\ndisc\n")
    dataset = read_dataset(str(tmp_path))
    assert (dataset.task, len(dataset.images)) == (Task.SEMANTIC, len(split) and 1)
    assert kinds(dataset.problems) == [ProblemKind.NO_LABELS] * 2
    assert "there is none" in dataset.problems[0].message


def test_without_names_of_classes_there_is_one_and_it_is_said(tmp_path: Path) -> None:
    write_masked(tmp_path, {"a": mask_of(1)}, classes=None)
    dataset = read_dataset(str(tmp_path))
    assert dataset.classes == ("foreground",)
    assert kinds(dataset.problems, Severity.WARNING) == [ProblemKind.UNKNOWN_CLASS]
    assert "classes.txt" in the_problem(dataset.problems, ProblemKind.UNKNOWN_CLASS).message


@pytest.mark.parametrize(("text", "said"), [
    (b"", "got 0 lines"), (b"background\n", "got 1 lines"), (b"background\n\nbar\n", "line 2 being empty"),
    (b"background\nbar\nbar\n", "'bar' twice"), ("background\nbär\n".encode("latin-1"), "UTF-8"),
    (b"background\n" + b"".join(b"c%d\n" % n for n in range(255)), "1 to 254 classes")])
def test_names_of_classes_that_cannot_be_are_refused(tmp_path: Path, text: bytes, said: str) -> None:
    write_masked(tmp_path, {"a": mask_of(1)})
    (tmp_path / "classes.txt").write_bytes(text)
    with pytest.raises(ConfigError, match=r"classes\.txt: expected") as caught:
        read_dataset(str(tmp_path))
    assert said in str(caught.value)


def test_splits_with_other_classes_are_refused(tmp_path: Path) -> None:
    write_masked(tmp_path / "train", {"a": mask_of(1)})
    write_masked(tmp_path / "val", {"a": mask_of(1)}, classes=("bar", "disc"))
    said = r"val/classes\.txt: expected the classes of train/classes\.txt, disc, bar; got bar"
    with pytest.raises(ConfigError, match=said):
        read_dataset(str(tmp_path))


def test_masks_are_not_opened_until_they_are_asked_for(tmp_path: Path) -> None:
    write_masked(tmp_path, {"a": mask_of(1)})
    (tmp_path / "masks" / "a.png").write_bytes(b"no image")
    dataset = read_dataset(str(tmp_path))
    (image,) = dataset.images
    assert isinstance(image.truth, MaskTruth)
    assert dataset.problems == ()
    with pytest.raises(ConfigError, match=r"masks/a\.png: expected an image"):
        index_mask(image, dataset, width_px=WIDTH_PX, height_px=HEIGHT_PX)
