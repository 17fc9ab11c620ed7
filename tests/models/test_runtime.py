"""What computes a model: the same scores by OpenVINO and PyTorch, for any number of threads, and kept once converted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from segsvc import plugins
from segsvc.card import Activation, ClassNode, ModelCard, Resize, Task
from segsvc.errors import ConfigError
from segsvc.models import openvino_runtime
from segsvc.models.library import Model, find_model, read_model
from segsvc.models.openvino_runtime import is_kept, kept_folder
from segsvc.models.runtime import Predictor, choose_runtime, is_ready
from segsvc.settings import RuntimeChoice, settings
from segsvc.types import SCORE_ONE, Runtime, ScoreArray
from tests.conftest import write_model
from tests.networks import textured, write_network

SMP = {"family": "smp", "task": Task.SEMANTIC, "weights_sha256": "0" * 64, "licence": "Apache-2.0", "tile_px": 64,
       "overlap_px": 16}
TWO = (ClassNode(name="a"), ClassNode(name="b"))
ONE = TWO[:1]
CARDS: dict[str, dict[str, Any]] = {
    "unet-resnet18": {**SMP, "arch": "unet", "encoder": "resnet18", "classes": ONE},
    "unet-lite0": {**SMP, "arch": "unet", "encoder": "tu-tf_efficientnet_lite0", "classes": TWO, "channels": 1,
                   "normalisation": {"mean": [0.5], "std": [0.25]}, "activation": Activation.SOFTMAX, "background": True},
    "fpn-mobilenet": {**SMP, "arch": "fpn", "encoder": "mobilenet_v2", "classes": TWO},
    "deeplab-resnet18": {**SMP, "arch": "deeplabv3plus", "encoder": "resnet18", "classes": ONE},
    "classifier": {"family": "classifier", "task": Task.CLASSIFICATION, "arch": "test_efficientnet", "classes": TWO,
                   "weights_sha256": "0" * 64, "licence": "Apache-2.0", "activation": Activation.SOFTMAX,
                   "resize": Resize(shorter_side_px=72, crop_px=64)},
}


@pytest.fixture(autouse=True)
def own_cache(in_process: Callable[[], None]) -> None:
    """The settings of the tests."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """Models by name, each made once."""
    folder = tmp_path_factory.mktemp("networks")
    models: dict[str, Model] = {}

    def model(name: str) -> Model:
        if name not in models:
            models[name] = write_network(folder, ModelCard.model_validate({**CARDS[name], "name": name}))
        return models[name]

    return model


def pixels_of(card: ModelCard, *, height_px: int = 128, width_px: int = 128, seed: int = 5) -> npt.NDArray[np.float32]:
    if card.resize is not None:
        height_px = width_px = card.resize.crop_px
    image = textured(seed, width_px=width_px, height_px=height_px)[:, :, : card.channels]
    return np.ascontiguousarray(np.moveaxis(image, 2, 0)[None] / np.float32(60) - 2, np.float32)


def scores_of(model: Model, runtime: Runtime, inputs: list[npt.NDArray[np.float32]], *,
              threads: int = 1) -> list[ScoreArray]:
    predictor = Predictor(model, runtime, threads=threads)
    try:
        return [pending.result().scores for pending in [predictor.submit(each) for each in inputs]]
    finally:
        predictor.close()


# -- equality --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CARDS))
def test_openvino_computes_what_pytorch_computes(made: Callable[[str], Model], name: str) -> None:
    model = made(name)
    assert choose_runtime(model, RuntimeChoice.OPENVINO).runtime is Runtime.OPENVINO
    sizes = [(64, 64), (32, 64), (32, 32), (96, 160)] if model.card.resize is None else [(64, 64)]
    inputs = [pixels_of(model.card, height_px=height, width_px=width, seed=seed)
              for seed, (height, width) in enumerate(sizes)]
    by_torch = scores_of(model, Runtime.TORCH_CPU, inputs)
    by_openvino = scores_of(model, Runtime.OPENVINO, inputs)
    agree = total = 0
    for one, other, given in zip(by_torch, by_openvino, inputs, strict=True):
        assert one.dtype == other.dtype == np.uint16
        shape = (len(model.card.classes), *(given.shape[2:] if model.card.task is Task.SEMANTIC else ()))
        assert one.shape == other.shape == shape
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 64
        agree += int(((one > SCORE_ONE // 2) == (other > SCORE_ONE // 2)).sum())
        total += one.size
    assert agree / total >= 0.9999
    assert np.ptp(by_torch[0].astype(int)) > 500


@pytest.mark.parametrize("runtime", [Runtime.OPENVINO, Runtime.TORCH_CPU])
@pytest.mark.parametrize("name", ["unet-lite0", "classifier"])
def test_scores_do_not_depend_on_the_number_of_threads(made: Callable[[str], Model], name: str, runtime: Runtime) -> None:
    model = made(name)
    inputs = [pixels_of(model.card, height_px=64, width_px=96, seed=seed) for seed in range(8)]
    one, two, four = (scores_of(model, runtime, inputs, threads=threads) for threads in (1, 2, 4))
    assert len({scores.tobytes() for scores in one}) == len(inputs)
    for others in (two, four):
        assert [scores.tobytes() for scores in others] == [scores.tobytes() for scores in one]


def test_a_model_of_a_known_function_gives_its_scores_to_the_step(bright: ModelCard) -> None:
    values = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(1, 1, 32, 32)
    wanted = np.rint(SCORE_ONE / (1 + np.exp(10 - 20 * values[0].astype(np.float64))))
    for runtime in (Runtime.OPENVINO, Runtime.TORCH_CPU):
        (scores,) = scores_of(find_model("bright"), runtime, [values])
        assert np.abs(scores.astype(float) - wanted).max() <= 1


def test_a_predictor_needs_a_thread(bright: ModelCard) -> None:
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        Predictor(find_model("bright"), Runtime.TORCH_CPU, threads=0)


# -- kept ------------------------------------------------------------------------------------------------------------


PROGRAM = """
import json, sys
import numpy as np
import segsvc
model = segsvc.load(sys.argv[1])
found = model.segment(np.pad(np.full((9, 9), 255, np.uint8), 20))
heavy = {"torch", "timm", "segmentation_models_pytorch"}
print(json.dumps({"found": len(found), "heavy": sorted(heavy & set(sys.modules))}))
"""


def test_a_kept_model_starts_in_a_fresh_process_without_importing_torch(bright: ModelCard,
                                                                        environment: dict[str, str]) -> None:
    assert choose_runtime(find_model("bright"), RuntimeChoice.OPENVINO).fallback_reason is None
    done = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM, "bright"], env=environment, capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"found": 1, "heavy": []}


CONVERT = """
import sys
import segsvc
segsvc.load(sys.argv[1])
print(sorted(name for name in sys.modules if "telemetry" in name and not name.startswith("openvino.tools")))
"""


def test_openvino_tells_nobody_that_it_is_used_and_on_what(tmp_path: Path, environment: dict[str, str]) -> None:
    model = own_model(tmp_path)
    outside = {**environment, "HOME": str(tmp_path / "home"), "CI": "", "SEGSVC_CACHE_DIR": str(tmp_path / "cache")}
    (tmp_path / "home").mkdir()
    done = subprocess.run([sys.executable, "-c", CONVERT, str(model.folder)], env=outside, capture_output=True, text=True,
                          timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
    assert is_there(tmp_path / "cache", "kept.json")
    assert not is_there(tmp_path / "home", "*intel*")  # where the reporting keeps its account


def is_there(folder: Path, pattern: str) -> bool:
    return any(folder.rglob(pattern))


def own_model(folder: Path, *, name: str = "own") -> Model:
    """A model that no other test has converted."""
    card = write_model(folder, name=name)
    changed = card.model_copy(update={"description": str(folder)})
    (folder / name / "card.json").write_text(changed.to_json())
    return read_model(folder / name)


def test_a_model_is_converted_once_and_kept_by_its_digest(tmp_path: Path) -> None:
    model = own_model(tmp_path)
    assert not is_ready(model, RuntimeChoice.AUTO)
    assert is_ready(model, RuntimeChoice.TORCH_CPU)
    assert openvino_runtime.keep(model) is None
    assert is_ready(model, RuntimeChoice.AUTO)
    before = {path.name: path.stat().st_mtime_ns for path in kept_folder(model.card).iterdir()}
    assert openvino_runtime.keep(model) is None
    assert {path.name: path.stat().st_mtime_ns for path in kept_folder(model.card).iterdir()} == before
    assert not list(kept_folder(model.card).parent.glob(".converting-*"))
    other = model.card.model_copy(update={"version": "2"})
    assert kept_folder(other) != kept_folder(model.card)


@pytest.mark.parametrize("name", ["model.bin", "model.xml"])
def test_a_kept_file_that_was_changed_or_lost_is_noticed(tmp_path: Path, name: str) -> None:
    model = own_model(tmp_path)
    openvino_runtime.keep(model)
    path = kept_folder(model.card) / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match="its kept conversion was changed; delete"):
        Predictor(model, Runtime.OPENVINO, threads=1)
    path.unlink()
    with pytest.raises(ConfigError, match="its kept conversion was changed; delete"):
        Predictor(model, Runtime.OPENVINO, threads=1)


def test_a_conversion_that_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    model = own_model(tmp_path)
    kept_folder(model.card).mkdir(parents=True)
    for content in ("{", "[]", '{"refused": null}', ""):
        (kept_folder(model.card) / "kept.json").write_text(content)
        assert not is_kept(model.card)
    assert choose_runtime(model, RuntimeChoice.AUTO).runtime is Runtime.OPENVINO
    Predictor(model, Runtime.OPENVINO, threads=1).close()


def test_a_cache_that_cannot_be_written_is_a_config_error_unless_the_model_is_kept_there(
        in_process: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = own_model(tmp_path)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SEGSVC_CACHE_DIR", str(tmp_path / "file"))
    in_process()
    with pytest.raises(ConfigError, match="Set SEGSVC_CACHE_DIR to another"):
        choose_runtime(model, RuntimeChoice.AUTO)
    monkeypatch.setenv("SEGSVC_CACHE_DIR", str(tmp_path / "cache"))
    in_process()
    openvino_runtime.keep(model)
    kept = kept_folder(model.card)
    (kept.parent / (kept.name + ".lock")).unlink()
    (kept.parent / (kept.name + ".lock")).mkdir()  # a lock that cannot be opened for writing
    assert choose_runtime(model, RuntimeChoice.AUTO).runtime is Runtime.OPENVINO


# -- what does not fit -----------------------------------------------------------------------------------------------


class Odd(torch.nn.Module):
    """A network that answers by `how`: `custom` with a step of its own, `fixed` for 64 px alone, `wrong` in half size."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.how == "custom":
            waves: torch.Tensor = torch.special.bessel_j0(pixels)  # no operation of OpenVINO
            return waves * self.scale
        if self.how == "fixed":
            return (pixels.reshape(1, 64, 64).flatten() * self.scale).reshape(1, 1, 64, 64)
        return pixels[:, :, ::2, ::2] * self.scale


