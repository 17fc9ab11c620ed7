"""`segsvc models` from outside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from segsvc.card import ModelCard
from tests.cli.test_usage import complaint
from tests.conftest import Program


@pytest.fixture
def models(segsvc: Program, tmp_path: Path) -> Path:
    """A models' folder of the test's own, with `bright` in it."""
    shutil.copytree(Path(segsvc.environment["SEGSVC_MODELS_DIR"]) / "bright", tmp_path / "models" / "bright")
    return tmp_path / "models"


def test_list_shows_digests_tasks_classes_licences_and_operating_points(
    segsvc: Program, models: Path, bright: ModelCard,
) -> None:
    own = {"SEGSVC_MODELS_DIR": str(models)}
    lines = segsvc("models", "list", environment=own).stdout.splitlines()
    assert lines[0].split("  ")[0] == "NAME"
    row = next(line for line in lines if line.startswith("bright "))
    assert row.split() == ["bright", "semantic", "1", bright.digest[:12], "Apache-2.0", "none"]
    items = {item["name"]: item for item in json.loads(segsvc("models", "list", "--json", environment=own).stdout)["items"]}
    assert items["bright"]["digest"] == bright.digest
    assert items["bright"]["folder"] == str(models / "bright")
    assert items["nuclei"]["operating_point"] == "measured, not guaranteed"


def test_a_model_of_the_user_comes_before_a_packaged_one_of_that_name(segsvc: Program, models: Path) -> None:
    shutil.copytree(models / "bright", models / "nuclei")
    answer = segsvc("models", "show", "nuclei", "--json", environment={"SEGSVC_MODELS_DIR": str(models)})
    assert json.loads(answer.stdout)["folder"] == str(models / "nuclei")


def test_a_damaged_model_is_named_and_the_others_are_listed(segsvc: Program, models: Path) -> None:
    shutil.copytree(models / "bright", models / "broken")
    (models / "broken" / "card.json").write_text("{")
    answer = segsvc("models", "list", "--json", environment={"SEGSVC_MODELS_DIR": str(models)})
    assert answer.code == 0
    document = json.loads(answer.stdout)
    assert "bright" in [item["name"] for item in document["items"]]
    assert list(document["damaged"]) == ["broken"]
    assert answer.stderr.startswith("note: broken cannot be used")


def test_show_says_what_a_model_is_by_name_and_by_folder(segsvc: Program, models: Path, bright: ModelCard) -> None:
    by_name = segsvc("models", "show", "bright", environment={"SEGSVC_MODELS_DIR": str(models)})
    assert by_name.code == 0
    for words in (bright.description, bright.digest, "Apache-2.0", "64 px, 16 px overlap", str(models / "bright")):
        assert words in by_name.stdout
    by_folder = segsvc("models", "show", models / "bright", "--json")
    document = json.loads(by_folder.stdout)
    assert ModelCard.model_validate(document["card"]) == bright
    assert document["weights_ok"] is True


def test_show_ends_with_2_where_the_weights_are_not_their_digest(segsvc: Program, models: Path) -> None:
    with (models / "bright" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    answer = segsvc("models", "show", models / "bright", "--json")
    assert answer.code == 2
    assert json.loads(answer.stdout)["weights_ok"] is False
    assert "sha256" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("text", ["{", "[]"])
def test_damaged_metrics_are_named(segsvc: Program, models: Path, text: str) -> None:
    (models / "bright" / "metrics.json").write_text(text)
    assert "metrics.json" in complaint(segsvc("models", "show", models / "bright"), 2)
