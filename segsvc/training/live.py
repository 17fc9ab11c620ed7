"""A network that is being trained, as something that images can be segmented with."""

from __future__ import annotations

import time
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt
import torch

from segsvc.card import ModelCard
from segsvc.models.runtime import Scored as Answer
from segsvc.models.scored import Scored


class LivePredictor:
    """Computes each input at once, in evaluation mode, as `segsvc.models.torch_runtime` does on a CPU."""


    threads = 1
    flexible = True

    def __init__(self, network: torch.nn.Module, card: ModelCard) -> None:
        self.card = card
        self._scored = Scored(network, card).eval()
        self._device = next(network.parameters()).device

    def submit(self, pixels: npt.NDArray[np.float32]) -> Future[Answer]:
        """pixels: (1, C, h, w) float32, model input. A future that is done."""
        begun = time.perf_counter()
        with torch.inference_mode():
            tensor = torch.from_numpy(pixels).to(self._device).contiguous(memory_format=torch.channels_last)
            scores = self._scored(tensor).cpu().numpy().astype(np.uint16)[0]
        done: Future[Answer] = Future()
        done.set_result(Answer(scores, time.perf_counter() - begun))
        return done
