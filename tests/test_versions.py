"""Versions of a model: one takes another's place whole, and nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from segsvc import versions
from segsvc.errors import ConfigError, UnknownName
from segsvc.models.library import find_model, find_same_model, kept_versions, model_names, read_model
from segsvc.versions import place_of
from tests.conftest import write_model


@pytest.fixture
def models(tmp_path: Path, in_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder with `bright`, and a candidate of it that is kept."""
    monkeypatch.setenv("SEGSVC_MODELS_DIR", str(tmp_path / "models"))
    in_process()
    write_model(tmp_path / "models")
    with versions.alone(place_of("bright")):
        write_model(versions.kept_place(place_of("bright")), name="coming", tile_px=128)
        versions.keep(place_of("bright"), versions.kept_place(place_of("bright")) / "coming")
    return tmp_path / "models"


def test_a_version_takes_the_place_of_another_and_goes_back(models: Path) -> None:
    old, (candidate,) = find_model("bright"), versions.versions(place_of("bright"))[1:]
    assert (candidate.in_force, candidate.was_in_force) == (False, False)
    with versions.alone(place_of("bright")):
        versions.put_in_force(place_of("bright"), candidate.model.folder)
    assert find_model("bright").digest == candidate.model.digest
    assert model_names() == ("bright", "nuclei", "nuclei-instances")
    same = find_same_model("bright", old.digest)
    assert same is not None
    assert same.card == old.card
    assert versions.restore(place_of("bright"), None).model.digest == old.digest
    assert find_model("bright").folder == (models / "bright").resolve()
    assert versions.restore(place_of("bright"), candidate.label).model.digest == candidate.model.digest
    assert [each.was_in_force for each in versions.versions(place_of("bright"))] == [True, True]


def test_whoever_is_stopped_between_the_two_renames_leaves_a_model_that_is_found(models: Path) -> None:
    """As the disk looks at each step that a kill may follow."""
    (candidate,) = kept_versions(place_of("bright"))
    digest, before = read_model(candidate).digest, find_model("bright").digest
    (candidate.parent / "next").write_text(candidate.name)
    assert find_model("bright").digest == before
    (models / "bright").rename(candidate.parent / before[:12])
    assert find_model("bright").digest == digest
    with versions.alone(place_of("bright")):
        assert read_model(models / "bright").digest == digest
    assert not (candidate.parent / "next").exists()
    assert versions.restore(place_of("bright"), before[:8]).model.digest == before


def test_a_model_that_came_along_can_be_put_back(models: Path) -> None:
    packaged = find_model("nuclei")
    with versions.alone(place_of("nuclei")):
        write_model(kept := versions.kept_place(place_of("nuclei")), name="coming")
        versions.put_in_force(place_of("nuclei"), versions.keep(place_of("nuclei"), kept / "coming"))
    assert find_model("nuclei").digest != packaged.digest
    assert versions.restore(place_of("nuclei"), None).model.digest == packaged.digest
    assert find_model("nuclei").folder == (models / "nuclei").resolve()
    find_model("nuclei").check_weights()


def test_what_cannot_be_put_back_is_said_with_what_can(models: Path) -> None:
    with pytest.raises(ConfigError, match="was in force before, there is none"):
        versions.restore(place_of("bright"), None)
    with pytest.raises(ConfigError, match="got 'zzz'"):
        versions.restore(place_of("bright"), "zzz")
    with pytest.raises(ConfigError, match="a version that is not in force"):
        versions.restore(place_of("bright"), find_model("bright").digest)
    with pytest.raises(UnknownName, match="nowhere"):
        versions.versions(place_of("nowhere"))
    with versions.alone(place_of("bright")), pytest.raises(ConfigError, match="got one at work"):
        versions.restore(place_of("bright"), None)


def test_a_model_by_its_path_keeps_its_versions_beside_it(models: Path, tmp_path: Path) -> None:
    first = write_model(tmp_path / "mine")
    place = place_of(str(tmp_path / "mine" / "bright"))
    with versions.alone(place):
        second = write_model(versions.kept_place(place), name="coming", tile_px=256)
        versions.put_in_force(place, versions.keep(place, versions.kept_place(place) / "coming"))
    assert find_model(str(place)).digest == second.digest
    assert find_same_model(str(place), first.digest) is not None
    assert versions.restore(place, None).model.digest == first.digest
    with pytest.raises(ConfigError, match="expected a name, or a folder on this machine"):
        place_of("s3://bucket/model")
