"""`segsvc datasets from-review`: decisions of a review as labels, which say what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segsvc as library
from segsvc import truth
from segsvc.card import ModelCard
from segsvc.datasets import ObjectTruth
from segsvc.imaging import masks
from segsvc.ledger import decisions, labelling, runs
from segsvc.ledger.label_records import NewLabelling, NewObject
from segsvc.ledger.opening import open_ledger
from segsvc.ledger.records import LOCAL, NewDecision, Verdict
from segsvc.types import Box
from tests.cli.test_usage import complaint
from tests.conftest import Program
from tests.scenes import write_scenes


@pytest.fixture
def reviewed(environment: dict[str, str], bright: ModelCard, tmp_path: Path) -> tuple[Program, list[dict[str, Any]]]:
    """A run of three scenes in a ledger; on the first a candidate is accepted, one edited, one rejected, on the second
    one is unsure, on the third nothing was decided. The candidates of the first scene."""
    program = Program({**environment, "SEGSVC_LEDGER": str(tmp_path / "ledger")}, tmp_path)
    write_scenes(tmp_path / "in", 3)
    assert program("run", "in", "--model", "bright", "--out", "out", "--flag-at", "0.9").code == 0
    imported = program("review", "import", "out", "--audit-share", "0", "--gold-share", "0")
    assert imported.code == 0, imported.stderr
    rows = library.open_run(str(tmp_path / "out")).candidates().to_pylist()
    first = [row for row in rows if row["image_uri"].endswith("00000.png")]
    second = next(row for row in rows if row["image_uri"].endswith("00001.png"))
    edited = NewDecision(Verdict.EDITED, mask_rle=masks.encode(np.ones((3, 4), np.bool_)).decode(), box=Box(1, 2, 5, 5))
    with open_ledger(str(tmp_path / "ledger")) as ledger:
        for row, new in zip([*first[:3], second], (NewDecision(Verdict.ACCEPTED), edited, NewDecision(Verdict.REJECTED),
                                                   NewDecision(Verdict.UNSURE)), strict=True):
            decisions.decide(ledger, LOCAL, row["candidate_id"], new, if_match="*")
    return program, first


def test_decisions_are_objects_rejected_ones_ground_and_all_else_is_ignored(
        reviewed: tuple[Program, list[dict[str, Any]]], tmp_path: Path) -> None:
    program, (accepted, _, rejected, *_) = reviewed
    answer = program("datasets", "from-review", "out", "--to", "labels", "--json")
    assert answer.code == 0, answer.stderr
    said = json.loads(answer.stdout)
    assert (said["images"], said["objects"], said["rejected"], said["decided_by"]) == (1, 2, 1, ["local"])
    assert said["left_out"] == {}  # what somebody is unsure of is not decided
    dataset = truth.read_dataset(str(tmp_path / said["dataset"]))
    assert (dataset.classes, dataset.problems, dataset.skipped) == (("bright",), (), {})
    assert dataset.origin is not None
    assert (dataset.origin.runs, dataset.origin.by) == ((said["run_id"],), ("local",))
    (image,) = dataset.images
    assert isinstance(image.truth, ObjectTruth)
    width, height = image.truth.width_px, image.truth.height_px
    mask = truth.index_mask(image, dataset, width_px=width, height_px=height)
    expected = np.full((height, width), truth.IGNORE, np.uint8)
    for row, value in ((rejected, 0), (accepted, 1)):
        box = Box(row["x0"], row["y0"], row["x1"], row["y1"])
        inside = masks.decode(row["mask_rle"].encode(), height_px=box.height_px, width_px=box.width_px)
        expected[box.y0: box.y1, box.x0: box.x1][inside] = value
    expected[2:5, 1:5] = 1
    assert np.array_equal(mask, expected)
    annotations = json.loads((tmp_path / "labels" / "annotations.json").read_bytes())["annotations"]
    assert [each.get("verdict") for each in annotations] == ["accepted", "edited", None]
    assert {each.get("decided_by") for each in annotations if not each["iscrowd"]} == {"local"}


def test_what_people_marked_beside_the_candidates_is_true_and_where_all_is_marked_nothing_is_ignored(
        reviewed: tuple[Program, list[dict[str, Any]]], tmp_path: Path) -> None:
    program, (accepted, *_) = reviewed
    images = library.open_run(str(tmp_path / "out")).images().to_pylist()
    third = next(row["image_id"] for row in images if row["image_uri"].endswith("00002.png"))
    missed, alone = (NewObject("bright", polygon=((x0, y0), (x1, y0), (x1, y1), (x0, y1)))
                     for x0, y0, x1, y1 in ((100, 2, 110, 9), (50, 60, 58, 66)))
    boxed = NewObject("bright", Box(5, 70, 15, 80))
    with open_ledger(str(tmp_path / "ledger")) as ledger:
        run_id = runs.all_runs(ledger)[0].run_id
        labelling.add_object(ledger, LOCAL, accepted["image_id"], missed, run_id=run_id)
        labelling.done(ledger, LOCAL, third, NewLabelling(nothing=False, objects=(alone, boxed)), run_id=run_id)
    assert program("datasets", "from-review", "out", "--to", "labels").code == 0
    first, whole = truth.read_dataset(str(tmp_path / "labels")).images
    assert isinstance(first.truth, ObjectTruth)
    assert isinstance(whole.truth, ObjectTruth)
    assert [(each.box, each.ignored) for each in whole.truth.objects] == [(Box(50, 60, 58, 66), False), (boxed.box, True)]
    marked = next(each for each in first.truth.objects if each.box == Box(100, 2, 110, 9))
    hidden = next(each for each in first.truth.objects if each.ignored)
    assert (marked.ignored, hidden.mask_rle is not None) == (False, True)
    px = masks.decode(hidden.mask_rle or b"", height_px=hidden.box.height_px, width_px=hidden.box.width_px)
    assert not px[2 - hidden.box.y0: 9 - hidden.box.y0, 100 - hidden.box.x0: 110 - hidden.box.x0].any()


def test_a_calibration_refuses_them_and_an_evaluation_says_what_they_are(
        reviewed: tuple[Program, list[dict[str, Any]]], tmp_path: Path) -> None:
    program, _ = reviewed
    assert program("datasets", "from-review", "out", "--to", "labels").code == 0
    said = complaint(program("calibrate", "bright", "--data", "labels"), 2)
    assert "nobody looked where the model saw nothing" in said
    evaluated = program("evaluate", "bright", "--data", "labels", "--out", "figures", "--json")
    assert evaluated.code == 0, evaluated.stderr
    assert "recall comes out too high" in " ".join(json.loads(evaluated.stdout)["notes"])


def test_what_is_no_reviewed_run_is_told_what_would_be(
        reviewed: tuple[Program, list[dict[str, Any]]], tmp_path: Path) -> None:
    program, _ = reviewed
    assert "by its OUT or its id" in complaint(program("datasets", "from-review", "nowhere", "--to", "labels"), 2)
    assert "there is none at" in complaint(program("datasets", "from-review", "out", "--to", "labels", "--ledger", "x"), 2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    assert "new or empty folder" in complaint(program("datasets", "from-review", "out", "--to", "full"), 2)
