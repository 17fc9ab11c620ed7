from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from segsvc.writers.geojson import MOST_VERTICES, PLUGIN
from tests.exports import MadeImage, candidate, export_of, hostile_export, maskless_export, plain_export

# pycocotools 2.0.11 under numpy 2.4
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")


def features(path: Path) -> list[dict[str, Any]]:
    document = json.loads(path.read_bytes())
    assert document["type"] == "FeatureCollection"
    found: list[dict[str, Any]] = document["features"]
    return found


def filled(geometry: dict[str, Any], *, width_px: int, height_px: int) -> np.ndarray:
    """The px whose centres lie in the geometry (even-odd rule), drawn eight times as large."""
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    inside = np.zeros((height_px, width_px), np.bool_)
    for polygon in polygons:
        canvas = np.zeros((height_px * 8, width_px * 8), np.uint8)
        for ring in polygon:
            assert ring[0] == ring[-1]
            one = np.zeros_like(canvas)
            cv2.fillPoly(one, [np.array(ring[:-1], np.int32) * 8], 1)
            canvas ^= one
        inside |= canvas[4::8, 4::8] == 1
    return inside


def test_filling_a_geometry_gives_the_mask_again(tmp_path: Path) -> None:
    export = plain_export()
    PLUGIN.encode(export, tmp_path / "all.geojson")
    by_id = {uuid.UUID(feature["id"]).hex: feature for feature in features(tmp_path / "all.geojson")}
    rows = [row for part in export.parts() for row in part.candidates.to_pylist()]
    assert len(by_id) == len(rows) > 20
    for row in rows:
        height, width = row["y1"] - row["y0"], row["x1"] - row["x0"]
        mask = coco_mask.decode({"size": [height, width], "counts": row["mask_rle"].encode()}) == 1
        whole = filled(by_id[row["candidate_id"]]["geometry"], width_px=130, height_px=110)
        np.testing.assert_array_equal(whole[row["y0"]:row["y1"], row["x0"]:row["x1"]], mask)
        assert whole.sum() == row["area_px"]


def test_features_are_what_qupath_reads(tmp_path: Path) -> None:
    PLUGIN.encode(plain_export(), tmp_path / "all.json")
    for feature in features(tmp_path / "all.json"):
        properties = feature["properties"]
        assert feature["type"] == "Feature"
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        assert properties["objectType"] == "detection"
        assert properties["classification"]["name"] in ("nucleus", "crack")
        assert all(isinstance(value, int) and 0 <= value <= 255 for value in properties["classification"]["color"])
        assert all(isinstance(value, int | float) for value in properties["measurements"].values())
        assert all(isinstance(value, str) for value in properties["metadata"].values())


def test_classes_of_one_colour_are_one_class(tmp_path: Path) -> None:
    PLUGIN.encode(plain_export(), tmp_path / "all.geojson")
    found = {(one["properties"]["classification"]["name"], *one["properties"]["classification"]["color"])
             for one in features(tmp_path / "all.geojson")}
    assert len(found) == 2
    assert len({colour for _, *colour in found for colour in [tuple(colour)]}) == 2


def test_later_frames_are_planes_in_time(tmp_path: Path) -> None:
    PLUGIN.encode(plain_export(), tmp_path / "all.geojson")
    planes = [feature["geometry"].get("plane") for feature in features(tmp_path / "all.geojson")]
    assert {"c": -1, "z": 0, "t": 1} in planes
    assert None in planes


def test_a_folder_has_a_file_for_each_image_that_was_read(tmp_path: Path) -> None:
    count = PLUGIN.encode(plain_export(), tmp_path / "to")
    files = sorted((tmp_path / "to").glob("*.geojson"))
    assert (len(files), count.images, count.files) == (4, 4, 5)
    assert sum(len(features(path)) for path in files) == count.candidates
    assert sum(int(line.split(",")[6]) for line in (tmp_path / "to" / "index.csv").read_text().splitlines()[1:]
               if '"' not in line) == count.candidates


def test_one_file_for_all_holds_the_same_features(tmp_path: Path) -> None:
    PLUGIN.encode(hostile_export(), tmp_path / "to")
    PLUGIN.encode(hostile_export(), tmp_path / "all.geojson")
    assert PLUGIN.decode(tmp_path / "to").equals(PLUGIN.decode(tmp_path / "all.geojson"))


def test_a_class_of_a_whole_image_is_an_annotation_of_its_frame(tmp_path: Path) -> None:
    PLUGIN.encode(maskless_export(), tmp_path / "all.geojson")
    kinds = [one["properties"]["objectType"] for one in features(tmp_path / "all.geojson")]
    assert kinds == ["annotation", "annotation", "detection"]
    assert features(tmp_path / "all.geojson")[0]["geometry"]["coordinates"] == [
        [[0, 0], [64, 0], [64, 48], [0, 48], [0, 0]]]


def test_an_outline_of_very_many_corners_is_simplified(tmp_path: Path) -> None:
    comb = np.zeros((40, 6001), np.bool_)
    comb[:, ::2] = True
    comb[:2] = True
    found = (candidate(comb, x0=0, y0=0, class_name="a", score=0.5),)
    PLUGIN.encode(export_of([MadeImage("file:///a.png", np.zeros((1, 40, 6001, 1), np.uint8), found)], classes=("a",)),
                  tmp_path / "all.geojson")
    (feature,) = features(tmp_path / "all.geojson")
    assert feature["geometry"]["type"] == "Polygon"
    assert 4 <= sum(len(ring) for ring in feature["geometry"]["coordinates"]) <= MOST_VERTICES + 1
