"""A network that is being trained, as something that images can be segmented with."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torchvision.models.detection import MaskRCNN

from segsvc.card import ModelCard
from segsvc.models.detector import Detector
from segsvc.models.runtime import Detected
from segsvc.models.runtime import Scored as Answer
from segsvc.models.scored import Scored


class LivePredictor:
    """Computes each input at once, in evaluation mode, as `segsvc.models.torch_runtime` does on a CPU."""

    threads = 1
    flexible = True

    def __init__(self, network: torch.nn.Module, card: ModelCard) -> None:
        self.card = card
        self._device = next(network.parameters()).device
        is_detector = isinstance(network, MaskRCNN)
        self._detector = Detector(network.eval(), card) if is_detector else None
        self._scored = None if is_detector else Scored(network, card).eval()

    def submit(self, pixels: npt.NDArray[np.float32]) -> Future[Answer] | Future[Detected]:
        """pixels: (1, C, h, w) float32, model input. A future that is done."""
        begun = time.perf_counter()
        tensor = torch.from_numpy(pixels).to(self._device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            if self._scored is not None:
                scores = self._scored(tensor).cpu().numpy().astype(np.uint16)[0]
                return _done(Answer(scores, time.perf_counter() - begun))
            if self._detector is not None:
                return _done(Detected(self._detector.detect(tensor), time.perf_counter() - begun))
        raise ValueError(f"model {self.card.name}: expected a network that scores or detects")


_Answer = TypeVar("_Answer")


def _done(answer: _Answer) -> Future[_Answer]:
    future: Future[_Answer] = Future()
    future.set_result(answer)
    return future
