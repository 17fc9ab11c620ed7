"""`segsvc sample`, and label sets as a DATASET: as a user runs them."""

from __future__ import annotations

import csv
import json
import signal
import time
from pathlib import Path
from typing import Any

import cv2
import pyarrow.parquet as pq
import pytest

from segsvc.labels.frame import draw_number
from segsvc.ledger import label_sets, labelling
from segsvc.ledger.label_records import NewLabelling, NewObject
from segsvc.ledger.opening import open_ledger
from segsvc.ledger.records import LOCAL
from segsvc.types import Box
from tests.cli.test_calibrate import write_dots
from tests.cli.test_serve import started
from tests.conftest import Program
from tests.listings import make
from tests.scenes import write_scenes
from tests.test_documents import check


def sampled(segsvc: Program, *arguments: str | Path, name: str = "streets") -> dict[str, Any]:
    done = segsvc("sample", *arguments, "--name", name, "--json")
    assert done.code == 0, done.stderr
    check("sample", done.stdout)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def label_all(place: Path, masks: Path, *, name: str = "streets", most: int = 1000) -> None:
    """A scripted person marks what the masks hold, image after image in drawn order."""
    with open_ledger(str(place)) as ledger:
        for item in labelling.lease(ledger, LOCAL, name, n=50)[:most]:
            mask = cv2.imread(str(masks / Path(item.image.uri).name), cv2.IMREAD_GRAYSCALE)
            _, _, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
            objects = tuple(NewObject("bright", Box(int(x), int(y), int(x + w), int(y + h))) for x, y, w, h, _ in boxes[1:])
            labelling.done(ledger, LOCAL, item.image.image_id, NewLabelling(not objects, objects, seconds=2.0),
                           set_name=name)
    if most == 1000 and label_sets_left(place, name):
        label_all(place, masks, name=name)


def label_sets_left(place: Path, name: str) -> int:
    with open_ledger(str(place)) as ledger:
        return label_sets.find(ledger, name).left


def test_a_sample_is_the_first_of_an_order_that_anybody_can_check(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "images", 30)
    done = sampled(segsvc, "images", "--n", "8", "--class", "bright", "--seed", "7")
    assert (done["drawn"], done["left"], done["frame_images"], done["dataset"]) == (8, 8, 30, "label:streets")
    units = pq.read_table(segsvc.folder / done["frame"])["unit"].to_pylist()
    ordered = sorted(units, key=lambda unit: draw_number(7, unit))
    with open_ledger(str(segsvc.folder / "segsvc-data")) as ledger:
        drawn = [item.image.uri for item in labelling.lease(ledger, LOCAL, "streets", n=50)]
    assert drawn == ordered[:8]
    more = sampled(segsvc, "images", "--n", "4", "--more")
    assert (more["drawn"], more["new_images"], more["drawn_units"]) == (12, 4, 12)
    with open_ledger(str(segsvc.folder / "segsvc-data")) as ledger:
        assert [item.image.uri for item in labelling.lease(ledger, LOCAL, "streets", n=50)] == ordered[:12]


