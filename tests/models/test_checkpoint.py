from __future__ import annotations

import hashlib
import io
import os
import pickle  # noqa: TID251 (writes hostile files; nothing is unpickled here)
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from segsvc.errors import ConfigError
from segsvc.models.checkpoint import LITE0_ARCH, imagenet_lite0, read_checkpoint, read_state, save_model, write_whole
from segsvc.packages import LITE0_WEIGHTS, imagenet_names
from segsvc.settings import settings


def saved(content: object, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


@cache
def imagenet_network() -> torch.nn.Module:
    network: torch.nn.Module = timm.create_model(LITE0_ARCH, pretrained=False)
    network.load_state_dict(imagenet_lite0(settings().assets_dir / LITE0_WEIGHTS.name))
    return network.eval()


class Canary:
    """Unpickled by a careless reader, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_gives_its_tensors_in_their_order(legacy: bool) -> None:
    state = {"b": torch.arange(3.0), "a": torch.tensor(7)}
    came = read_checkpoint(saved(state, legacy=legacy))
    assert list(came) == ["b", "a"]
    assert all(torch.equal(came[name], state[name]) for name in state)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_with_code_in_it_is_refused_and_the_code_is_not_run(tmp_path: Path, legacy: bool) -> None:
    hostile = saved({"weight": torch.zeros(1), "bias": Canary(tmp_path / "canary")}, legacy=legacy)
    with pytest.raises(ConfigError, match=r"refused \(UnpicklingError: it names posix\.mkdir, which is no tensor\)"):
        read_checkpoint(hostile)
    assert not (tmp_path / "canary").exists()


def test_nobody_is_told_how_to_run_what_is_in_a_checkpoint(tmp_path: Path) -> None:
    for hostile in (saved({"weight": Canary(tmp_path / "canary")}), pickle.dumps(Canary(tmp_path / "canary"), protocol=5),
                    saved(torch.nn.Linear(1, 1))):
        with pytest.raises(ConfigError, match=r"Nothing in it was run") as caught:
            read_checkpoint(hostile)
        assert "weights_only" not in str(caught.value)
        assert "trust" not in str(caught.value)


def test_a_plain_pickle_with_code_in_it_is_refused_and_the_code_is_not_run(tmp_path: Path) -> None:
    hostile = pickle.dumps(Canary(tmp_path / "canary"))
    with pytest.raises(ConfigError, match="refused"):
        read_checkpoint(hostile)
    assert not (tmp_path / "canary").exists()
    pickle.loads(hostile)  # noqa: S301 (the canary does sing where it is let)
    assert (tmp_path / "canary").is_dir()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {}, {"weight": 3}, {4: torch.zeros(1)}, torch.zeros(1)])
def test_a_checkpoint_that_is_no_mapping_of_names_to_tensors_is_refused(content: object) -> None:
    with pytest.raises(ConfigError, match="expected"):
        read_checkpoint(saved(content))


def test_damaged_checkpoints_are_config_errors() -> None:
    whole = saved({"weight": torch.arange(1000.0)})
    seed = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole[: int(seed.integers(0, len(whole)))])
        for place in seed.integers(0, max(len(damaged), 1), size=3 if damaged else 0):
            damaged[place] = int(seed.integers(256))
        with pytest.raises(ConfigError):
            read_checkpoint(bytes(damaged))


def test_a_zip_file_that_is_no_checkpoint_is_a_config_error() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(ConfigError, match="expected a PyTorch checkpoint"):
        read_checkpoint(buffer.getvalue())


def test_a_missing_checkpoint_is_a_config_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.pth"):
        read_checkpoint(tmp_path / "none.pth")


def test_imagenet_weights_of_another_size_are_refused_with_the_tensor_and_both_shapes() -> None:
    state = timm.create_model(LITE0_ARCH, pretrained=False).state_dict()
    state["classifier.weight"] = state["classifier.weight"][:10]
    with pytest.raises(ConfigError, match=r"classifier\.weight expected \(1000, 1280\) floats, got \(10, 1280\) floats"):
        imagenet_lite0(saved(dict(state)))
    state.popitem()
    with pytest.raises(ConfigError, match=r"expected a checkpoint of 296 tensors, got 295"):
        imagenet_lite0(saved(dict(state)))


@pytest.mark.parametrize(("photo", "classes"), [
    ("chelsea.png", {"tabby", "tiger cat", "Egyptian cat"}),
    ("coffee.png", {"espresso"}),
    ("camera.png", {"tripod"}),
    ("china.jpg", {"palace"}),
    ("rocket.jpg", {"missile", "projectile"}),
])
def test_the_imagenet_weights_know_what_a_photograph_shows(photo: str, classes: set[str]) -> None:
    with Image.open(settings().assets_dir / photo) as image:
        scale = 256 / min(image.size)
        small = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)),
                                            Image.Resampling.BICUBIC)
    left, top = (small.width - 224) // 2, (small.height - 224) // 2
    pixels = np.asarray(small.crop((left, top, left + 224, top + 224)), np.float32) / 255
    with torch.inference_mode():
        scores = imagenet_network()(torch.from_numpy((pixels - 0.5) / 0.5).permute(2, 0, 1)[None]).softmax(1)[0]
    assert imagenet_names()[int(scores.argmax())] in classes


def test_saved_weights_have_the_same_bytes_whatever_their_order_and_layout(tmp_path: Path) -> None:
    value = torch.arange(48.0).reshape(1, 3, 4, 4)
    state = {"a": value, "b": value[0, 0], "n": torch.tensor(3)}
    other = {"n": torch.tensor(3), "b": value[0, 0].clone(), "a": value.to(memory_format=torch.channels_last)}
    digests = [save_model(each, tmp_path / f"{i}.safetensors", half=False) for i, each in enumerate((state, other))]
    assert digests[0] == digests[1] == hashlib.sha256((tmp_path / "0.safetensors").read_bytes()).hexdigest()
    assert torch.equal(safetensors.torch.load_file(tmp_path / "1.safetensors")["a"], value)


def test_half_rounds_floats_and_leaves_integers(tmp_path: Path) -> None:
    save_model({"w": torch.tensor([1 / 3]), "n": torch.tensor(70_000)}, tmp_path / "m.safetensors", half=True)
    came = safetensors.torch.load_file(tmp_path / "m.safetensors")
    assert came["w"].dtype == torch.float16
    assert abs(came["w"].item() - 1 / 3) < 2e-4
    assert came["n"].item() == 70_000


@pytest.mark.parametrize(("value", "half"), [(70_000.0, True), (float("nan"), False), (float("inf"), False)])
def test_weights_that_are_not_finite_as_stored_are_refused(tmp_path: Path, value: float, half: bool) -> None:
    with pytest.raises(ConfigError, match="tensor w: expected finite weights"):
        save_model({"w": torch.tensor([value])}, tmp_path / "m.safetensors", half=half)
    assert not list(tmp_path.iterdir())


def test_a_file_is_written_whole_or_left_as_it_was(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "file", b"first")
    write_whole(tmp_path / "new" / "file", b"second")
    assert (tmp_path / "new" / "file").read_bytes() == b"second"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(ConfigError, match="expected a place that can be written"):
        write_whole(tmp_path / "folder", b"no")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "new"]


@pytest.mark.parametrize(("content", "said"), [({}, "got an empty one"), ([1], "got list"), (torch.zeros(2), "got Tensor")])
def test_what_is_no_mapping_of_tensors_is_said_to_be_what_it_is(tmp_path: Path, content: object, said: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=rf"a\.pth: expected a mapping of names to tensors, {said}"):
        read_state(tmp_path / "a.pth")


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"a\.pth: expected a PyTorch checkpoint, got an empty file"):
        read_state(tmp_path / "a.pth")
