"""Which runtime computes a model on this machine, and a pool of threads that does it."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from segsvc.card import ModelCard, Task
from segsvc.errors import ConfigError
from segsvc.models.library import Model
from segsvc.settings import RuntimeChoice
from segsvc.types import Runtime, ScoreArray

if TYPE_CHECKING:
    from segsvc.imaging.instances import Detections


class Network(Protocol):
    """A loaded model: input -> scores; `flexible` where it takes tiles of any multiple of the card's stride."""

    @property
    def runtime(self) -> Runtime: ...
    @property
    def flexible(self) -> bool: ...
    def infer(self, pixels: npt.NDArray[np.float32]) -> ScoreArray: ...


class DetectorNetwork(Protocol):
    """A loaded model that finds objects in one input; `flexible` as `Network`'s."""

    @property
    def runtime(self) -> Runtime: ...
    @property
    def flexible(self) -> bool: ...
    def detect(self, pixels: npt.NDArray[np.float32]) -> Detections: ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """The runtime for a model here, and why it is not the one that would be expected (None where it is)."""

    runtime: Runtime
    fallback_reason: str | None = None


def has_cuda() -> bool:
    """Whether PyTorch can use a GPU here; torch is imported only where there is a device."""
    if not Path("/dev/nvidiactl").exists() and "CUDA_VISIBLE_DEVICES" not in os.environ:
        return False
    import torch

    return torch.cuda.is_available()


def choose_runtime(model: Model, choice: RuntimeChoice) -> Chosen:
    """The runtime that will compute the model. Converts it for OpenVINO if that was not done before.

    Raises ConfigError where a runtime was named that this machine or model cannot use.
    """
    if choice is RuntimeChoice.TORCH_CUDA and not has_cuda():
        raise ConfigError("runtime torch-cuda: expected an NVIDIA GPU that PyTorch can use, found none. "
                          "Use --runtime auto.")
    if choice is RuntimeChoice.TORCH_CUDA or (choice is RuntimeChoice.AUTO and has_cuda()):
        return Chosen(Runtime.TORCH_CUDA)
    if choice is RuntimeChoice.TORCH_CPU:
        return Chosen(Runtime.TORCH_CPU)
    if importlib.util.find_spec("openvino") is None:
        if choice is RuntimeChoice.OPENVINO:
            raise ConfigError("runtime openvino: the package openvino is not installed. Use --runtime torch-cpu.")
        return Chosen(Runtime.TORCH_CPU, "the package openvino is not installed")
    from segsvc.models import openvino_runtime

    why = openvino_runtime.keep(model)
    if why is None:
        return Chosen(Runtime.OPENVINO)
    if choice is RuntimeChoice.OPENVINO:
        raise ConfigError(f"model {model.name}: {why}. Use --runtime torch-cpu.")
    return Chosen(Runtime.TORCH_CPU, why)


def is_ready(model: Model, choice: RuntimeChoice) -> bool:
    """Whether `choose_runtime` answers at once, without converting the model first."""
    if choice not in (RuntimeChoice.AUTO, RuntimeChoice.OPENVINO) or importlib.util.find_spec("openvino") is None:
        return True
    from segsvc.models import openvino_runtime

    return openvino_runtime.is_kept(model.card)


def _open_network(model: Model, runtime: Runtime, *, threads: int) -> Network:
    if runtime is Runtime.OPENVINO:
        from segsvc.models.openvino_runtime import OpenvinoNetwork

        return OpenvinoNetwork(model, threads=threads)
    from segsvc.models.torch_runtime import TorchNetwork

    return TorchNetwork(model, runtime)


def _open_detector(model: Model, runtime: Runtime, *, threads: int) -> DetectorNetwork:
    if runtime is Runtime.OPENVINO:
        from segsvc.models.openvino_runtime import open_detector

        return open_detector(model, threads=threads)
    from segsvc.models.torch_runtime import TorchDetector

    return TorchDetector(model, runtime)


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores (classes[, h, w]) uint16 of one input, and how long the model took."""

    scores: ScoreArray
    seconds: float


@dataclass(frozen=True, slots=True)
class Detected:
    """The objects in one input, and how long the model took."""

    detections: Detections
    seconds: float


class Predictor:
    """A loaded model behind a pool of threads, each of which computes one input at a time.

    Inputs are computed in the order in which they were submitted; answers do not depend on the number of threads.
    """

    def __init__(self, model: Model, runtime: Runtime, *, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self.model = model
        self.runtime = runtime
        self.threads = threads
        pool = self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model")
        self._submit: Callable[[npt.NDArray[np.float32]], Future[Scored] | Future[Detected]]
        if model.card.task is Task.INSTANCE:
            detector = _open_detector(model, runtime, threads=threads)
            self.flexible, self._submit = detector.flexible, lambda pixels: pool.submit(_detected, detector, pixels)
        else:
            network = _open_network(model, runtime, threads=threads)
            self.flexible, self._submit = network.flexible, lambda pixels: pool.submit(_scored, network, pixels)

    @property
    def card(self) -> ModelCard:
        return self.model.card

    def submit(self, pixels: npt.NDArray[np.float32]) -> Future[Scored] | Future[Detected]:
        """pixels: (1, C, h, w) float32, model input. Answers with that one input's scores, or its objects if the card's task
        is instance."""
        return self._submit(pixels)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _scored(network: Network, pixels: npt.NDArray[np.float32]) -> Scored:
    begun = time.perf_counter()
    scores = network.infer(pixels)[0]
    return Scored(scores, time.perf_counter() - begun)


def _detected(detector: DetectorNetwork, pixels: npt.NDArray[np.float32]) -> Detected:
    begun = time.perf_counter()
    detections = detector.detect(pixels)
    return Detected(detections, time.perf_counter() - begun)
