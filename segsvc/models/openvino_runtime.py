"""OpenVINO on a CPU: a model is converted once, kept by digest, and from then on starts without importing torch.

What was converted is compared with PyTorch on random input before it is kept. Each thread computes whole tiles by
itself, so that scores do not depend on the number of threads.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import queue
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from segsvc import plugins
from segsvc.card import ModelCard, Task
from segsvc.errors import ConfigError
from segsvc.models._unobserved import openvino
from segsvc.models._upsampled_convolution import merge_upsampling
from segsvc.models.library import Model
from segsvc.settings import settings
from segsvc.types import Runtime, ScoreArray

if TYPE_CHECKING:
    from segsvc.models.openvino_detector import OpenvinoDetector

_ABOUT = "kept.json"
_FORMAT = "4"  # of what is kept; another number converts anew
_TOLERANCE = 64  # of 65535: the most that a converted model may differ from PyTorch on random input


def kept_folder(card: ModelCard) -> Path:
    """Where the converted model is kept: by the digest of card and weights, and the versions that converted it."""
    key = hashlib.sha256(f"{_FORMAT}:{card.digest}:{version('openvino')}".encode()).hexdigest()[:32]
    return settings().cache_dir / "openvino" / key


@dataclass(frozen=True, slots=True)
class _Kept:
    """kept.json: why the model could not be converted, else whether its tiles may be of any size, and its files."""

    refused: str | None
    flexible: bool
    files: Mapping[str, str]  # name -> sha256

    @classmethod
    def read(cls, folder: Path) -> _Kept | None:
        """What is kept in that folder; None where there is nothing that can be read."""
        try:
            about = json.loads((folder / _ABOUT).read_text())
            return cls(about["refused"], about["flexible"], about["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def is_kept(card: ModelCard) -> bool:
    """Whether the model was converted before, or found to be one that cannot be."""
    return _Kept.read(kept_folder(card)) is not None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time converts a model; the others wait and find it kept."""
    with (folder.parent / (folder.name + ".lock")).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def keep(model: Model) -> str | None:
    """Converts the model if it is not yet kept. Returns why it cannot be converted, None where it can.

    Raises ConfigError where the weights are not the card's, the network cannot compute the card's tiles, or there is
    no room to keep it.
    """
    folder = kept_folder(model.card)
    if (kept := _Kept.read(folder)) is not None:  # also from a cache that can only be read
        return kept.refused
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            kept = _Kept.read(folder)
            return kept.refused if kept is not None else _convert_into(folder, model)
    except OSError as error:
        raise ConfigError(f"model {model.name}: expected a folder that can be written to keep the converted model, got "
                          f"{folder.parent}: {error.strerror or error}. Set SEGSVC_CACHE_DIR to another.") from error


def _convert_into(folder: Path, model: Model) -> str | None:
    model.check_weights()
    temporary = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    try:
        refused, flexible = (_convert_detector if model.card.task is Task.INSTANCE else _convert)(model, temporary)
        (temporary / _ABOUT).write_text(json.dumps({
            "refused": refused, "flexible": flexible, "model": model.name, "model_digest": model.digest,
            "openvino": version("openvino"), "files": _digests(temporary)}, indent=2))
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return refused


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("model.*"))}


def _convert_detector(model: Model, into: Path) -> tuple[str | None, bool]:
    """As `_convert`, but a file for each of the detector's heavy parts."""
    from segsvc.models.openvino_detector import convert_parts

    try:
        return convert_parts(model, into, _options(1)), True
    except ConfigError:  # the weights are not the card's, or the network cannot compute its tiles
        raise
    except Exception as error:  # whatever the converter meets, PyTorch can still compute the model
        return f"OpenVINO cannot convert it: {(str(error).strip() or repr(error)).splitlines()[0][:200]}", True


def _convert(model: Model, into: Path) -> tuple[str | None, bool]:
    """Writes model.xml and model.bin. Returns why it could not (or None), and whether tiles may be of any size."""
    import torch

    from segsvc.models.scored import build_scored, reference_scores

    family = plugins.load(plugins.PluginKind.MODEL, model.card.family)
    if hasattr(family, "graph"):  # it is OpenVINO's already
        return _keep_graph(family, model, into)
    ov = openvino()
    card = model.card
    network = build_scored(model)
    sizes = _trial_sizes(card)
    trials = [torch.randn(1, card.channels, *size, generator=torch.Generator().manual_seed(7)) for size in sizes]
    wanted = [reference_scores(network, trial, card) for trial in trials]
    refused = "it was not tried"
    ways = ((True, True), (True, False), (False, False)) if card.task is Task.SEMANTIC else ((False, False),)
    for flexible, merged in ways:
        shape = [1, card.channels, *((-1, -1) if flexible else sizes[0])]
        try:
            with warnings.catch_warnings(), torch.inference_mode():
                warnings.simplefilter("ignore")
                converted = ov.convert_model(network, example_input=trials[0], input=[ov.PartialShape(shape)])
            if merged:
                merge_upsampling(converted, [trial.shape for trial in trials])
            steps = ov.preprocess.PrePostProcessor(converted)
            steps.output().tensor().set_element_type(ov.Type.u16)
            converted = steps.build()
            compiled = ov.Core().compile_model(converted, "CPU", _options(1))
            tried = list(zip(trials, wanted, strict=True))[: None if flexible else 1]
            worst = max(float(np.abs(compiled(trial.numpy())[0].astype(np.float32) - want).max())
                        for trial, want in tried)
        except Exception as error:  # whatever the converter meets, PyTorch can still compute the model
            refused = f"OpenVINO cannot convert it: {(str(error).strip() or repr(error)).splitlines()[0][:200]}"
            continue
        if worst <= _TOLERANCE:
            ov.save_model(converted, into / "model.xml", compress_to_fp16=False)
            return None, flexible
        refused = f"its scores differ from PyTorch's by up to {worst / 65535:.2g} after conversion"
    return refused, False


