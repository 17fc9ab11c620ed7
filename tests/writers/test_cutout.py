from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from segsvc.writers.cutout import BAND_PX, PLUGIN, frame_range
from tests.exports import MadeImage, MemorySource, candidate, export_of, maskless_export, pixels, plain_export

# pycocotools 2.0.11 under numpy 2.4
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")


def rgba(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)


def test_a_cutout_is_the_box_with_the_mask_as_alpha(tmp_path: Path) -> None:
    export = plain_export()
    PLUGIN.encode(export, tmp_path / "to")
    looked_at = 0
    for row in (row for part in export.parts() for row in part.candidates.to_pylist()):
        source = export.open_image(row["image_uri"], row["image_version"])
        cutout = rgba(tmp_path / "to" / f"{row['candidate_id']}.png")
        height, width = row["y1"] - row["y0"], row["x1"] - row["x0"]
        mask = coco_mask.decode({"size": [height, width], "counts": row["mask_rle"].encode()})
        np.testing.assert_array_equal(cutout[:, :, 3], mask * 255)
        if source.dtype == np.uint8:
            crop = source.pixels[row["frame"], row["y0"]:row["y1"], row["x0"]:row["x1"]]
            np.testing.assert_array_equal(cutout[:, :, :3], crop)
            looked_at += 1
    assert looked_at > 10


def test_deep_grey_is_scaled_by_one_line_for_the_whole_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    deep = pixels(rng, width_px=64, height_px=64, channels=1, dtype=np.uint16)
    square = np.ones((8, 8), np.bool_)
    found = tuple(candidate(square, x0=x, y0=x, class_name="a", score=0.5) for x in (0, 40))
    export = export_of([MadeImage("file:///a.tif", deep, found)], classes=("a",))
    PLUGIN.encode(export, tmp_path / "to")
    low, high = np.percentile(deep, (1, 99.8))
    expected = np.clip((deep[0, :, :, 0].astype(float) - low) * 255 / (high - low), 0, 255)
    for row in (row for part in export.parts() for row in part.candidates.to_pylist()):
        cutout = rgba(tmp_path / "to" / f"{row['candidate_id']}.png")
        for channel in range(3):
            assert abs(cutout[:, :, channel] - expected[row["y0"]:row["y1"], row["x0"]:row["x1"]]).max() <= 0.51


def test_the_range_of_a_large_frame_is_taken_from_a_grid_of_samples() -> None:
    rng = np.random.default_rng(5)
    deep = rng.integers(1000, 3000, (1, 2500, 2600, 1)).astype(np.uint16)
    low, high = frame_range(MemorySource(deep), frame=0)
    exact_low, exact_high = np.percentile(deep, (1, 99.8))
    assert abs(low - exact_low) < 20 and abs(high - exact_high) < 20
    assert frame_range(MemorySource(deep.astype(np.uint8)), frame=0) == (0, 255)


def test_an_image_of_one_value_is_no_fault() -> None:
    low, high = frame_range(MemorySource(np.full((1, 9, 9, 1), 700, np.uint16)), frame=0)
    assert high > low


def test_without_a_mask_the_whole_box_is_opaque(tmp_path: Path) -> None:
    count = PLUGIN.encode(maskless_export(), tmp_path / "to")
    cutouts = [rgba(path) for path in (tmp_path / "to").glob("*.png")]
    assert count.candidates == len(cutouts) == 3
    assert all((cutout[:, :, 3] == 255).all() for cutout in cutouts)
    assert sorted(cutout.shape[:2] for cutout in cutouts) == [(26, 17), (48, 64), (48, 64)]


def test_an_image_that_is_gone_is_counted_and_leaves_no_file(tmp_path: Path) -> None:
    whole = plain_export()

    def open_image(uri: str, version: str) -> MemorySource:
        return whole.open_image("gone" if uri.endswith("/a/one.png") else uri, version)

    count = PLUGIN.encode(replace(whole, open_image=open_image), tmp_path / "to")
    expected = [row for part in whole.parts() for row in part.candidates.to_pylist()
                if not row["image_uri"].endswith("/a/one.png")]
    assert (count.images, count.unreadable_images, count.candidates) == (3, 1, len(expected))
    assert {path.stem for path in (tmp_path / "to").glob("*.png")} == {row["candidate_id"] for row in expected}
    with (tmp_path / "to" / "index.csv").open(newline="") as file:
        assert [line["candidate_id"] for line in csv.DictReader(file)] == [row["candidate_id"] for row in expected]


def test_a_large_box_is_cut_out_band_by_band(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    height, width = 2500, 1500
    assert height * width > BAND_PX
    picture = np.broadcast_to(rng.integers(0, 256, (1, height, 1, 3)).astype(np.uint8), (1, height, width, 3))
    mask = np.ones((height, width), np.bool_)
    mask[100:-100, 100:-100] = False
    found = (candidate(mask, x0=0, y0=0, class_name="a", score=0.5),)
    PLUGIN.encode(export_of([MadeImage("file:///a.png", picture, found)], classes=("a",)), tmp_path / "to")
    cutout = rgba(next((tmp_path / "to").glob("*.png")))
    np.testing.assert_array_equal(cutout[:, :, 3] == 255, mask)
    np.testing.assert_array_equal(cutout[:, :, :3], picture[0])