class OddFamily:
    name = "odd"

    def build(self, card: ModelCard) -> torch.nn.Module:
        return Odd(card.arch)


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Model]:
    """Models of the family `odd`, which is added by a file."""
    import segsvc.models
    from segsvc.models.checkpoint import save_model

    (tmp_path / "odd.py").write_text("from tests.models.test_runtime import OddFamily\n\nPLUGIN = OddFamily()\n")
    monkeypatch.setattr(segsvc.models, "__path__", [*segsvc.models.__path__, str(tmp_path)])
    plugins.forget()

    def model(how: str, **fields: Any) -> Model:
        digest = save_model(Odd(how).state_dict(), tmp_path / how / "model.safetensors", half=False)
        card = ModelCard.model_validate({
            **SMP, "name": how, "family": "odd", "arch": how, "classes": ONE, "channels": 1, "weights_sha256": digest,
            "normalisation": {"mean": [0.0], "std": [1.0]}, "tile_px": 64, "overlap_px": 16,
            "description": str(tmp_path), **fields})
        (tmp_path / how / "card.json").write_text(card.to_json())
        return read_model(tmp_path / how)

    return model


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_cannot_be_converted_falls_back_to_pytorch_and_the_reason_is_kept(
        odd: Callable[..., Model]) -> None:
    model = odd("custom")
    first = choose_runtime(model, RuntimeChoice.AUTO)
    assert first.runtime is Runtime.TORCH_CPU
    assert first.fallback_reason is not None
    assert is_ready(model, RuntimeChoice.AUTO)
    assert choose_runtime(model, RuntimeChoice.AUTO) == first
    assert json.loads((kept_folder(model.card) / "kept.json").read_text())["refused"] == first.fallback_reason
    with pytest.raises(ConfigError, match="Use --runtime torch-cpu"):
        choose_runtime(model, RuntimeChoice.OPENVINO)
    with pytest.raises(ConfigError, match="Use --runtime torch-cpu"):
        Predictor(model, Runtime.OPENVINO, threads=1)
    (scores,) = scores_of(model, Runtime.TORCH_CPU, [np.zeros((1, 1, 64, 64), np.float32)])
    assert (scores == round(SCORE_ONE / (1 + np.exp(-1.0)))).all()


