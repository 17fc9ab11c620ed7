"""What every layout of labelled images keeps to: its example is recognised by it alone, opens, and is without errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from segsvc import plugins
from segsvc.card import Task
from segsvc.dataset_check import check
from segsvc.datasets import ClassTruth, Dataset, Layout, MaskTruth, ObjectTruth, Severity, Split
from segsvc.datasets.files import files_of
from segsvc.plugins import PluginKind
from segsvc.truth import class_names, index_mask, objects, read_dataset
from tests.s3_servers import S3Server, below, use, weed

__all__ = ["below", "use", "weed"]
LAYOUTS = plugins.names(PluginKind.DATASET)


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Layout:
    found: Layout = plugins.load(PluginKind.DATASET, request.param)
    return found


def place_in(folder: Path) -> Path:
    """What of an example a user names: its table where that is all there is at the root, else the folder."""
    tables = [path for path in folder.iterdir() if path.suffix == ".csv"]
    return tables[0] if tables else folder


def test_the_layouts_that_the_project_promises_are_there() -> None:
    assert {"coco", "mask_folder", "class_folder", "label_table"} <= set(LAYOUTS)


def test_a_layout_is_called_what_its_file_is(layout: Layout) -> None:
    assert plugins.load(PluginKind.DATASET, layout.name) is layout


def test_exactly_one_layout_recognises_an_example(layout: Layout, tmp_path: Path) -> None:
    layout.example(tmp_path)
    files = files_of(str(place_in(tmp_path)))
    assert [name for name in LAYOUTS if plugins.load(PluginKind.DATASET, name).recognises(files)] == [layout.name]


def test_no_layout_recognises_an_empty_folder_or_one_of_images_alone(layout: Layout, tmp_path: Path) -> None:
    assert layout.recognises(files_of(str(tmp_path))) is False
    (tmp_path / "one.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no image")
    assert layout.recognises(files_of(str(tmp_path))) is False


def test_an_example_opens_with_labels_and_two_splits_and_nothing_wrong(layout: Layout, tmp_path: Path) -> None:
    layout.example(tmp_path)
    dataset = read_dataset(str(place_in(tmp_path)))
    assert (dataset.layout, dataset.task) == (layout.name, layout.task)
    assert len(dataset.classes) == len(set(dataset.classes)) > 1
    assert set(dataset.splits) == {Split.TRAIN, Split.VAL}
    assert [problem for problem in check(dataset) if problem.severity is Severity.ERROR] == []


def test_images_come_in_the_order_of_their_uris_and_once(layout: Layout, tmp_path: Path) -> None:
    layout.example(tmp_path)
    uris = [image.ref.uri.encode() for image in read_dataset(str(place_in(tmp_path))).images]
    assert uris == sorted(set(uris))


def test_what_is_true_of_an_image_is_of_the_kind_that_the_task_needs(layout: Layout, tmp_path: Path) -> None:
    layout.example(tmp_path)
    dataset = read_dataset(str(place_in(tmp_path)))
    kinds = {Task.CLASSIFICATION: ClassTruth, Task.SEMANTIC: MaskTruth, Task.INSTANCE: ObjectTruth}
    for image in dataset.images:
        assert isinstance(image.truth, kinds[dataset.task])
        if not isinstance(image.truth, MaskTruth):
            assert class_names(image) <= set(dataset.classes)
        if not isinstance(image.truth, ClassTruth):
            assert {each.class_name for each in objects(image, dataset, width_px=32, height_px=24)} <= set(dataset.classes)
        if isinstance(image.truth, MaskTruth):
            assert index_mask(image, dataset, width_px=32, height_px=24).shape == (24, 32)


def test_an_example_is_the_same_each_time(layout: Layout, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        layout.example(tmp_path / name)
    one, two = ({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
                for name in ("one", "two"))
    assert one == two


def described(dataset: Dataset, root: str) -> list[object]:
    """All that is said of the images, with places below the root."""
    return [dataset.classes, dataset.exclusive,
            [(image.ref.uri.removeprefix(root).replace("%20", " ").replace("%2B", "+"), image.ref.group, image.ref.meta,
              image.split, image.truth if not isinstance(image.truth, MaskTruth) else "mask") for image in dataset.images]]


def test_a_set_in_a_bucket_is_the_same_as_in_a_folder(layout: Layout, tmp_path: Path, weed: S3Server, below: str) -> None:
    layout.example(tmp_path)
    for path in tmp_path.rglob("*.*"):
        if path.is_file():
            key = f"{below}/{path.relative_to(tmp_path)}".removeprefix("s3://open/")
            weed.client().put_object(Bucket="open", Key=key, Body=path.read_bytes())
    here = place_in(tmp_path)
    there = below if here == tmp_path else f"{below}/{here.name}"
    in_folder, in_bucket = read_dataset(str(here)), read_dataset(there)
    assert sorted(map(str, described(in_bucket, below))) == sorted(map(str, described(in_folder, f"file://{tmp_path}")))
    assert [problem.message for problem in check(in_bucket)] == [problem.message for problem in check(in_folder)]
