"""Versions of a model: one takes another's place whole, and nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from segsvc import versions
from segsvc.errors import ConfigError, UnknownName
from segsvc.models.library import find_model, find_same_model, kept_versions, model_names, read_model
from tests.conftest import write_model


@pytest.fixture
def models(tmp_path: Path, in_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder with `bright`, and a candidate of it that is kept."""
    monkeypatch.setenv("SEGSVC_MODELS_DIR", str(tmp_path / "models"))
    in_process()
    write_model(tmp_path / "models")
    with versions.alone("bright"):
        write_model(versions.kept_place("bright"), name="coming", tile_px=128)
        versions.keep("bright", versions.kept_place("bright") / "coming")
    return tmp_path / "models"


def test_a_version_takes_the_place_of_another_and_goes_back(models: Path) -> None:
    old, (candidate,) = find_model("bright"), versions.versions("bright")[1:]
    assert (candidate.in_force, candidate.was_in_force) == (False, False)
    with versions.alone("bright"):
        versions.put_in_force("bright", candidate.model.folder)
    assert find_model("bright").digest == candidate.model.digest
    assert model_names() == ("bright", "nuclei", "nuclei-instances")
    same = find_same_model("bright", old.digest)
    assert same is not None
    assert same.card == old.card
    assert versions.restore("bright", None).model.digest == old.digest
    assert find_model("bright").folder == (models / "bright").resolve()
    assert versions.restore("bright", candidate.label).model.digest == candidate.model.digest
    assert [each.was_in_force for each in versions.versions("bright")] == [True, True]


def test_whoever_is_stopped_between_the_two_renames_leaves_a_model_that_is_found(models: Path) -> None:
    """As the disk looks at each step that a kill may follow."""
    (candidate,) = kept_versions("bright")
    digest, before = read_model(candidate).digest, find_model("bright").digest
    (candidate.parent / "next").write_text(candidate.name)
    assert find_model("bright").digest == before
    (models / "bright").rename(candidate.parent / before[:12])
    assert find_model("bright").digest == digest
    with versions.alone("bright"):
        assert read_model(models / "bright").digest == digest
    assert not (candidate.parent / "next").exists()
    assert versions.restore("bright", before[:8]).model.digest == before


def test_a_model_that_came_along_can_be_put_back(models: Path) -> None:
    packaged = find_model("nuclei")
    with versions.alone("nuclei"):
        write_model(versions.kept_place("nuclei"), name="coming")
        versions.put_in_force("nuclei", versions.keep("nuclei", versions.kept_place("nuclei") / "coming"))
    assert find_model("nuclei").digest != packaged.digest
    assert versions.restore("nuclei", None).model.digest == packaged.digest
    assert find_model("nuclei").folder == (models / "nuclei").resolve()
    find_model("nuclei").check_weights()


def test_what_cannot_be_put_back_is_said_with_what_can(models: Path) -> None:
    with pytest.raises(ConfigError, match="was in force before, there is none"):
        versions.restore("bright", None)
    with pytest.raises(ConfigError, match="got 'zzz'"):
        versions.restore("bright", "zzz")
    with pytest.raises(ConfigError, match="a version that is not in force"):
        versions.restore("bright", find_model("bright").digest)
    with pytest.raises(UnknownName, match="nowhere"):
        versions.versions("nowhere")
    with versions.alone("bright"), pytest.raises(ConfigError, match="got one at work"):
        versions.restore("bright", None)
