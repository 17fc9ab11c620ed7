from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segsvc.writers import Export
from segsvc.writers.coco import PLUGIN, _solid_rle
from tests.exports import (
    MadeImage,
    export_of,
    hostile_export,
    maskless_export,
    nothing_export,
    pixels,
    plain_export,
    regions,
)

# pycocotools 2.0.11 under numpy 2.4
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")


def crowded_export() -> Export:
    """More than 100 regions in an image."""
    rng = np.random.default_rng(7)
    classes = ("nucleus", "crack")
    found = regions(rng, width_px=480, height_px=360, classes=classes, share=1.0)
    return export_of([MadeImage("file:///data/crowd.png", pixels(rng, width_px=480, height_px=360), found)], classes=classes)


def load(export: Export, tmp_path: Path) -> COCO:
    PLUGIN.encode(export, tmp_path / "out.json")
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(tmp_path / "out.json"))


def average_precision(truth: COCO, kind: str) -> float:
    results = [{"image_id": one["image_id"], "category_id": one["category_id"], "score": one["score"],
                "bbox": one["bbox"], "segmentation": one["segmentation"]} for one in truth.dataset["annotations"]]
    with contextlib.redirect_stdout(io.StringIO()):
        scored = COCOeval(truth, truth.loadRes(results) if kind == "bbox" else _with_masks(truth, results), kind)
        scored.params.maxDets = [1, 100, 10_000]
        scored.evaluate()
        scored.accumulate()
    precision = scored.eval["precision"][:, :, :, 0, 2]  # all areas, the most detections
    return float(precision[precision > -1].mean())


def _with_masks(truth: COCO, results: list[dict[str, Any]]) -> COCO:
    return truth.loadRes([{key: value for key, value in one.items() if key != "bbox"} for one in results])


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("make", [plain_export, crowded_export])
def test_a_file_scores_an_average_precision_of_one_against_itself(make: Any, kind: str, tmp_path: Path) -> None:
    assert average_precision(load(make(), tmp_path), kind) == 1.0


def test_masks_are_those_of_the_candidates_in_their_whole_frame(tmp_path: Path) -> None:
    loaded = load(plain_export(), tmp_path)
    assert len(loaded.anns) > 20
    for annotation in loaded.anns.values():
        mask = loaded.annToMask(annotation)
        image = loaded.imgs[annotation["image_id"]]
        x, y, width, height = annotation["bbox"]
        assert mask.shape == (image["height"], image["width"])
        assert mask.sum() == annotation["area"] == mask[y:y + height, x:x + width].sum()
        assert mask[y].any() and mask[y + height - 1].any() and mask[:, x].any() and mask[:, x + width - 1].any()


def test_every_frame_is_an_image_and_ids_count_from_one(tmp_path: Path) -> None:
    loaded = load(plain_export(), tmp_path)
    assert [image["id"] for image in loaded.dataset["images"]] == [1, 2, 3, 4, 5]
    assert [image["frame"] for image in loaded.dataset["images"]] == [0, 0, 0, 1, 0]
    assert [one["id"] for one in loaded.dataset["annotations"]] == list(range(1, len(loaded.anns) + 1))
    assert {one["image_id"] for one in loaded.dataset["annotations"]} == {1, 3, 4, 5}


def test_file_names_lead_from_the_folder_that_all_images_share(tmp_path: Path) -> None:
    loaded = load(plain_export(), tmp_path)
    assert [image["file_name"] for image in loaded.dataset["images"]] == [
        "a/one.png", "a/two.png", "b/deep film.tif", "b/deep film.tif", "c.png"]
    assert loaded.dataset["images"][0]["meta"] == {"group": "g1", "street": "Main St", "score": "7"}


def test_hostile_file_names_lead_nowhere_else(tmp_path: Path) -> None:
    for image in load(hostile_export(), tmp_path).dataset["images"]:
        assert ".." not in image["file_name"].split("/")
        assert not image["file_name"].startswith("/")
        assert "\0" not in image["file_name"] and "\\" not in image["file_name"]


def test_categories_are_the_classes_in_their_order(tmp_path: Path) -> None:
    loaded = load(hostile_export(), tmp_path)
    names = [category["name"] for category in loaded.dataset["categories"]]
    assert tuple(names) == hostile_export().classes
    assert [category["id"] for category in loaded.dataset["categories"]] == list(range(1, len(names) + 1))


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_classes_of_whole_images_load_and_score(kind: str, tmp_path: Path) -> None:
    loaded = load(maskless_export(), tmp_path)
    whole = loaded.anns[1]
    assert whole["bbox"] == [0, 0, 64, 48] and whole["area"] == 64 * 48
    assert loaded.annToMask(whole).all() and not whole["has_mask"]
    assert average_precision(loaded, kind) == 1.0


def test_a_file_without_candidates_loads(tmp_path: Path) -> None:
    loaded = load(nothing_export(), tmp_path)
    assert (len(loaded.imgs), len(loaded.anns), len(loaded.cats)) == (1, 0, 1)


def test_a_folder_gets_annotations_json(tmp_path: Path) -> None:
    PLUGIN.encode(plain_export(), tmp_path / "to")
    PLUGIN.encode(plain_export(), tmp_path / "to.JSON")
    assert (tmp_path / "to" / "annotations.json").read_bytes() == (tmp_path / "to.JSON").read_bytes()
    assert json.loads((tmp_path / "to.JSON").read_bytes())["info"]["description"] == "segsvc export"


@pytest.mark.parametrize("size", [(1, 1), (1, 15), (4, 4), (1, 31), (8, 4), (500, 33), (1024, 512)])
def test_a_box_without_a_mask_is_encoded_as_pycocotools_does(size: tuple[int, int]) -> None:
    assert _solid_rle(size[0] * size[1]) == coco_mask.encode(np.ones(size, np.uint8, order="F"))["counts"]
