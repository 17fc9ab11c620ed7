"""`segsvc calibrate`, and what its promise is used for: as a user runs it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest

from segsvc.card import ModelCard
from segsvc.truth import content_digest, read_dataset
from tests.conftest import Program, write_model
from tests.evaluated import CLASSES_TXT

IMAGES = 110


def write_dots(folder: Path, count: int, *, seed: int = 0, faint: float = 0.02, most: int = 5) -> Path:
    """Generated grey images of 96 px with dots of some brightness, all of them objects, and some specks that are none.

    A share `faint` of the dots is so faint that the model `bright` finds nothing there.
    """
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(count):
        draw = np.random.default_rng((seed, number))
        picture, mask = np.full((96, 96), 40.0), np.zeros((96, 96), np.uint8)
        places = draw.permutation(16)[: draw.integers(1, most + 1) + 2]
        for order, place in enumerate(places):
            middle = (int(place) % 4 * 24 + 12, int(place) // 4 * 24 + 12)
            is_object = order < len(places) - 2
            light = 100.0 if is_object and draw.random() < faint else draw.uniform(180, 255) if is_object else draw.uniform(
                170, 215)
            cv2.circle(picture, middle, 5, light, -1)
            if is_object:
                cv2.circle(mask, middle, 5, 1, -1)
        picture = picture + draw.normal(size=picture.shape) * 2
        cv2.imwrite(str(folder / "images" / f"{number:04d}x{seed}.png"), np.clip(picture, 0, 255).astype(np.uint8))
        cv2.imwrite(str(folder / "masks" / f"{number:04d}x{seed}.png"), mask)
    (folder / "classes.txt").write_text(CLASSES_TXT)
    return folder


def write_coco(folder: Path, dots: Path, *, images_a_group: int) -> None:
    """The same images and objects with a group each so many images; none where that is 1."""
    shutil.copytree(dots / "images", folder)
    images, annotations = [], []
    for number, path in enumerate(sorted((dots / "masks").iterdir())):
        group = {"group": f"patient {number // images_a_group}"} if images_a_group > 1 else {}
        images.append({"id": number, "file_name": path.name, "width": 96, "height": 96, **group})
        outlines, _ = cv2.findContours(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        annotations += [{"id": 100 * number + place, "image_id": number, "category_id": 1, "iscrowd": 0,
                         "bbox": list(cv2.boundingRect(outline)), "area": cv2.contourArea(outline),
                         "segmentation": [outline.ravel().tolist()]} for place, outline in enumerate(outlines)]
    (folder / "annotations.json").write_text(json.dumps({
        "images": images, "annotations": annotations, "categories": [{"id": 1, "name": "bright"}]}))


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dots(tmp_path_factory.mktemp("dots") / "set", IMAGES)


@pytest.fixture
def own(segsvc: Program, bright: ModelCard) -> Iterator[Path]:
    """A copy of the model `bright` that may be written to."""
    answer = segsvc("models", "export", "bright", "--to", "own")
    assert answer.code == 0, answer.stderr
    yield segsvc.folder / "own"


def checked(text: str, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    schema = json.loads((resources.files("segsvc") / "schemas" / f"{name}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)
    return document


def test_a_recall_that_the_data_show_becomes_the_models_promise(segsvc: Program, own: Path, dots: Path) -> None:
    answer = segsvc("calibrate", "./own", "--data", dots, "--recall", "0.9", "--json")
    assert answer.code == 0, answer.stderr
    document = checked(answer.stdout, "calibration")
    point = document["operating_point"]
    assert point == json.loads((own / "operating_point.json").read_text())
    assert (point["basis"], point["runtime"]) == ("calibrated", "openvino")
    assert point["promise"]["recall"] == 0.9
    assert (point["promise"]["units"], point["promise"]["units_apart"]) == (IMAGES, round(0.2 * IMAGES))
    text = segsvc("calibrate", "./own", "--data", dots, "--recall", "0.9").stdout
    proof = point["proofs"]["bright"]
    [cost] = [row["flagged_per_1000_images"] for row in proof["recalls"] if row["recall"] == 0.9]
    assert f"objects in {proof['units_with_objects']} images, {cost:,.0f} candidates flagged a thousand images" in text
    assert (proof["bound"], proof["cap_objects"]) == ("betting", 5)
    assert proof["never_found"] > 0
    rows = {row["recall"]: row for row in proof["recalls"]}
    assert rows[0.9]["flag_at"] == point["classes"]["bright"]["flag_at"]
    assert [row["flag_at"] for row in proof["recalls"]] == sorted((row["flag_at"] for row in proof["recalls"]), reverse=True)
    assert all(row["recall_measured"] >= row["recall"] for row in proof["recalls"])
    assert "at least 90 % are flagged" in document["says"]
    assert point["profile"]["images"] == IMAGES
    report = (own / "report.html").read_text("utf-8")
    assert 'id="promise"' in report and "at least 90 % are flagged" in report
    assert "At recall 0.9 you will review " in report
    assert f"; to promise {proof['beyond'][0]['recall']:g} label " in report
    before = segsvc("run", dots / "images", "--model", "./own", "--out", "none", "--limit", "50", "--dry-run", "--json")
    estimate = checked(before.stdout, "dry_run")["review"]
    accepted = sum(row["accepted_per_1000_images"] for row in proof["precisions"] if row["precision"] == 0.95)
    assert estimate["candidates"] == pytest.approx(50 / 1000 * (cost - accepted), abs=0.1)
    assert (estimate["recall"], estimate["seconds_from"]) == (0.9, "assumed")
    assert estimate["says"].startswith("at recall 0.9 you will review ")
    by_hand = segsvc("run", dots / "images", "--model", "./own", "--out", "none", "--flag-at", "0.5", "--dry-run")
    assert (by_hand.code, "people" in by_hand.stdout) == (0, False)
    shown = segsvc("models", "show", "./own")
    assert "calibrated on openvino" in shown.stdout
    (own / "report.html").unlink()
    anew = segsvc("report", "./own")
    assert (anew.code, anew.stdout.strip()) == (0, str((own / "report.html").resolve()))
    assert (own / "report.html").read_text("utf-8") == report
    assert segsvc("evaluate", "./own", "--data", dots, "--out", "own").code == 0  # figures, into the model's own folder
    assert segsvc("report", "./own").code == 0
    both = (own / "report.html").read_text("utf-8")
    assert 'id="promise"' in both and 'id="summary"' in both


def test_a_run_keeps_the_promise_and_gives_probabilities_and_other_targets_take_no_data(
        segsvc: Program, own: Path, dots: Path) -> None:
    assert segsvc("calibrate", "./own", "--data", dots, "--recall", "0.9").code == 0
    write_dots(segsvc.folder / "fresh", 30, seed=9)
    answer = segsvc("run", "fresh/images", "--model", "./own", "--out", "out", "--recall", "0.8", "--json")
    assert answer.code == 0, answer.stderr
    run = checked(answer.stdout, "run")
    assert run["operating_point_wording"] == "guaranteed as calibrated"
    assert run["operating_point"]["promise"]["recall"] == 0.8
    assert not run["drift"]["in_doubt"]
    page = (segsvc.folder / "out" / "report.html").read_text("utf-8")
    review = run["candidates"]["review"]
    assert f"At recall 0.8 you will review {review} candidate{'' if review == 1 else 's'} of 30 images, " in page
    assert segsvc("export", "out", "--format", "parquet", "--verdict", "all", "--to", "table.parquet").code == 0
    table = pq.read_table(segsvc.folder / "table.parquet")
    probabilities = table["probability"].to_numpy()
    assert ((probabilities > 0) & (probabilities < 1)).all()
    order = np.argsort(table["score"].to_numpy())
    assert (np.diff(probabilities[order]) >= 0).all()
    stricter = segsvc("band", "out", "--recall", "0.9", "--json")
    assert stricter.code == 0, stricter.stderr
    assert checked(stricter.stdout, "band")["operating_point"]["classes"]["bright"]["flag_at"] <= (
        run["operating_point"]["classes"]["bright"]["flag_at"])
    shutil.rmtree(own)
    gone = segsvc("band", "out", "--recall", "0.7")
    assert (gone.code, "guaranteed as calibrated" in gone.stdout) == (0, True), gone.stderr
    too_much = segsvc("band", "out", "--recall", "0.999")
    assert too_much.code == 2
    assert "expected a recall that the calibration shows for bright, up to" in too_much.stderr
    by_hand = segsvc("band", "out", "--flag-at", "0.95", "--json")
    assert by_hand.code == 0
    assert segsvc("export", "out", "--format", "parquet", "--verdict", "all", "--to", "by-hand.parquet").code == 0
    assert pq.read_table(segsvc.folder / "by-hand.parquet")["probability"].to_numpy() == pytest.approx(probabilities)


def test_another_runtime_makes_scores_of_which_nothing_was_promised(segsvc: Program, own: Path, dots: Path) -> None:
    assert segsvc("calibrate", "./own", "--data", dots, "--recall", "0.9").code == 0
    answer = segsvc("run", dots / "images", "--model", "./own", "--out", "out", "--limit", "2", "--runtime",
                    "torch-cpu", "--json")
    assert json.loads(answer.stdout)["operating_point_wording"] == "measured, not guaranteed"


def test_a_recall_that_the_data_cannot_show_says_what_they_can_and_how_many_more_would_do(
        segsvc: Program, own: Path, dots: Path) -> None:
    answer = segsvc("calibrate", "./own", "--data", dots, "--recall", "0.95")
    assert answer.code == 1, answer.stdout
    assert "recall 0.95 at confidence 0.95 for bright: expected data that show it" in answer.stderr
    assert "the most they show is 0.9" in answer.stderr
    assert "more images with objects like these would do" in answer.stderr
    assert not (own / "operating_point.json").exists() and not (own / "report.html").exists()
    precise = segsvc("calibrate", "./own", "--data", dots, "--recall", "0.8", "--precision", "0.999")
    assert precise.code == 1
    assert "the data cannot show it for bright, where they show 0." in precise.stderr
    assert "images like these" in precise.stderr
    assert not (own / "operating_point.json").exists()
    hopeless = segsvc("calibrate", "./own", "--data", dots, "--recall", "0.995")
    assert hopeless.code == 1
    assert "No number of images like these that could be labelled would do" in hopeless.stderr


def test_what_is_wrong_is_found_before_any_work(segsvc: Program, own: Path, dots: Path) -> None:
    for arguments, said in (
            (("--data", dots, "--recall", "1"), "--recall: expected more than 0 and less than 1, got 1"),
            (("--data", dots, "--recall", "0"), "--recall: expected more than 0"),
            (("--data", dots, "--precision", "1.5"), "--precision: expected more than 0 and less than 1, got 1.5"),
            (("--data", dots, "--confidence", "1"), "--confidence: expected more than 0"),
            (("--data", dots, "--class", "cat"), "--class cat: expected a class that the model and the set both know"),
            (("--data", dots, "--split", "test"), "names none. Leave --split away"),
            (("--data", "nowhere"), "there is no 'nowhere'"),
            ((), "Missing option '--data'")):
        answer = segsvc("calibrate", "./own", *arguments)
        assert (answer.code, said in answer.stderr, "Traceback" in answer.stderr) == (2, True, False), answer.stderr
    learnt = [content_digest(image.ref) for image in read_dataset(str(dots)).images][:3]
    (own / "trained_on.json").write_text(json.dumps({"sha256": learnt}))
    answer = segsvc("calibrate", "./own", "--data", dots)
    assert answer.code == 2
    assert "expected images that it was not trained on, got 3 of 110 that it was" in answer.stderr
    assert "0002x0.png. On those it does better" in answer.stderr
    assert not (own / "operating_point.json").exists()


def test_names_that_suggest_groups_are_told(segsvc: Program, own: Path, dots: Path) -> None:
    data = segsvc.folder / "named"
    shutil.copytree(dots, data)
    for folder in ("images", "masks"):
        for number, path in enumerate(sorted((data / folder).iterdir())):
            path.rename(path.with_name(f"patient{number // 5:02d}_{number % 5}.png"))
    answer = segsvc("calibrate", "./own", "--data", data, "--recall", "0.9")
    assert answer.code == 0, answer.stderr
    assert "no groups are given, but names begin alike: 'patient21_0' and 4 more with 'patient21'" in answer.stderr
    assert "a column group). The promise takes each image for itself." in answer.stderr


def test_a_promise_of_some_classes_names_them_and_says_of_the_others_that_there_is_none(
        segsvc: Program, shared_home: Path, dots: Path) -> None:
    write_model(segsvc.folder, name="two", classes=("bright", "other"))
    answer = segsvc("calibrate", "./two", "--data", dots, "--recall", "0.9")
    assert answer.code == 0, answer.stderr
    assert "Of the objects of bright in fresh images like these at least 90 % are flagged" in answer.stdout
    assert "nothing is promised for other: all that is stored there is for review" in answer.stdout
    assert "Of the objects of bright in fresh images" in (segsvc.folder / "two" / "report.html").read_text("utf-8")
    data = segsvc.folder / "data"
    shutil.copytree(dots, data)
    (data / "classes.txt").write_text(CLASSES_TXT.rstrip("\n") + "\nother\n")
    short = segsvc("calibrate", "./two", "--data", data, "--recall", "0.95")
    assert short.code == 1
    lines = short.stderr.strip().splitlines()[-2:]
    assert lines[0].startswith("segsvc: recall 0.95 at confidence 0.95 for ")
    assert lines[1].startswith("So do others, with the most that they show: other (0, 77 more)")


def test_objects_of_a_group_are_one_unit_and_the_promise_is_over_groups(segsvc: Program, own: Path, dots: Path) -> None:
    """The same labels as COCO, once with a group for each four images."""
    for name, of_group in (("single", 1), ("grouped", 4)):
        write_coco(segsvc.folder / name, dots, images_a_group=of_group)
    answers = [segsvc("calibrate", "./own", "--data", name, "--recall", "0.75", "--json") for name in ("single", "grouped")]
    assert [answer.code for answer in answers] == [0, 0], answers[1].stderr
    single, grouped = (checked(answer.stdout, "calibration") for answer in answers)
    assert [each["operating_point"]["promise"][name] for each in (single, grouped) for name in ("unit", "units")] == [
        "image", IMAGES, "group", -(-IMAGES // 4)]
    assert "over the draw of the calibration groups" in grouped["says"]
    assert grouped["operating_point"]["proofs"]["bright"]["cap_objects"] > 5
    too_much = segsvc("calibrate", "./own", "--data", "grouped", "--recall", "0.9")
    assert too_much.code == 1
    assert f"objects in {-(-IMAGES // 4)} groups: the most they show is 0." in too_much.stderr
    assert "more groups with objects like these would do" in too_much.stderr


def test_the_same_data_and_seed_give_the_same_point_whatever_the_threads(segsvc: Program, own: Path, dots: Path) -> None:
    points = []
    for threads in ("1", "2"):
        answer = segsvc("calibrate", "./own", "--data", dots, "--recall", "0.9", "--threads", threads, "--json")
        points.append({**json.loads(answer.stdout)["operating_point"], "set_at": None})
    assert points[0] == points[1]
