"""`segsvc datasets` from outside."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from segsvc.documents import SCHEMAS
from tests.cli.test_usage import complaint
from tests.conftest import Answer, Program
from tests.datasets.support import mask_of, write_classes, write_masked


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    write_masked(tmp_path / "set" / "train", {"a": mask_of(1, 2), "b": mask_of(2)})
    write_masked(tmp_path / "set" / "val", {"c": mask_of(1, 1, 2)})
    return tmp_path / "set"


def document(answer: Answer, name: str) -> dict[str, object]:
    """The one JSON document on stdout, as its schema says."""
    said: dict[str, object] = json.loads(answer.stdout)
    jsonschema.validate(said, json.loads((SCHEMAS / f"{name}.json").read_text()))
    return said


def test_check_ends_with_0_where_there_are_warnings_alone(segsvc: Program, sound: Path) -> None:
    answer = segsvc("datasets", "check", sound)
    assert (answer.code, answer.stderr) == (0, "")
    assert answer.stdout.splitlines()[0] == f"{sound.as_uri()}: mask_folder, semantic, 3 images"
    assert answer.stdout.splitlines()[-1] == "0 errors, 2 warnings"
    assert "  disc has 2 objects in validation: with 30 more its recall would be known to +-0.1" in answer.stdout
    said = document(segsvc("datasets", "check", sound, "--json"), "dataset_check")
    assert (said["ok"], said["errors"], said["warnings"], said["layout"]) == (True, 0, 2, "mask_folder")


def test_check_lists_errors_by_kind_with_the_first_places_and_ends_with_1(segsvc: Program, sound: Path) -> None:
    for number in range(7):
        (sound / "train" / "images" / f"lost \x1b{number}.png").write_bytes(b"no image")
    answer = segsvc("datasets", "check", sound)
    assert answer.code == 1
    assert "\nerror no_labels (7)\n  train/images/lost \\x1b0.png: expected its mask" in answer.stdout
    assert "\n  ... and 2 more (--json lists all)\n" in answer.stdout
    assert answer.stdout.index("error no_labels") < answer.stdout.index("warning thin")
    answer = segsvc("datasets", "check", sound, "--json")
    assert answer.code == 1
    said = document(answer, "dataset_check")
    assert (said["ok"], said["errors"]) == (False, 7)


def test_show_says_what_is_in_a_set(segsvc: Program, sound: Path) -> None:
    answer = segsvc("datasets", "show", sound)
    assert (answer.code, answer.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in answer.stdout.splitlines()]
    for line in ("layout mask_folder", "task semantic", "images 2 train, 1 val", "groups none given", "width 32 px",
                 "CLASS TRAIN IMAGES TRAIN OBJECTS VAL IMAGES VAL OBJECTS", "disc 1 1 1 2", "bar 2 2 1 1",
                 "0 errors, 2 warnings: `segsvc datasets check` lists them"):
        assert line in lines
    said = document(segsvc("datasets", "show", sound, "--json"), "dataset")
    assert said["images"] == {"train": 2, "val": 1}
    assert said["classes"] == [{"name": "disc", "images": {"train": 1, "val": 1}, "objects": {"train": 1, "val": 2}},
                               {"name": "bar", "images": {"train": 2, "val": 1}, "objects": {"train": 2, "val": 1}}]


def test_show_of_a_set_without_splits_has_no_column_for_them(segsvc: Program, tmp_path: Path) -> None:
    write_classes(tmp_path / "set", ["bus/1.png", "bus/2.png", "car/3.png"])
    lines = [" ".join(line.split()) for line in segsvc("datasets", "show", tmp_path / "set").stdout.splitlines()]
    for line in ("task classification (exactly one an image)", "images 3 without a split", "CLASS IMAGES", "bus 2", "car 1"):
        assert line in lines


@pytest.mark.parametrize(("command", "place"), [("check", "nowhere"), ("show", "label:mine"), ("check", "empty")])
def test_what_is_no_set_is_wrong_usage(segsvc: Program, tmp_path: Path, command: str, place: str) -> None:
    (tmp_path / "empty").mkdir()
    assert "DATASET: expected" in complaint(segsvc("datasets", command, place), 2)