def test_groups_are_drawn_whole(segsvc: Program) -> None:
    paths = write_scenes(segsvc.folder / "images", 12)
    with (segsvc.folder / "list.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerows([["uri", "group", "patient", "split"], *(
            [path, f"scan {n // 2}", n // 3, "test" if n < 6 else "train"] for n, path in enumerate(paths))])
    done = sampled(segsvc, "list.csv", "--n", "2", "--group", "patient", "--class", "bright")
    assert (done["frame_units"], done["drawn_units"], done["drawn"]) == (4, 2, 6)
    label_all(segsvc.folder / "segsvc-data", segsvc.folder / "images")
    shown = segsvc("export", "label:streets", "--format", "coco", "--to", "streets.json")
    assert shown.code == 0, shown.stderr
    images = json.loads((segsvc.folder / "streets.json").read_text())["images"]
    assert len({image["group"] for image in images}) == 2
    assert {image["split"] for image in images} <= {"test", "train"}
    assert images[0]["meta"]["labelled_by"] == "local" and images[0]["meta"]["candidates_shown"] == "no"
    no_column = segsvc("sample", "list.csv", "--n", "2", "--group", "street", "--class", "bright", "--name", "other")
    assert (no_column.code, "expected a value in that column for every image" in no_column.stderr) == (2, True)


def test_labels_are_a_data_set_that_shows_a_recall(segsvc: Program) -> None:
    dots = write_dots(segsvc.folder / "dots", 110, most=8, faint=0.0)
    ledger = segsvc.folder / "ledger"
    sampled(segsvc, dots / "images", "--n", "100", "--model", "bright", "--ledger", ledger)
    label_all(ledger, dots / "masks", most=40)
    unfinished = segsvc("datasets", "show", "label:streets", "--ledger", ledger)
    assert unfinished.code == 2
    assert "expected all 100 images to be labelled, 60 are left. The first 40 in drawn order are: label:streets@40" in (
        unfinished.stderr)
    assert segsvc("datasets", "check", "label:streets@40", "--ledger", ledger).code == 0
    stretch = segsvc("datasets", "show", "label:streets@31-40", "--ledger", ledger, "--json")
    assert sum(json.loads(stretch.stdout)["images"].values()) == 10
    for wrong in ("label:streets@0", "label:streets@9-3", "label:streets@41", "label:streets@x", "label:", "label:streets@"):
        assert segsvc("datasets", "show", wrong, "--ledger", ledger).code == 2
    label_all(ledger, dots / "masks")
    shown = segsvc("datasets", "show", "label:streets", "--ledger", ledger, "--json")
    assert sum(json.loads(shown.stdout)["images"].values()) == 100
    assert segsvc("models", "export", "bright", "--to", "own").code == 0  # the model itself is of all tests
    done = segsvc("calibrate", "./own", "--data", "label:streets", "--ledger", ledger, "--recall", "0.9", "--json")
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["operating_point"]["promise"]["images"] == 100


def test_a_run_gives_its_images_and_what_it_flagged(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "images", 9)
    (segsvc.folder / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    assert segsvc("run", "images", "--model", "bright", "--out", "OUT", "--flag-at", "0.9").code == 3
    done = sampled(segsvc, "OUT", "--n", "9")
    assert (done["classes"], done["frame_images"], done["skipped"]) == (["bright"], 9, {"failed": 1})
    with open_ledger(str(segsvc.folder / "segsvc-data")) as ledger:
        items = labelling.lease(ledger, LOCAL, "streets", n=9, candidates=True)
    assert all(item.candidates for item in items)
    again = segsvc("sample", "images", "--n", "1", "--name", "streets", "--more")
    assert (again.code, "expected what the label set streets was drawn from" in again.stderr) == (2, True)


def test_classes_of_whole_images_become_a_table(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "images", 6)
    sampled(segsvc, "images", "--n", "6", "--class", "day", "--class", "night", "--task", "classes")
    with open_ledger(str(segsvc.folder / "segsvc-data")) as ledger:
        for n, item in enumerate(labelling.lease(ledger, LOCAL, "streets", n=6)):
            names = ("day", "night")[:n % 3]
            labelling.done(ledger, LOCAL, item.image.image_id,
                           NewLabelling(not names, tuple(NewObject(name) for name in names)))
    shown = segsvc("datasets", "show", "label:streets", "--json")
    assert shown.code == 0, shown.stderr
    assert {each["name"]: each["images"] for each in json.loads(shown.stdout)["classes"]} == {
        "day": {"none": 4}, "night": {"none": 2}}


def test_images_that_changed_or_cannot_be_opened_are_said(segsvc: Program) -> None:
    paths = write_scenes(segsvc.folder / "images", 4)
    paths[0].write_bytes(b"no image at all")
    done = segsvc("sample", "images", "--n", "4", "--class", "bright", "--name", "streets")
    assert done.code == 0
    assert "cannot be opened, and will not be labelled" in done.stderr
    label_all(segsvc.folder / "segsvc-data", segsvc.folder / "images")
    paths[1].write_bytes(paths[2].read_bytes() + b" ")
    shown = segsvc("datasets", "show", "label:streets", "--json")
    assert "left out, as it is gone or has changed since it was labelled" in shown.stderr
    assert json.loads(shown.stdout)["images"] == {"none": 2}


@pytest.mark.parametrize(("arguments", "says"), [
    (("nowhere", "--n", "1", "--class", "a"), "expected a file, folder, glob or manifest"),
    (("images", "--n", "9", "--class", "a"), "--n: expected at most 3 images, as the frame has 3, got 9"),
    (("images", "--n", "1"), "expected the classes that people are to mark"),
    (("images", "--n", "1", "--class", "a", "--class", "a"), "each once"),
    (("images", "--n", "1", "--class", "a|b"), "without '|'"),
    (("images", "--n", "1", "--model", "none"), "none"),
    (("images", "--n", "1", "--class", "a", "--more"), "expected a label set that there is"),
    (("images", "--n", "0", "--class", "a"), "--n"),
    (("empty", "--n", "1", "--class", "a"), "expected at least one image, found none in file://"),
    (("text", "--n", "1", "--class", "a"), "(passed over: 1 not_an_image_by_its_ending)"),
    (("text/a.txt/below", "--n", "1", "--class", "a"), "expected a file, folder, glob or manifest"),
], ids=str)
def test_wrong_usage_is_said_and_makes_no_set(segsvc: Program, arguments: tuple[str, ...], says: str) -> None:
    write_scenes(segsvc.folder / "images", 3)
    make(segsvc.folder, "text/a.txt")
    (segsvc.folder / "empty").mkdir()
    done = segsvc("sample", *arguments, "--name", "streets")
    assert (done.code, says in done.stderr) == (2, True), done.stderr
    assert not list(segsvc.folder.rglob("*.parquet"))
    shown = segsvc("datasets", "show", "label:streets")
    assert shown.code == 2
    assert "Traceback" not in done.stderr + shown.stderr


@pytest.mark.parametrize("name", ["../x", "", "a b", "a:b", "x" * 65])
def test_a_name_is_one_step_of_a_path(segsvc: Program, name: str) -> None:
    write_scenes(segsvc.folder / "images", 3)
    done = segsvc("sample", "images", "--n", "1", "--class", "a", "--name", name)
    assert (done.code, "--name: expected" in done.stderr) == (2, True)
    assert not list(segsvc.folder.rglob("*.parquet"))


def test_a_sample_that_is_interrupted_leaves_nothing_and_is_drawn_anew(segsvc: Program) -> None:
    image = write_scenes(segsvc.folder / "first", 1)[0]
    (segsvc.folder / "images").mkdir()
    for number in range(2000):
        (segsvc.folder / "images" / f"{number}.png").hardlink_to(image)
    frame = segsvc.folder / "segsvc-data" / "frames" / "streets.parquet"
    process = segsvc.start("sample", "images", "--n", "2000", "--class", "a", "--name", "streets")
    while not frame.exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=100)
    assert (process.returncode, told.startswith("segsvc: interrupted"), "Traceback" in told) == (130, True, False), told
    assert list(frame.parent.iterdir()) == []
    assert sampled(segsvc, "images", "--n", "3", "--class", "a")["drawn"] == 3


def test_a_set_is_drawn_on_with_its_own_classes_alone(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "images", 4)
    sampled(segsvc, "images", "--n", "1", "--class", "a")
    other = segsvc("sample", "images", "--n", "1", "--class", "b", "--name", "streets", "--more")
    assert (other.code, "or the classes of the label set streets, a; got b" in other.stderr) == (2, True)
    assert sampled(segsvc, "images", "--n", "1", "--class", "a", "--more")["drawn"] == 2


def test_a_server_on_the_ledger_draws_for_the_command(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "images", 3)
    with started(segsvc):
        assert sampled(segsvc, "images", "--n", "2", "--class", "bright")["drawn"] == 2
        shown = segsvc("datasets", "show", "label:streets")
        assert (shown.code, "got 2, the first of which is not labelled yet; 2 are left" in shown.stderr) == (2, True)


def test_the_same_folder_gives_the_same_file(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "images", 3)
    sampled(segsvc, "images", "--n", "3", "--class", "bright")
    label_all(segsvc.folder / "segsvc-data", segsvc.folder / "images")
    for to in ("a.json", "b.json"):
        assert segsvc("export", "label:streets", "--format", "coco", "--to", to).code == 0
    assert (segsvc.folder / "a.json").read_bytes() == (segsvc.folder / "b.json").read_bytes()
    other = segsvc("export", "label:streets", "--format", "png", "--to", "c")
    assert (other.code, "expected coco" in other.stderr) == (2, True)
    assert not (segsvc.folder / "c").exists()
