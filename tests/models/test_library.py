"""Models as folders: found by name or path, their weights held to their digest."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from segsvc.card import ModelCard
from segsvc.errors import ConfigError, UnknownName
from segsvc.models.library import find_model, load_weights, model_names, read_model
from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint
from tests.conftest import write_model


@pytest.fixture(autouse=True)
def user_models(in_process: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder of models with `bright` in it; the working folder is another one."""
    folder = tmp_path / "models"
    write_model(folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("SEGSVC_MODELS_DIR", str(folder))
    in_process()
    return folder


def test_a_model_is_found_by_name_and_by_folder(user_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = find_model("bright")
    assert by_name == find_model(str(user_models / "bright")) == find_model(f"{user_models}/bright/")
    assert by_name.folder == (user_models / "bright").resolve()
    monkeypatch.chdir(user_models / "bright")
    assert find_model(".") == by_name
    monkeypatch.chdir(user_models)
    assert find_model("./bright") == by_name


def test_the_users_folder_comes_before_the_packaged_one(user_models: Path) -> None:
    assert "nuclei" in model_names()
    own = write_model(user_models, name="nuclei")
    assert find_model("nuclei").card == own
    assert model_names().count("nuclei") == 1


def test_an_unknown_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownName) as caught:
        find_model("brihgt")
    assert "Did you mean 'bright'?" in str(caught.value)
    assert {"bright", "nuclei"} <= set(caught.value.known)


@pytest.mark.parametrize("name", ["x" * 300, "no/such/folder", "nul\0byte", "a/" + "x" * 300, ""])
def test_names_that_no_file_can_have_are_unknown_and_no_faults(name: str) -> None:
    with pytest.raises(ConfigError):
        find_model(name)


def test_folders_without_a_card_are_no_models(user_models: Path) -> None:
    (user_models / "empty").mkdir()
    (user_models / "file").write_text("x")
    assert {"empty", "file"} & set(model_names()) == set()


def test_without_a_users_folder_the_packaged_models_are_there(in_process: Callable[[], None], tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSVC_MODELS_DIR", str(tmp_path / "nowhere"))
    in_process()
    assert "nuclei" in model_names()
    assert "bright" not in model_names()


@pytest.mark.parametrize(("content", "said"), [(b"", "card.json"), (b"{", "card.json"), (b"[]", "card.json"),
                                               (b'{"name": "x"}', "family: Field required")])
def test_a_damaged_card_is_named_with_what_is_wrong_in_it(user_models: Path, content: bytes, said: str) -> None:
    (user_models / "bright" / "card.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"card\.json") as caught:
        find_model("bright")
    assert said in str(caught.value)


def test_weights_are_held_to_the_digest_in_the_card(user_models: Path) -> None:
    model = find_model("bright")
    model.check_weights()
    assert set(load_weights(model)) == {"weight", "bias"}
    raw = bytearray(model.weights.read_bytes())
    raw[-1] ^= 1
    model.weights.write_bytes(raw)
    for look in (model.check_weights, lambda: load_weights(model)):
        with pytest.raises(ConfigError) as caught:
            look()
        assert f"expected weights with sha256 {model.card.weights_sha256}, got " in str(caught.value)
    model.weights.unlink()
    with pytest.raises(ConfigError, match=r"expected its weights at .*model\.safetensors: No such file"):
        model.check_weights()


def test_weights_of_the_right_digest_that_are_no_safetensors_are_refused(user_models: Path) -> None:
    import hashlib

    raw = b"this is no safetensors file"
    model = find_model("bright")
    model.weights.write_bytes(raw)
    card = model.card.model_copy(update={"weights_sha256": hashlib.sha256(raw).hexdigest()})
    (user_models / "bright" / "card.json").write_text(card.to_json())
    with pytest.raises(ConfigError, match="expected safetensors at"):
        load_weights(find_model("bright"))


def test_weights_that_are_kept_as_float16_are_loaded_as_float32(tmp_path: Path) -> None:
    import torch

    from segsvc.models.checkpoint import save_model

    state = {"weight": torch.full((1, 1, 1, 1), 0.1), "count": torch.tensor(3)}
    digest = save_model(state, tmp_path / "half" / "model.safetensors", half=True)
    card = write_model(tmp_path, name="half").model_copy(update={"weights_sha256": digest})
    save_model(state, tmp_path / "half" / "model.safetensors", half=True)
    (tmp_path / "half" / "card.json").write_text(card.to_json())
    loaded = load_weights(read_model(tmp_path / "half"))
    assert (loaded["weight"].dtype, loaded["count"].dtype) == (torch.float32, torch.int64)
    assert float(loaded["weight"]) == pytest.approx(0.1, abs=1e-4)


def point_of(card: ModelCard, digest: str | None) -> OperatingPoint:
    return OperatingPoint(basis=Basis.MEASURED, classes={"*": ClassThresholds(flag_at=0.3)}, model_digest=digest)


def test_the_operating_point_is_no_part_of_the_digest_and_that_of_another_model_says_nothing(user_models: Path) -> None:
    bare = find_model("bright")
    assert bare.operating_point is None
    file = user_models / "bright" / "operating_point.json"
    for digest, counts in ((bare.digest, True), (None, True), ("0" * 64, False)):
        point = point_of(bare.card, digest)
        file.write_text(point.to_json())
        model = find_model("bright")
        assert model.digest == bare.digest
        assert model.operating_point == (point if counts else None)


def test_a_damaged_operating_point_is_named(user_models: Path) -> None:
    (user_models / "bright" / "operating_point.json").write_text('{"basis": "luck", "classes": {}}')
    with pytest.raises(ConfigError, match=r"operating_point\.json: basis: "):
        find_model("bright")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_users_folder_without_permission_is_passed_over(user_models: Path) -> None:
    user_models.chmod(0)
    try:
        assert "nuclei" in model_names()
    finally:
        user_models.chmod(0o755)
