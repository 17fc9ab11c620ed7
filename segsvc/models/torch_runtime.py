"""PyTorch: the reference and fallback on a CPU, and the runtime on CUDA (channels_last, bfloat16 for scores)."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import torch

from segsvc.imaging import instances
from segsvc.imaging.instances import Detections
from segsvc.models.detector import Detector, build_detector_network, check_detects
from segsvc.models.library import Model
from segsvc.models.scored import build_scored, reference_scores
from segsvc.types import Runtime, ScoreArray


class TorchNetwork:
    """Computes scores by PyTorch; may be called by several threads at once.

    On CUDA the rounding to 65536 steps is done on the device, so that scores come back as 16-bit integers and no
    float map is copied.
    """

    flexible = True

    def __init__(self, model: Model, runtime: Runtime) -> None:
        self.runtime = runtime
        self._device = torch.device("cuda" if runtime is Runtime.TORCH_CUDA else "cpu")
        self._bfloat16 = runtime is Runtime.TORCH_CUDA
        self._lock = threading.Lock()
        torch.set_num_threads(1)  # one thread a call, as many calls as threads: the same scores for any number
        network = build_scored(model)
        card = model.card
        least = card.resize.crop_px if card.resize is not None else card.stride_px
        reference_scores(network, torch.zeros(1, card.channels, least, least), card)
        self._network = network.to(self._device).to(memory_format=torch.channels_last)

    def infer(self, pixels: npt.NDArray[np.float32]) -> ScoreArray:
        """(N, C, h, w) float32 -> (N, classes[, h, w]) uint16."""
        with torch.inference_mode():
            tensor = torch.from_numpy(pixels)
            if self._device.type == "cpu":
                on_cpu: torch.Tensor = self._network(tensor.contiguous(memory_format=torch.channels_last))
                return on_cpu.numpy().astype(np.uint16)
            with self._lock, torch.autocast("cuda", dtype=torch.bfloat16, enabled=self._bfloat16):
                on_device = tensor.pin_memory().to(self._device, non_blocking=True)
                scores = self._network(on_device.contiguous(memory_format=torch.channels_last))
                shifted: torch.Tensor = (scores - 32768).to(torch.int16)  # torch's 16-bit integers are signed
            return shifted.cpu().numpy().view(np.uint16) ^ np.uint16(32768)


class TorchDetector:
    """Finds objects by PyTorch in float32; may be called by several threads at once."""

    flexible = True

    def __init__(self, model: Model, runtime: Runtime) -> None:
        self.runtime = runtime
        self._device = torch.device("cuda" if runtime is Runtime.TORCH_CUDA else "cpu")
        self._lock = threading.Lock()
        torch.set_num_threads(1)  # as above
        instances.warm()
        network = build_detector_network(model)
        check_detects(Detector(network, model.card), model.card)
        self._detector = Detector(network.to(self._device).to(memory_format=torch.channels_last), model.card)

    def detect(self, pixels: npt.NDArray[np.float32]) -> Detections:
        """(1, C, h, w) float32 -> the objects in it."""
        with torch.inference_mode():
            tensor = torch.from_numpy(pixels)
            if self._device.type == "cpu":
                return self._detector.detect(tensor.contiguous(memory_format=torch.channels_last))
            with self._lock:
                return self._detector.detect(tensor.to(self._device).contiguous(memory_format=torch.channels_last))