@pytest.mark.parametrize("runtime", [Runtime.OPENVINO, Runtime.TORCH_CPU])
def test_a_network_of_one_size_is_used_where_its_card_says_so(odd: Callable[..., Model], runtime: Runtime) -> None:
    model = odd("fixed", stride_px=64)
    if runtime is Runtime.OPENVINO:
        assert choose_runtime(model, RuntimeChoice.OPENVINO).runtime is runtime
    (scores,) = scores_of(model, runtime, [np.zeros((1, 1, 64, 64), np.float32)])
    assert scores.shape == (1, 64, 64)


@pytest.mark.parametrize("choice", [RuntimeChoice.AUTO, RuntimeChoice.TORCH_CPU])
def test_a_network_that_does_not_take_the_cards_tiles_is_a_config_error(odd: Callable[..., Model],
                                                                        choice: RuntimeChoice) -> None:
    model = odd("fixed", stride_px=32)
    with pytest.raises(ConfigError, match=r"expected a network that takes 32 x 32 px \(tile_px 64, stride_px 32\), got: "):
        Predictor(model, choose_runtime(model, choice).runtime, threads=1)


def test_a_network_that_answers_in_another_size_is_a_config_error(odd: Callable[..., Model]) -> None:
    with pytest.raises(ConfigError, match=r"answers \(1, 1, 32, 32\), got \(1, 1, 16, 16\)"):
        Predictor(odd("wrong"), Runtime.TORCH_CPU, threads=1)