def _keep_graph(family: Any, model: Model, into: Path) -> tuple[str | None, bool]:
    """As `_convert`, of a family that gives the graph itself; it was compared with its source when it was imported."""
    ov, card, refused = openvino(), model.card, "it was not tried"
    sizes = _trial_sizes(card)
    for flexible in ((True, False) if len(sizes) > 1 else (False,)):
        try:
            graph = family.graph(model)
            graph.reshape(ov.PartialShape([1, card.channels, *((-1, -1) if flexible else sizes[0])]))
            compiled = ov.Core().compile_model(graph, "CPU", _options(1))
            for size in sizes if flexible else sizes[:1]:
                shape = compiled(np.zeros((1, card.channels, *size), np.float32))[0].shape
                expected = (1, len(card.classes), *(size if card.task is Task.SEMANTIC else ()))
                if shape != expected:
                    raise ConfigError(f"expected {expected} for tiles of {size}, got {shape}")
        except ConfigError:
            raise
        except Exception as error:  # whatever the converter meets
            refused = f"OpenVINO cannot compute it: {(str(error).strip() or repr(error)).splitlines()[0][:200]}"
            continue
        ov.save_model(graph, into / "model.xml", compress_to_fp16=False)
        return None, flexible
    return refused, False


def _trial_sizes(card: ModelCard) -> list[tuple[int, int]]:
    """The full tile, the least one, and others between them."""
    if card.resize is not None:
        return [(card.resize.crop_px, card.resize.crop_px)]
    stride = card.stride_px
    if card.tile_px == stride:
        return [(stride, stride)]
    other = max(stride, card.tile_px // 2 // stride * stride)
    return [(card.tile_px, card.tile_px), (stride, stride), (other, card.tile_px), (other + stride, other)]


def _options(threads: int) -> dict[str, Any]:
    return {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads, "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False}


def _checked(model: Model) -> tuple[Path, _Kept]:
    """Where the converted model lies, whole and unchanged; converts it first if that was not done before.

    Raises ConfigError where it cannot be converted, or was changed.
    """
    if (why := keep(model)) is not None:
        raise ConfigError(f"model {model.name}: {why}. Use --runtime torch-cpu.")
    folder = kept_folder(model.card)
    kept = _Kept.read(folder)
    if kept is None or kept.files != _digests(folder):
        raise ConfigError(f"model {model.name}: its kept conversion was changed; delete {folder} to convert it anew")
    return folder, kept


def open_detector(model: Model, *, threads: int) -> OpenvinoDetector:
    """The detector for that many threads. Raises ConfigError as `OpenvinoNetwork` does."""
    from segsvc.models.openvino_detector import OpenvinoDetector

    folder, _ = _checked(model)
    return OpenvinoDetector(model, folder, threads=threads, options=_options(threads))


class OpenvinoNetwork:
    """Computes scores by OpenVINO; may be called by as many threads at once as it was given."""

    runtime = Runtime.OPENVINO

    def __init__(self, model: Model, *, threads: int) -> None:
        ov = openvino()
        folder, kept = _checked(model)
        self.flexible = kept.flexible
        compiled = ov.Core().compile_model(folder / "model.xml", "CPU", _options(threads))
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(threads):
            self._requests.put(compiled.create_infer_request())
        # The binding sets up its table of types at the first call, and deadlocks with the interpreter's lock if two
        # threads make it: so this thread makes it, before there are others.
        height, width = _trial_sizes(model.card)[0] if not self.flexible else (model.card.stride_px,) * 2
        self.infer(np.zeros((1, model.card.channels, height, width), np.float32))

    def infer(self, pixels: npt.NDArray[np.float32]) -> ScoreArray:
        """(1, C, h, w) float32 -> (1, classes[, h, w]) uint16."""
        request = self._requests.get()
        try:
            scores: ScoreArray = request.infer([pixels], share_inputs=True, share_outputs=False)[0]
            return scores
        finally:
            self._requests.put(request)
