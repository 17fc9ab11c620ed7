"""A model copied whole to another place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from segsvc.card import ModelCard
from segsvc.errors import ConfigError
from segsvc.exchange.exporting import export_model
from segsvc.models.library import Model, find_model, read_model


@pytest.fixture
def model(in_process: Callable[[], None], bright: ModelCard, tmp_path: Path) -> Model:
    shutil.copytree(find_model("bright").folder, tmp_path / "bright")
    (tmp_path / "bright" / "report.html").write_text("<p>")
    (tmp_path / "bright" / "pictures").mkdir()
    (tmp_path / "bright" / "pictures" / "worst.png").write_bytes(b"png")
    (tmp_path / "bright" / ".lock").write_text("")
    return read_model(tmp_path / "bright")


def test_a_copy_is_the_model_with_all_its_files(model: Model, tmp_path: Path) -> None:
    done = export_model(model, str(tmp_path / "to" / "copy"))
    copied = tmp_path / "to" / "copy"
    assert (done.files, done.kept) == (4, 0)
    assert sorted(path.relative_to(copied).as_posix() for path in copied.rglob("*") if path.is_file()) == [
        "card.json", "model.safetensors", "pictures/worst.png", "report.html"]
    assert read_model(copied).digest == model.digest
    read_model(copied).check_weights()


def test_a_copy_that_was_interrupted_is_taken_up(model: Model, tmp_path: Path) -> None:
    export_model(model, str(tmp_path / "copy"))
    (tmp_path / "copy" / "card.json").unlink()
    assert export_model(model, str(tmp_path / "copy")).kept == 3
    assert read_model(tmp_path / "copy").digest == model.digest


def test_another_model_at_the_place_is_left_as_it_is(model: Model, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "card.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"expected a new place, or a copy of bright, got another card\.json there"):
        export_model(model, str(other))
    assert [path.name for path in other.iterdir()] == ["card.json"]


def test_a_model_whose_weights_were_changed_is_not_copied(model: Model, tmp_path: Path) -> None:
    with model.weights.open("ab") as file:
        file.write(b"x")
    with pytest.raises(ConfigError, match="sha256"):
        export_model(model, str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()
