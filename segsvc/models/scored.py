"""A family's network with weights, activation and rounding: model input -> scores as multiples of 1/65535."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from segsvc import plugins
from segsvc.card import Activation, ModelCard, Task
from segsvc.errors import ConfigError
from segsvc.models import Family
from segsvc.models.library import Model, load_weights
from segsvc.types import SCORE_ONE


class Scored(torch.nn.Module):
    """(N, C, h, w) float32 -> (N, classes, h, w) or (N, classes) float32, integers from 0 to 65535."""

    def __init__(self, network: torch.nn.Module, card: ModelCard) -> None:
        super().__init__()
        self.network = network
        self._softmax = card.activation is Activation.SOFTMAX
        self._background = card.background

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        raw = self.network(pixels).float()
        scores = torch.softmax(raw, dim=1) if self._softmax else torch.sigmoid(raw)
        if self._background:
            scores = scores[:, 1:]
        return torch.round(scores * SCORE_ONE)


def reference_scores(network: Scored, pixels: torch.Tensor, card: ModelCard) -> npt.NDArray[np.float32]:
    """What PyTorch answers on the CPU: (N, C, h, w) float32 -> (N, classes[, h, w]) float32, integers to 65535.

    Raises ConfigError where the network does not take an input of that size or answers in another shape.
    """
    height, width = pixels.shape[2:]
    asked = (f"model {card.name}: expected a network that takes {width} x {height} px (tile_px {card.tile_px}, stride_px "
             f"{card.stride_px}{f', crop_px {card.resize.crop_px}' if card.resize is not None else ''})")
    try:
        with torch.inference_mode():
            scores: npt.NDArray[np.float32] = network(pixels).numpy()
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise ConfigError(f"{asked}, got: {(str(error).strip() or repr(error)).splitlines()[0][:200]}") from error
    size = (height, width) if card.task is Task.SEMANTIC else ()
    if scores.shape != (len(pixels), len(card.classes), *size):
        raise ConfigError(f"{asked} and answers {(len(pixels), len(card.classes), *size)}, got {scores.shape}")
    return scores


def build_scored(model: Model) -> Scored:
    """The model as its card describes it, weights checked and loaded, in evaluation mode. Raises as `build_network`."""
    return Scored(build_network(model), model.card).eval()


def build_network(model: Model) -> torch.nn.Module:
    """The family's network with the model's weights, which were checked.

    Raises ConfigError where weights and architecture do not fit: which tensors, expected and got.
    """
    family: Family = plugins.load(plugins.PluginKind.MODEL, model.card.family)
    network = family.build(model.card)
    state = load_weights(model)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in state.items()}
    if expected != got:
        wrong = [f"{name}: expected {expected.get(name, 'none')}, got {got.get(name, 'none')}"
                 for name in sorted({*expected, *got}) if expected.get(name) != got.get(name)]
        raise ConfigError(f"model {model.name}: {len(wrong)} tensors do not fit {model.card.arch}: "
                          + "; ".join(wrong[:3]))
    network.load_state_dict(state)
    return network
