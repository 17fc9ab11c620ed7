"""`segsvc export` from outside: what a real run found, as other tools read it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import segsvc as library
from segsvc.card import ModelCard
from tests.cli.test_usage import complaint
from tests.conftest import Answer, Program, write_model
from tests.scenes import scene, write_scenes

pytestmark = pytest.mark.filterwarnings(  # pycocotools under numpy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
FORMATS = {"coco": "x.json", "png": "png", "geojson": "geojson", "cutout": "cutout", "csv": "x.csv", "parquet": "x.parquet"}
HOSTILE = (b"one\nline and\r\ntwo.png", b"\"quoted\", and 'single'.png", b"<script>alert(1);.png",
           b"na\xffme.png", b"=cmd|' calc'!A0.png", b"a..%2F..%2Fetc.png", "漢字 \u202e.png".encode())


@pytest.fixture(scope="module")
def place(environment: dict[str, str], bright: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A folder with a manifest and a finished run, `out`: flagged from 0.99, accepted from 0.9998."""
    program = Program(environment, tmp_path_factory.mktemp("exports"))
    write_scenes(program.folder / "in", 5)
    cv2.imwrite(str(program.folder / "in" / "empty.png"), np.zeros((30, 40), np.uint8))
    (program.folder / "in" / "bad.png").write_bytes(b"no picture")
    lines = [f"in/{name}.png,{street},{group}\n" for name, street, group in (
        ("scene-00003", "Elm", "a"), ("empty", "Oak", "a"), ("scene-00001", '"Main St, 5"', "b"), ("bad", "x", "b"),
        ("scene-00000", "Elm", ""), ("scene-00002", "", "c"), ("scene-00004", "Fir", "c"))]
    (program.folder / "list.csv").write_text("uri,street,group\n" + "".join(lines))
    answer = program("run", "list.csv", "--model", "bright", "--out", "out", "--shard-size", "3", "--flag-at", "0.99",
                     "--accept-at", "0.9998")
    assert answer.code == 3, answer.stderr
    return program


def export(place: Program, to: Path, format_name: str, *flags: str, out: str | Path = "out") -> dict[str, Any]:
    answer: Answer = place("export", out, "--format", format_name, "--to", to, "--json", *flags)
    assert answer.code == 0, answer.stderr
    document: dict[str, Any] = json.loads(answer.stdout)
    assert document["to"] == str(to)
    return document


def stored(place: Program, band: str | None = None, out: str = "out") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = library.open_run(str(place.folder / out)).candidates().to_pylist()
    return [row for row in rows if band is None or row["band"] == band]


@pytest.mark.parametrize("format_name", FORMATS)
def test_by_default_only_what_is_accepted_is_exported(place: Program, tmp_path: Path, format_name: str) -> None:
    accepted, every = stored(place, "accepted"), stored(place)
    assert 0 < len(accepted) < len(every)
    assert export(place, tmp_path / FORMATS[format_name], format_name)["candidates"] == len(accepted)
    whole = export(place, tmp_path / FORMATS[format_name], format_name, "--verdict", "all")  # over the one before
    assert (whole["candidates"], whole["images"], whole["unreadable_images"]) == (len(every), 6, 0)


def test_bands_as_of_a_time_are_those_that_were_in_force_then(place: Program, tmp_path: Path) -> None:
    out = Path(shutil.copytree(place.folder / "out", tmp_path / "out"))
    first = [row["candidate_id"] for row in stored(place, "accepted")]
    time.sleep(0.01)
    between = datetime.now(UTC)
    time.sleep(0.01)
    assert place("band", out, "--flag-at", "0.9", "--accept-at", "0.9").code == 0

    def ids(*flags: str) -> list[str]:
        export(place, tmp_path / "x.csv", "csv", *flags, out=out)
        with (tmp_path / "x.csv").open(newline="") as file:
            return [row["candidate_id"] for row in csv.DictReader(file)]

    assert ids("--as-of", between.isoformat()) == first
    assert ids("--as-of", between.replace(tzinfo=None).isoformat()) == first  # without a zone it is UTC
    assert len(ids()) == len(stored(place)) > len(first)
    assert ids("--as-of", "2020-01-01") == []
    assert len(ids("--as-of", "2020-01-01", "--verdict", "all")) == len(stored(place))


def test_coco_loads_in_pycocotools_and_scores_1_against_itself(place: Program, tmp_path: Path) -> None:
    export(place, tmp_path / "x.json", "coco", "--verdict", "all")
    truth = COCO(str(tmp_path / "x.json"))
    assert truth.dataset["categories"] == [{"id": 1, "name": "bright", "supercategory": ""}]
    found = truth.loadRes([{key: each[key] for key in ("image_id", "category_id", "segmentation", "score")}
                           for each in truth.dataset["annotations"]])
    scored = COCOeval(truth, found, "segm")
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    assert scored.stats[0] == pytest.approx(1.0)
    by_id = {row["candidate_id"]: row for row in stored(place)}
    for each in truth.dataset["annotations"]:
        row = by_id[each["candidate_id"]]
        assert each["bbox"] == [row["x0"], row["y0"], row["x1"] - row["x0"], row["y1"] - row["y0"]]
        assert int(truth.annToMask(each).sum()) == each["area"] == row["area_px"]


