"""COCO files as other tools write them, and what is said of those that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from pycocotools.coco import COCO

from segsvc.card import Task
from segsvc.datasets import ObjectTruth, ProblemKind, Severity, Split, TrueObject
from segsvc.datasets.origin import Origin
from segsvc.imaging import masks
from segsvc.truth import read_dataset
from segsvc.types import Box
from segsvc.writers.coco import CocoWriter
from tests.datasets.support import (
    CATEGORIES,
    HEIGHT_PX,
    SQUARE,
    WIDTH_PX,
    image_entry,
    kinds,
    names_of,
    the_problem,
    write_coco,
    write_image,
)
from tests.exports import plain_export

ON_ONE = {"id": 1, "image_id": 1, "category_id": 1}
SIZE = [HEIGHT_PX, WIDTH_PX]


def one_image(folder: Path, *annotations: Any, **more: Any) -> str:
    """A set of one image with these annotations."""
    write_image(folder / "a.png", seed=1)
    return str(write_coco(folder, [image_entry(1, "a.png", **more)], annotations))


def objects_of(place: str) -> tuple[TrueObject, ...]:
    (image,) = read_dataset(place).images
    assert isinstance(image.truth, ObjectTruth)
    return image.truth.objects


def test_splits_are_folders_and_classes_have_the_order_of_their_numbers(tmp_path: Path) -> None:
    categories = [{"id": 90, "name": "bar"}, {"id": 7, "name": "disc"}]
    for split in ("train", "val", "calibration", "test"):
        write_image(tmp_path / split / "a.png", seed=len(split))
        write_coco(tmp_path / split, [image_entry(1, "a.png")], [{**ON_ONE, "category_id": 90, "segmentation": SQUARE}],
                   categories=categories)
    dataset = read_dataset(str(tmp_path))
    assert (dataset.task, dataset.classes, dataset.problems) == (Task.INSTANCE, ("disc", "bar"), ())
    assert {image.ref.uri.rsplit("/", 2)[1]: image.split for image in dataset.images} == {each.value: each for each in Split}


def test_polygons_both_encodings_crowds_and_boxes_are_read(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    mask[3:9, 10:20] = 1
    packed = coco.encode(np.asfortranarray(mask))["counts"].decode()
    runs = [10 * HEIGHT_PX + 3] + [6, HEIGHT_PX - 6] * 9 + [6, 12 * HEIGHT_PX + HEIGHT_PX - 9 - HEIGHT_PX]
    runs[-1] += WIDTH_PX * HEIGHT_PX - sum(runs)
    place = one_image(
        tmp_path, {**ON_ONE, "segmentation": SQUARE}, {**ON_ONE, "segmentation": {"size": SIZE, "counts": packed}},
        {**ON_ONE, "segmentation": {"size": SIZE, "counts": runs}, "iscrowd": 1},
        {**ON_ONE, "category_id": 2, "bbox": [1.5, 2, 3, 4.25]}, {**ON_ONE, "segmentation": [], "bbox": [0, 0, 1, 1]})
    full = masks.encode(np.ones((6, 10), np.bool_))
    assert objects_of(place) == (
        TrueObject("disc", Box(4, 4, 12, 12), masks.encode(np.ones((8, 8), np.bool_))),
        TrueObject("disc", Box(10, 3, 20, 9), full), TrueObject("disc", Box(10, 3, 20, 9), full, ignored=True),
        TrueObject("bar", Box(1, 2, 5, 7)), TrueObject("disc", Box(0, 0, 1, 1)))
    problem = the_problem(read_dataset(place).problems, ProblemKind.NO_LABELS)
    assert problem.severity is Severity.WARNING
    assert "2." in problem.message


def test_several_polygons_of_an_object_are_one_mask_as_pycocotools_reads_it(tmp_path: Path) -> None:
    parts = [SQUARE[0], [10.0, 10.0, 20.0, 11.0, 15.5, 20.0]]
    place = one_image(tmp_path, {**ON_ONE, "segmentation": parts, "area": 1, "iscrowd": 0})
    (found,) = objects_of(place)
    theirs = COCO(str(tmp_path / "annotations.json"))
    assert found.mask_rle is not None
    packed = masks.full_frame_rle(found.mask_rle, found.box, width_px=WIDTH_PX, height_px=HEIGHT_PX)
    assert packed == theirs.annToRLE(theirs.anns[1])["counts"]


@pytest.mark.parametrize(("on_disk", "written"), [
    ("a b+ü.PNG", "a b+ü.PNG"), ("deep/er/a.png", "deep\\er\\a.png"), ("images/a.png", "a.png"),
    ("images/a.png", "images/a.png"), ("a b.png", "a%20b.png"), ("100%.png", "100%.png"), ("a.png", "./sub/../a.png")])
def test_names_are_found_as_other_tools_write_them(tmp_path: Path, on_disk: str, written: str) -> None:
    write_image(tmp_path / on_disk, seed=1)
    dataset = read_dataset(str(write_coco(tmp_path, [image_entry(1, written)], [])))
    assert (dataset.problems, len(dataset.images)) == ((), 1)


@pytest.mark.parametrize("written", ["../a.png", "/etc/hostname", "http://x.invalid/a.png", "", ".", "a\0b", "\ud800.png"])
def test_an_image_that_is_not_in_the_set_is_said(tmp_path: Path, written: str) -> None:
    write_image(tmp_path / "a.png", seed=1)
    write_image(tmp_path / "set" / "b.png", seed=2)
    dataset = read_dataset(str(write_coco(tmp_path / "set", [image_entry(1, written), image_entry(2, "b.png")], [
        {**ON_ONE, "segmentation": SQUARE}])))
    assert kinds(dataset.problems) == [ProblemKind.NO_IMAGE]
    assert names_of(dataset) == ["b.png"]
    json.dumps(dataset.problems[0].message).encode()


def test_images_without_annotations_are_empty_and_further_fields_are_carried(tmp_path: Path) -> None:
    place = one_image(tmp_path, group=7, split="Test", street="A", license=3, meta={"depth": 2.5}, tags=["x"])
    (image,) = read_dataset(place).images
    assert image.truth == ObjectTruth((), WIDTH_PX, HEIGHT_PX)
    assert (image.ref.group, image.split, image.ref.meta) == ("7", Split.TEST, {"street": "A", "depth": "2.5"})


def test_images_that_no_file_names_are_a_warning_and_not_used(tmp_path: Path) -> None:
    one_image(tmp_path / "train", {**ON_ONE, "segmentation": SQUARE})
    write_image(tmp_path / "train" / "b.png", seed=2)
    write_image(tmp_path / "elsewhere" / "c.png", seed=3)
    dataset = read_dataset(str(tmp_path))
    assert names_of(dataset) == ["a.png"]
    problem = the_problem(dataset.problems, ProblemKind.NO_LABELS)
    assert (problem.severity, problem.where) == (Severity.WARNING, "train/b.png")


def test_a_json_of_another_name_is_a_set_with_its_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png", seed=1)
    write_coco(tmp_path, [image_entry(1, "a.png")], [{**ON_ONE, "segmentation": SQUARE}], name="my labels.json")
    dataset = read_dataset(str(tmp_path / "my labels.json"))
    assert (dataset.layout, names_of(dataset), dataset.problems) == ("coco", ["a.png"], ())


def test_a_json_anywhere_names_its_images_by_whole_uris_with_their_groups_and_splits(tmp_path: Path) -> None:
    here, there = (write_image(tmp_path / "bucket" / f"{name} b.png", seed=seed) for seed, name in enumerate("ac"))
    for number in range(3):
        write_image(tmp_path / "labels" / f"not of it {number}.png", seed=number)
    place = write_coco(tmp_path / "labels", [
        image_entry(1, here.as_uri(), group="left", split="test"), image_entry(2, "c b.png", coco_url=there.as_uri()),
        image_entry(3, (tmp_path / "gone.png").as_uri())], [{**ON_ONE, "segmentation": SQUARE}], name="mine.json")
    dataset = read_dataset(str(place / "mine.json"))
    assert names_of(dataset) == ["a%20b.png", "c%20b.png"]
    assert [(image.ref.group, image.split, image.ref.size_bytes) for image in dataset.images] == [
        ("left", Split.TEST, here.stat().st_size), (None, None, there.stat().st_size)]
    assert the_problem(dataset.problems, ProblemKind.NO_IMAGE).message == "expected the image there, there is none"
    assert dataset.origin is None


def test_a_set_out_of_a_review_says_so(tmp_path: Path) -> None:
    for split, by in (("train", ["ada", "ben"]), ("val", ["ben", "eve"])):
        write_image(tmp_path / split / "a.png", seed=len(split))
        write_coco(tmp_path / split, [image_entry(1, "a.png")], [{**ON_ONE, "segmentation": SQUARE}])
        said = json.loads((tmp_path / split / "annotations.json").read_bytes())
        said["info"] = {"origin": "review", "run": "r1", "as_of": "2026-01-01T00:00:00+00:00", "by": by}
        (tmp_path / split / "annotations.json").write_text(json.dumps(said))
    assert read_dataset(str(tmp_path)).origin == Origin(("r1",), ("2026-01-01T00:00:00+00:00",), ("ada", "ben", "eve"))


@pytest.mark.parametrize("info", [None, "review", {"origin": "Berlin"}, [], {"contributor": "me"}])
def test_an_info_of_others_says_nothing_of_a_review(tmp_path: Path, info: Any) -> None:
    one_image(tmp_path, {**ON_ONE, "segmentation": SQUARE})
    said = json.loads((tmp_path / "annotations.json").read_bytes())
    (tmp_path / "annotations.json").write_text(json.dumps({**said, "info": info}))
    assert read_dataset(str(tmp_path)).origin is None


def test_our_own_export_is_a_set_again_but_for_further_frames_of_an_image(tmp_path: Path) -> None:
    CocoWriter().encode(plain_export(), tmp_path / "annotations.json")
    document = json.loads((tmp_path / "annotations.json").read_bytes())
    for seed, image in enumerate(document["images"]):
        write_image(tmp_path / image["file_name"], seed=seed, width_px=image["width"], height_px=image["height"])
    dataset = read_dataset(str(tmp_path))
    first = [image["id"] for image in document["images"] if image["frame"] == 0]
    expected = [each for each in document["annotations"] if each["image_id"] in first]
    found = [each for image in dataset.images if isinstance(image.truth, ObjectTruth) for each in image.truth.objects]
    assert expected
    assert sorted(each["bbox"] for each in expected) == sorted(
        [each.box.x0, each.box.y0, each.box.width_px, each.box.height_px] for each in found)
    assert sum(each["has_mask"] for each in expected) == sum(each.mask_rle is not None for each in found)
    assert kinds(dataset.problems).count(ProblemKind.DUPLICATE) == len(document["images"]) - len(first)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    place = one_image(tmp_path)
    path = tmp_path / "annotations.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_dataset(place).images) == 1


@pytest.mark.parametrize(("shape", "kind", "said"), [
    ({"segmentation": [[1, 2, 3]]}, ProblemKind.BAD_OBJECT, "three corners; got 3 numbers"),
    ({"segmentation": [[1, 2, 3, 4]]}, ProblemKind.BAD_OBJECT, "got 4 numbers"),
    ({"segmentation": [1, 2, 3, 4, 5, 6]}, ProblemKind.BAD_OBJECT, "expected a segmentation of polygons"),
    ({"segmentation": [[1, 2, 3, 4, 5, "6"]]}, ProblemKind.BAD_OBJECT, "expected a segmentation of polygons"),
    ({"segmentation": [[1, 2, 3, 4, 5, float("nan")]]}, ProblemKind.BAD_OBJECT, "finite"),
    ({"segmentation": [[1, 2, 3, 4, 5, 10**400]]}, ProblemKind.BAD_OBJECT, "finite"),
    ({"segmentation": [[1, 2, 3, 4, 5, 1e9]]}, ProblemKind.OUT_OF_IMAGE, "within the image of 32 x 24 px"),
    ({"segmentation": [[40, 2, 50, 2, 50, 9]]}, ProblemKind.OUT_OF_IMAGE, "x 40 to 50, y 2 to 9"),
    ({"segmentation": {"size": [32, 24], "counts": [768]}}, ProblemKind.OTHER_SIZE, r"\[24, 32\] \(height, width\)"),
    ({"segmentation": {"size": SIZE, "counts": [7]}}, ProblemKind.BAD_OBJECT, "sum 768"),
    ({"segmentation": {"size": SIZE, "counts": [True] * 768}}, ProblemKind.BAD_OBJECT, "whole numbers"),
    ({"segmentation": {"size": SIZE, "counts": "zz"}}, ProblemKind.BAD_OBJECT, "run lengths"),
    ({"segmentation": {"size": SIZE, "counts": "\ud800"}}, ProblemKind.BAD_OBJECT, "run lengths"),
    ({"segmentation": {"size": SIZE}}, ProblemKind.BAD_OBJECT, "expected counts"),
    ({"segmentation": "yes"}, ProblemKind.BAD_OBJECT, "or an encoding"),
    ({}, ProblemKind.BAD_OBJECT, "a segmentation, or a bbox"),
    ({"bbox": [1, 2, 3]}, ProblemKind.BAD_OBJECT, "x, y, width and height"),
    ({"bbox": [1, 2, 0, 4]}, ProblemKind.BAD_OBJECT, "above 0"),
    ({"bbox": [5, 5, 1e-30, 1]}, ProblemKind.BAD_OBJECT, "holds a px"),
    ({"bbox": [30, 2, 10, 4]}, ProblemKind.OUT_OF_IMAGE, "x 30 to 40"),
    ({"category_id": 9, "segmentation": SQUARE}, ProblemKind.UNKNOWN_CLASS, r"a category \(1, 2\), got 9"),
    ({"category_id": True, "segmentation": SQUARE}, ProblemKind.UNKNOWN_CLASS, "got True"),
    ({"image_id": 2, "segmentation": SQUARE}, ProblemKind.NO_IMAGE, "expected the id of an image, got 2"),
    ({"image_id": None}, ProblemKind.UNREADABLE, "expected an annotation with 'image_id'"),
])
def test_an_annotation_that_is_wrong_is_said_and_left_out(
    tmp_path: Path, shape: dict[str, Any], kind: ProblemKind, said: str,
) -> None:
    dataset = read_dataset(one_image(tmp_path, {**ON_ONE, "id": 41, **shape}, {**ON_ONE, "segmentation": SQUARE}))
    assert kinds(dataset.problems) == [kind]
    with pytest.raises(ValueError, match=said):
        raise ValueError(dataset.problems[0].message)
    assert [len(image.truth.objects) for image in dataset.images if isinstance(image.truth, ObjectTruth)] == [1]


@pytest.mark.parametrize(("shape", "kind"), [
    ({"segmentation": [[28, 2, 34, 2, 34, 9, 28, 9]]}, ProblemKind.OUT_OF_IMAGE),
    ({"segmentation": [[5, 5, 5.01, 5, 5, 5.01]]}, ProblemKind.BAD_OBJECT)])
def test_an_object_that_is_cut_or_covers_no_px_is_a_warning(
    tmp_path: Path, shape: dict[str, Any], kind: ProblemKind,
) -> None:
    problems = read_dataset(one_image(tmp_path, {**ON_ONE, **shape})).problems
    assert (kinds(problems), kinds(problems, Severity.WARNING)) == ([], [kind])


def test_an_overlap_of_less_than_a_px_is_rounding(tmp_path: Path) -> None:
    place = one_image(tmp_path, {**ON_ONE, "segmentation": [[20, 2, 32.9, 2, 32.9, 24.9, 20, 24.9]]})
    assert read_dataset(place).problems == ()
    assert objects_of(place)[0].box == Box(20, 2, 32, 24)


@pytest.mark.parametrize(("image", "kind"), [
    ({"id": 2, "file_name": "a.png"}, ProblemKind.OTHER_SIZE),
    (image_entry(2, "a.png", width=-1), ProblemKind.OTHER_SIZE),
    (image_entry(2, "a.png", width=1 << 40), ProblemKind.OTHER_SIZE),
    (image_entry(2, "a.png", height="24"), ProblemKind.OTHER_SIZE),
    (image_entry(1, "b.png"), ProblemKind.DUPLICATE), (image_entry(2, "b.png"), ProblemKind.DUPLICATE),
    (image_entry(2, "a.png", split="holdout"), ProblemKind.UNKNOWN_SPLIT),
    ({"id": [1], "file_name": "a.png"}, ProblemKind.UNREADABLE), ("a.png", ProblemKind.UNREADABLE)])
def test_an_image_entry_that_is_wrong_is_said_once(tmp_path: Path, image: Any, kind: ProblemKind) -> None:
    write_image(tmp_path / "a.png", seed=1)
    write_image(tmp_path / "b.png", seed=2)
    annotations = [{**ON_ONE, "segmentation": SQUARE}, {**ON_ONE, "image_id": 2, "segmentation": SQUARE}]
    used = annotations if not isinstance(image, str) and image["id"] == 2 else annotations[:1]
    dataset = read_dataset(str(write_coco(tmp_path, [image_entry(1, "b.png"), image], used)))
    assert kinds(dataset.problems) == [kind]


@pytest.mark.parametrize(("categories", "kind"), [
    ([*CATEGORIES, {"id": 1, "name": "ring"}], ProblemKind.UNKNOWN_CLASS),
    ([*CATEGORIES, {"id": 3}], ProblemKind.UNREADABLE),
    ([*CATEGORIES, {"id": 3, "name": " "}], ProblemKind.UNREADABLE), ([*CATEGORIES, 3], ProblemKind.UNREADABLE)])
def test_a_category_that_is_wrong_is_said(tmp_path: Path, categories: list[Any], kind: ProblemKind) -> None:
    write_image(tmp_path / "a.png", seed=1)
    dataset = read_dataset(str(write_coco(tmp_path, [image_entry(1, "a.png")], [], categories=categories)))
    assert kinds(dataset.problems) == [kind]
    assert dataset.classes == ("disc", "bar")


def test_two_numbers_of_one_name_are_one_class(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", seed=1)
    categories = [{"id": 0, "name": "disc"}, {"id": 5, "name": "disc"}, {"id": 2, "name": "bar"}]
    assert read_dataset(str(write_coco(tmp_path, [image_entry(1, "a.png")], [], categories=categories))).classes == (
        "disc", "bar")


def test_splits_that_number_their_classes_otherwise_are_told_apart_by_name(tmp_path: Path) -> None:
    for split, names in (("train", ("disc", "bar")), ("val", ("bar", "disc"))):
        write_image(tmp_path / split / "a.png", seed=len(split))
        write_coco(tmp_path / split, [image_entry(1, "a.png")], [{**ON_ONE, "segmentation": SQUARE}],
                   categories=[{"id": number, "name": name} for number, name in enumerate(names, start=1)])
    dataset = read_dataset(str(tmp_path))
    assert kinds(dataset.problems) == []
    assert kinds(dataset.problems, Severity.WARNING) == [ProblemKind.UNKNOWN_CLASS] * 2
    assert [image.truth.objects[0].class_name for image in dataset.images if isinstance(image.truth, ObjectTruth)] == [
        "disc", "bar"]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"[" * 100_000, b'{"images": []}', b"\xff\xfe{", b'{"images": 3}',
                                  b'{"images": [], "annotations": null, "categories": []}'])
def test_a_file_that_is_no_coco_is_a_problem_beside_those_of_the_other_split(tmp_path: Path, text: bytes) -> None:
    write_image(tmp_path / "train" / "a.png", seed=1)
    write_coco(tmp_path / "train", [image_entry(1, "a.png")], [{**ON_ONE, "category_id": 5}])
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "annotations.json").write_bytes(text)
    problems = read_dataset(str(tmp_path)).problems
    assert sorted(kinds(problems)) == [ProblemKind.UNKNOWN_CLASS, ProblemKind.UNREADABLE]
    said = the_problem(problems, ProblemKind.UNREADABLE)
    assert (said.where, said.message.startswith("expected ")) == ("val/annotations.json", True)


JSON = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
                              st.sampled_from(["a.png", 1, 2, [24, 32]])),
                    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                    max_leaves=12)


def entries(*keys: str) -> st.SearchStrategy[list[Any]]:
    """Lists of anything, and of objects that have some of these keys with anything in them."""
    return st.lists(st.one_of(JSON, st.fixed_dictionaries({}, optional=dict.fromkeys(keys, JSON))), max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries("id", "file_name", "width", "height", "group", "split", "meta"),
       entries("id", "image_id", "category_id", "segmentation", "bbox", "iscrowd"), entries("id", "name"))
def test_whatever_stands_in_a_file_is_read_or_said(
    tmp_path: Path, images: list[Any], annotations: list[Any], categories: list[Any],
) -> None:
    write_image(tmp_path / "a.png", seed=1)
    sound = {**ON_ONE, "segmentation": SQUARE}
    write_coco(tmp_path, [image_entry(1, "a.png"), *images], [sound, *annotations], categories=[*CATEGORIES, *categories])
    dataset = read_dataset(str(tmp_path))
    assert len(dataset.images) == 1
    for problem in dataset.problems:
        (problem.message + problem.where).encode()
