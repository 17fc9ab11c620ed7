"""What is true of labelled images: masks and objects made of each other, and parts without leaks."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segsvc.card import Task
from segsvc.datasets import (
    ClassTruth,
    Dataset,
    LabelledImage,
    MaskTruth,
    ObjectTruth,
    Split,
    TrueObject,
)
from segsvc.errors import ConfigError, ImageError
from segsvc.imaging import masks
from segsvc.stores import store_of
from segsvc.truth import class_names, content_digest, folds_by_group, index_mask, objects, read_dataset, split_by_group
from segsvc.types import Box, ImageRef
from tests.datasets.support import HEIGHT_PX, WIDTH_PX, mask_of, write_classes, write_image, write_mask, write_masked

FULL = masks.encode(np.ones((6, 6), np.bool_))


def made(*images: LabelledImage, classes: tuple[str, ...] = ("disc", "bar")) -> Dataset:
    """A set of images that are nowhere."""
    return Dataset("file:///set", "made", Task.INSTANCE, classes, images)


def with_objects(*marked: TrueObject, name: str = "a.png") -> LabelledImage:
    return LabelledImage(ImageRef(f"file:///set/{name}", "1", 1), ObjectTruth(marked, WIDTH_PX, HEIGHT_PX))


def square(x0: int, y0: int, side_px: int = 6, *, name: str = "disc", ignored: bool = False) -> TrueObject:
    rle = masks.encode(np.ones((side_px, side_px), np.bool_))
    return TrueObject(name, Box(x0, y0, x0 + side_px, y0 + side_px), rle, ignored)


def painted(image: LabelledImage, dataset: Dataset) -> np.ndarray:  # type: ignore[type-arg]
    return index_mask(image, dataset, width_px=WIDTH_PX, height_px=HEIGHT_PX)


# -- places ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "said"), [
    ("nowhere", "there is no 'nowhere'"), ("", "there is no ''"),
    ("label:first", "label sets are read by the commands"), ("a.png", "got the file"),
    ("empty", "holds 0 images"), ("other.json", "expected a COCO file"), ("ftp://x/y", "file://, s3://"),
    ("a\0b", "a\\x00b")])
def test_a_place_that_is_no_set_is_refused_with_what_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "a.png", seed=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text("{}")
    if place == "other.json":
        assert said in read_dataset(place).problems[0].message
        return
    with pytest.raises(ConfigError) as caught:
        read_dataset(place)
    assert said in str(caught.value)


def test_a_place_may_be_relative_a_uri_or_end_in_a_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path / "a set", ["bus/1.png", "car/2.png"])
    monkeypatch.chdir(tmp_path)
    sets = [read_dataset(place) for place in ("a set", "a set/", str(tmp_path / "a set"), (tmp_path / "a set").as_uri())]
    assert len(set(map(str, sets))) == 1
    assert sets[0].place == (tmp_path / "a set").as_uri()


# -- masks and objects -------------------------------------------------------------------------------------------------


def test_objects_are_painted_by_their_class_the_smaller_ones_last_and_ignored_ones_are_255() -> None:
    image = with_objects(square(4, 4, 2, name="bar"), square(2, 2, 8), square(20, 2, 6, ignored=True), square(22, 3, 2))
    mask = painted(image, made(image))
    assert mask.dtype == np.uint8
    assert (mask[4:6, 4:6] == 2).all()
    assert int((mask == 1).sum()) == 64 - 4 + 4
    assert int((mask == 255).sum()) == 36 - 4


def test_an_object_with_a_box_alone_teaches_no_px_unless_it_is_ignored() -> None:
    alone = TrueObject("disc", Box(1, 1, 4, 4))
    with pytest.raises(ConfigError, match=r"a\.png: expected objects with masks, got 'disc' with a box alone \(x 1 to 4, y"):
        painted(with_objects(alone), made())
    assert int((painted(with_objects(replace(alone, ignored=True)), made()) == 255).sum()) == 9


def test_objects_of_a_mask_are_its_8_connected_regions_class_by_class(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    mask[2:4, 2:4] = 1
    mask[4:6, 4:6] = 1  # touches by a corner
    mask[2:4, 4:6] = 2
    mask[10:12, 10:12] = 1
    mask[11:13, 12] = 255
    write_masked(tmp_path, {"a": mask})
    dataset = read_dataset(str(tmp_path))
    found = objects(dataset.images[0], dataset, width_px=WIDTH_PX, height_px=HEIGHT_PX)
    assert [(each.class_name, each.box) for each in found] == [
        ("disc", Box(2, 2, 6, 6)), ("disc", Box(10, 10, 12, 12)), ("bar", Box(4, 2, 6, 4))]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31), st.sampled_from([0.05, 0.3, 0.6]))
def test_a_mask_and_its_objects_are_the_same_px_and_as_many_as_opencv_counts(
    tmp_path: Path, seed: int, share: float,
) -> None:
    random = np.random.default_rng(seed)
    mask = np.where(random.random((HEIGHT_PX, WIDTH_PX)) < share, random.choice([1, 2, 255], (HEIGHT_PX, WIDTH_PX)), 0)
    write_masked(tmp_path, {"a": mask.astype(np.uint8)})
    dataset = read_dataset(str(tmp_path))
    found = objects(dataset.images[0], dataset, width_px=WIDTH_PX, height_px=HEIGHT_PX)
    again = painted(with_objects(*found), dataset)
    assert np.array_equal(again, np.where(mask == 255, 0, mask))
    counted = sum(cv2.connectedComponents((mask == value).astype(np.uint8), connectivity=8)[0] - 1 for value in (1, 2))
    assert len(found) == counted


def test_labels_of_another_size_are_refused_and_a_turned_image_is_guessed(tmp_path: Path) -> None:
    write_masked(tmp_path, {"a": mask_of(1)})
    dataset = read_dataset(str(tmp_path))
    (masked,), marked = dataset.images, with_objects(square(1, 1))
    for image, name in ((masked, r"masks/a\.png"), (marked, r"a\.png")):
        said = f"{name}: expected labels of the image's size, 9 x 9 px .*got those of 32 x 24"
        with pytest.raises(ConfigError, match=said):
            index_mask(image, dataset, width_px=9, height_px=9)
        with pytest.raises(ConfigError, match=r"EXIF"):
            objects(image, dataset, width_px=HEIGHT_PX, height_px=WIDTH_PX)


def test_values_beyond_the_classes_are_refused_with_all_of_them(tmp_path: Path) -> None:
    write_masked(tmp_path, {"a": mask_of(1, 3, 255, 254)})
    dataset = read_dataset(str(tmp_path))
    with pytest.raises(ConfigError, match=r"masks/a\.png: expected px from 0 to 2 .* or 255 for 'ignore', got 3, 254"):
        painted(dataset.images[0], dataset)


def test_classes_of_an_image_are_those_of_its_labels_or_of_objects_that_count() -> None:
    assert class_names(LabelledImage(ImageRef("file:///a", "1", 1), ClassTruth(frozenset({"x"})))) == {"x"}
    assert class_names(with_objects(square(1, 1), square(9, 9, name="bar", ignored=True))) == {"disc"}
    masked = LabelledImage(ImageRef("file:///a", "1", 1), MaskTruth(ImageRef("file:///m", "1", 1)))
    with pytest.raises(ConfigError, match="once it is read"):
        class_names(masked)


def test_labels_of_whole_images_are_no_masks() -> None:
    image = LabelledImage(ImageRef("file:///set/a", "1", 1), ClassTruth(frozenset({"disc"})))
    for ask in (index_mask, objects):
        with pytest.raises(ConfigError, match="got labels of whole images"):
            ask(image, made(), width_px=4, height_px=4)


def test_a_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", seed=1)
    assert content_digest(store_of("file://").find(str(path))) == hashlib.sha256(path.read_bytes()).hexdigest()
    path.unlink()
    with pytest.raises(ImageError):
        content_digest(store_of("file://").find(str(path)))


# -- parts -------------------------------------------------------------------------------------------------------------


def labelled(n: int, classes: tuple[tuple[str, ...], ...], groups: tuple[str | None, ...] = (None,)) -> Dataset:
    """n images with these classes and groups in turn, each of a size of its own, so that none is read."""
    images = tuple(LabelledImage(ImageRef(f"file:///set/{number:04d}.png", "1", number, groups[number % len(groups)]),
                                 ClassTruth(frozenset(classes[number % len(classes)]))) for number in range(n))
    known = tuple(sorted({name for names in classes for name in names}))
    return Dataset("file:///set", "made", Task.CLASSIFICATION, known, images)


def share(dataset: Dataset, split: Split, name: str) -> float:
    shown = [image.split for image in dataset.images if name in class_names(image)]
    return shown.count(split) / len(shown)


def test_a_split_spreads_each_class_as_asked_and_is_the_same_for_the_same_seed() -> None:
    dataset = labelled(200, (("a",), ("a",), ("a", "b"), (), ("b", "c"), ("a",), ("a",), ("a",)))
    parted = split_by_group(dataset, seed=3)
    for name in dataset.classes:
        assert share(parted, Split.VAL, name) == pytest.approx(0.2, abs=0.03)
    assert len(parted.of(Split.VAL)) == pytest.approx(40, abs=2)
    assert parted == split_by_group(dataset, seed=3)
    assert parted != split_by_group(dataset, seed=4)
    assert [image.ref for image in parted.images] == [image.ref for image in dataset.images]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(2, 12), st.integers(0, 99), st.integers(2, 6))
def test_groups_are_never_parted_and_each_image_is_held_out_once(n_images: int, n_groups: int, seed: int, n: int) -> None:
    groups = tuple(f"g{number}" for number in range(n_groups))
    dataset = labelled(n_images, (("a",), ("b",), ("a", "b")), groups)
    folds = folds_by_group(dataset, n=n, seed=seed)
    assert len(folds) == min(n, n_images, n_groups)
    for learnt, held in folds:
        assert held
        assert learnt
        assert {image.ref.group for image in learnt}.isdisjoint({image.ref.group for image in held})
        assert len(learnt) + len(held) == n_images
    assert sorted(image.ref.uri for _, held in folds for image in held) == [image.ref.uri for image in dataset.images]
    parted = split_by_group(dataset, seed=seed)
    assert {image.ref.group for image in parted.of(Split.TRAIN)}.isdisjoint({
        image.ref.group for image in parted.of(Split.VAL)})
    assert parted.of(Split.TRAIN)
    assert parted.of(Split.VAL)


@pytest.mark.parametrize("seed", range(6))
def test_a_class_that_two_groups_show_is_in_both_parts(seed: int) -> None:
    images = [("common",)] * 38 + [("rare", "common")] * 2
    parted = split_by_group(labelled(40, tuple(images)), seed=seed)
    assert share(parted, Split.VAL, "rare") == 0.5


def test_images_of_the_same_bytes_stay_together(tmp_path: Path) -> None:
    names = [f"bus/{number}.png" for number in range(6)]
    write_classes(tmp_path, [*names, "car/x.png", "car/y.png"])
    for name in names[1:5]:
        (tmp_path / name).write_bytes((tmp_path / names[0]).read_bytes())
    for seed in range(4):
        parted = split_by_group(read_dataset(str(tmp_path)), seed=seed)
        assert len({image.split for image in parted.images[:5]}) == 1


def test_classes_of_masks_are_spread_too(tmp_path: Path) -> None:
    write_masked(tmp_path, {f"{number:02d}": mask_of(2 if number < 5 else 1) for number in range(25)})
    dataset = read_dataset(str(tmp_path))
    for learnt, held in folds_by_group(dataset, n=5, seed=1):
        shown = [2 in painted(image, dataset) for image in held]
        assert (len(learnt), len(held), sum(shown)) == (20, 5, 1)


def test_nothing_is_parted_where_there_is_one_group_or_splits_are_named() -> None:
    with pytest.raises(ConfigError, match="at least two images or groups to part, got 1"):
        split_by_group(labelled(9, (("a",),), ("g",)), seed=1)
    dataset = split_by_group(labelled(9, (("a",),)), seed=1)
    with pytest.raises(ConfigError, match="names no split, got train, val"):
        split_by_group(dataset, seed=1)
    with pytest.raises(ValueError, match="n must be at least 2"):
        folds_by_group(dataset, n=1, seed=1)
    with pytest.raises(ValueError, match="val_share"):
        split_by_group(labelled(9, (("a",),)), seed=1, val_share=1)


def test_a_mask_that_cannot_be_read_is_said_where_images_are_parted(tmp_path: Path) -> None:
    write_masked(tmp_path, {"a": mask_of(1), "b": mask_of(2)})
    write_mask(tmp_path / "masks" / "b.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"masks/b\.png: expected a mask"):
        split_by_group(read_dataset(str(tmp_path)), seed=1)