def full_mask(row: dict[str, Any], height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The candidate's mask in its image, decoded by pycocotools."""
    inside = coco_mask.decode({"size": [row["y1"] - row["y0"], row["x1"] - row["x0"]], "counts": row["mask_rle"]})
    mask = np.zeros((height, width), np.uint8)
    mask[row["y0"]: row["y1"], row["x0"]: row["x1"]] = inside
    return mask


def test_index_masks_are_the_masks_of_the_candidates(place: Program, tmp_path: Path) -> None:
    export(place, tmp_path / "masks", "png", "--verdict", "all")
    assert (tmp_path / "masks" / "classes.txt").read_text() == "background\nbright\n"
    with (tmp_path / "masks" / "index.csv").open(newline="") as file:
        entries = list(csv.DictReader(file))
    images = [row for row in library.open_run(str(place.folder / "out")).images().to_pylist() if row["status"] != "failed"]
    assert [entry["image_uri"] for entry in entries] == [image["image_uri"] for image in images]
    assert [entry["street"] for entry in entries] == ["Elm", "Oak", "Main St, 5", "Elm", "", "Fir"]
    for entry, image in zip(entries, images, strict=True):
        wanted = np.zeros((image["height_px"], image["width_px"]), np.uint8)
        for row in stored(place):
            if row["image_id"] == image["image_id"]:
                wanted |= full_mask(row, *wanted.shape)
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / "masks" / entry["file"]), cv2.IMREAD_UNCHANGED), wanted)


def test_cutouts_are_rgba_and_opaque_in_the_mask(place: Program, tmp_path: Path) -> None:
    export(place, tmp_path / "cut", "cutout")
    rows = stored(place, "accepted")
    assert {path.name for path in (tmp_path / "cut").glob("*.png")} == {f"{row['candidate_id']}.png" for row in rows}
    for row in rows:
        cut = cv2.imread(str(tmp_path / "cut" / f"{row['candidate_id']}.png"), cv2.IMREAD_UNCHANGED)
        assert cut is not None
        assert cut.shape == (row["y1"] - row["y0"], row["x1"] - row["x0"], 4)
        mask = coco_mask.decode({"size": list(cut.shape[:2]), "counts": row["mask_rle"]})
        np.testing.assert_array_equal(cut[:, :, 3], mask * 255)


def test_geojson_holds_a_feature_a_candidate(place: Program, tmp_path: Path) -> None:
    count = export(place, tmp_path / "geo", "geojson", "--verdict", "all")["candidates"]
    features = [feature for path in (tmp_path / "geo").glob("*.geojson")
                for feature in json.loads(path.read_text())["features"]]
    assert len(features) == count
    assert {feature["type"] for feature in features} == {"Feature"}
    assert {feature["geometry"]["type"] for feature in features} <= {"Polygon", "MultiPolygon"}


def test_tables_have_probability_band_and_the_manifests_columns(place: Program, tmp_path: Path) -> None:
    export(place, tmp_path / "x.csv", "csv", "--verdict", "all")
    export(place, tmp_path / "x.parquet", "parquet", "--verdict", "all")
    with (tmp_path / "x.csv").open(newline="") as file:
        from_csv = list(csv.DictReader(file))
    from_parquet = pq.read_table(tmp_path / "x.parquet").to_pylist()
    every = stored(place)
    assert [row["band"] for row in from_csv] == [row["band"] for row in from_parquet] == [row["band"] for row in every]
    assert {row["probability"] for row in from_csv} == {""}
    assert {row["probability"] for row in from_parquet} == {None}
    assert {(row["street"], row["group"]) for row in from_parquet} >= {("Elm", "a"), ("Main St, 5", "b"), ("Elm", None)}
    assert [(row["street"], row["group"]) for row in from_csv] == [
        (row["street"] or "", row["group"] or "") for row in from_parquet]
    assert [{key: row[key] for key in every[0]} for row in from_parquet] == every


def test_classes_are_numbered_as_the_models_card_says(
    environment: dict[str, str], bright: ModelCard, tmp_path: Path,
) -> None:
    write_model(tmp_path / "models", name="two", classes=("zebra", "ant", "never-found"))
    program = Program({**environment, "SEGSVC_MODELS_DIR": str(tmp_path / "models")}, tmp_path)
    write_scenes(tmp_path / "in", 1)
    assert program("run", "in", "--model", "two", "--out", "out", "--runtime", "torch-cpu").code == 0
    export(program, tmp_path / "known.json", "coco", "--verdict", "all")
    export(program, tmp_path / "masks", "png", "--verdict", "all")
    names = [each["name"] for each in json.loads((tmp_path / "known.json").read_text())["categories"]]
    assert names == ["zebra", "ant", "never-found"]
    assert (tmp_path / "masks" / "classes.txt").read_text().split() == ["background", *names]
    shutil.rmtree(tmp_path / "models" / "two")  # without the model: what was found, by name
    export(program, tmp_path / "unknown.json", "coco", "--verdict", "all")
    names = [each["name"] for each in json.loads((tmp_path / "unknown.json").read_text())["categories"]]
    assert names == ["ant", "never-found", "zebra"]