def test_tensors_that_do_not_fit_are_named_with_what_was_expected_and_what_came(tmp_path: Path) -> None:
    import hashlib

    import safetensors.numpy

    model = own_model(tmp_path)
    raw = safetensors.numpy.save({"weight": np.zeros((2, 1, 1, 1), np.float32), "extra": np.zeros(3, np.float32)})
    model.weights.write_bytes(raw)
    card = model.card.model_copy(update={"weights_sha256": hashlib.sha256(raw).hexdigest()})
    (model.folder / "card.json").write_text(card.to_json())
    with pytest.raises(ConfigError) as caught:
        Predictor(read_model(model.folder), Runtime.TORCH_CPU, threads=1)
    said = str(caught.value)
    assert "3 tensors do not fit" in said
    assert "weight: expected (1, 1, 1, 1), got (2, 1, 1, 1)" in said
    assert "bias: expected (1,), got none" in said
    assert "extra: expected none, got (3,)" in said


@pytest.mark.parametrize("choice", [RuntimeChoice.AUTO, RuntimeChoice.TORCH_CPU])
def test_weights_that_are_not_their_digest_are_not_computed_with(tmp_path: Path, choice: RuntimeChoice) -> None:
    model = own_model(tmp_path)
    raw = bytearray(model.weights.read_bytes())
    raw[-1] ^= 1
    model.weights.write_bytes(raw)
    with pytest.raises(ConfigError, match="expected weights with sha256"):
        Predictor(model, choose_runtime(model, choice).runtime, threads=1)


@pytest.mark.parametrize(("fields", "said"), [
    ({"arch": "umet"}, "no arch 'umet' with encoder 'resnet18'"), ({"encoder": "resnet19"}, "encoder 'resnet19'"),
    ({"encoder": "tu-hf-hub:someone/model"}, "expected an encoder by its name"),
    ({"family": "classifier", "arch": "resnet19"}, "timm has no arch 'resnet19'. Known: resnet"),
    ({"family": "classifier", "arch": "hf-hub:someone/model"}, "timm has no arch 'hf-hub:someone/model'"),
    ({"family": "classifier", "arch": "lenet"}, "timm has no arch 'lenet'. Known: "),
    ({"family": "classifier", "arch": "my own"}, "timm has no arch 'my own'. Known: resnet50, efficientnet_b0, "),
    ({"family": "smb"}, "no model is called 'smb'. Did you mean 'smp'?")])
def test_an_architecture_that_there_is_not_is_a_config_error_and_nothing_is_fetched(
        tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    card = ModelCard.model_validate({**CARDS["unet-resnet18"], "name": "x", **fields})
    (tmp_path / "card.json").write_text(card.to_json())
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        Predictor(read_model(tmp_path), Runtime.TORCH_CPU, threads=1)
    assert said in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_a_config_error_when_it_was_named(bright: ModelCard) -> None:
    with pytest.raises(ConfigError, match="expected an NVIDIA GPU"):
        choose_runtime(find_model("bright"), RuntimeChoice.TORCH_CUDA)
    assert choose_runtime(find_model("bright"), RuntimeChoice.TORCH_CPU).runtime is Runtime.TORCH_CPU
    assert settings().runtime is RuntimeChoice.AUTO