def test_an_image_that_is_gone_is_left_out_of_cutouts_and_said_so(place: Program, tmp_path: Path) -> None:
    out = Path(shutil.copytree(place.folder / "out", tmp_path / "out"))
    image = place.folder / "in" / "scene-00003.png"
    image.rename(tmp_path / "away.png")
    try:
        answer = place("export", out, "--format", "cutout", "--to", tmp_path / "cut", "--verdict", "all")
    finally:
        (tmp_path / "away.png").rename(image)
    assert answer.code == 3
    assert "1 image could not be opened" in answer.stderr


def test_an_export_without_accepted_candidates_or_of_an_unfinished_run_says_so(place: Program, tmp_path: Path) -> None:
    out = Path(shutil.copytree(place.folder / "out", tmp_path / "out"))
    (out / "bands.json").write_text('{"operating_points": []}')
    (out / "run.json").write_text((out / "run.json").read_text().replace('"succeeded"', '"cancelled"'))
    answer = place("export", out, "--format", "csv", "--to", tmp_path / "x.csv")
    assert answer.code == 0
    assert "--verdict all" in answer.stderr
    assert "not finished" in answer.stderr
    assert "0 candidates" in answer.stdout


def test_an_export_that_cannot_be_written_leaves_what_stood_there(place: Program, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for format_name in FORMATS:
        complaint(place("export", "out", "--format", format_name, "--to", tmp_path / "mine"), 2)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.fixture(scope="module")
def hostile(environment: dict[str, str], bright: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A finished run, `out`, over images whose names try to break out of lines, quotes and markup; one failed."""
    program = Program(environment, tmp_path_factory.mktemp("hostile"))
    folder = os.fsencode(program.folder) + b"/in"
    Path(os.fsdecode(folder)).mkdir()
    image = cv2.imencode(".png", scene(1))[1].tobytes()
    for name in HOSTILE:
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(image)
    Path(os.fsdecode(folder + b"/<img src=x onerror=alert(2)>.png")).write_bytes(b"<b>no< picture")
    answer = program("run", "in", "--model", "bright", "--out", "out", "--json")
    assert answer.code == 3, answer.stderr
    assert json.loads(answer.stdout)["images"]["done"] == len(HOSTILE)
    return program


def test_the_report_of_hostile_names_holds_none_of_their_markup(hostile: Program) -> None:
    page = (hostile.folder / "out" / "report.html").read_text()
    for markup in ("<script>alert", "<img src=x", "onerror=alert(2)>", "<b>no"):
        assert markup not in page


@pytest.mark.parametrize("format_name", FORMATS)
def test_hostile_names_are_exported_whole(hostile: Program, tmp_path: Path, format_name: str) -> None:
    document = export(hostile, tmp_path / FORMATS[format_name], format_name, "--verdict", "all")
    assert (document["images"], document["candidates"]) == (len(HOSTILE), len(stored(hostile)))
    uris = {row["image_uri"] for row in stored(hostile)}
    if format_name == "csv":
        with (tmp_path / "x.csv").open(newline="") as file:
            assert {row["image_uri"] for row in csv.DictReader(file)} == uris
    if format_name == "coco":
        assert {image["image_uri"] for image in COCO(str(tmp_path / "x.json")).dataset["images"]} == uris


def test_an_out_whose_name_is_no_utf_8_works_as_any_other(hostile: Program, tmp_path: Path) -> None:
    out = os.fsdecode(os.fsencode(tmp_path) + b"/o\xff<b>\n")
    strict = {"PYTHONIOENCODING": "utf-8:strict"}  # as under a locale such as en_US.UTF-8
    run = hostile("run", "in", "--model", "bright", "--out", out, "--limit", "1", "--json", environment=strict)
    assert run.code == 0, run.stderr
    plain = subprocess.run([sys.executable, "-m", "segsvc", "report", out], cwd=hostile.folder, check=False,
                           env={**hostile.environment, **strict}, capture_output=True, timeout=60)
    assert plain.stdout == os.fsencode(out) + b"/report.html\n"  # the name as it is, byte for byte
    assert hostile("band", out, "--flag-at", "0.95", "--json", environment=strict).code == 0
    report = hostile("report", out, "--json", environment=strict)
    assert report.code == 0, report.stderr
    assert json.loads(report.stdout)["report"].endswith("/o\ufffd<b>\n/report.html")
    to = os.fsdecode(os.fsencode(tmp_path) + b"/e\xff.csv")
    answer = hostile("export", out, "--format", "csv", "--to", to, "--json", "--verdict", "all", environment=strict)
    assert answer.code == 0, answer.stderr
    assert Path(to).is_file()
