"""One file per model family, and the runtimes that compute them.

A family's PLUGIN has `name` and `build(card) -> torch.nn.Module`, the bare network without weights:
(N, channels, h, w) float32 -> raw outputs (N, outputs, h, w) for dense scores or (N, outputs) for a classifier. For
instances it is torchvision's MaskRCNN, whose parts `detector` calls one by one.
A family whose network is a graph of OpenVINO's has `graph(model)` too, and refuses to `build`.
Weights come from the model's folder, activations from its card.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from segsvc.card import ModelCard

if TYPE_CHECKING:
    import torch

NOT_PLUGINS = frozenset({"runtime", "library", "checkpoint", "scored", "torch_runtime", "openvino_runtime",
                         "pyramid", "detector", "openvino_detector", "timm_names"})


class Family(Protocol):
    """What a model family's PLUGIN offers."""

    @property
    def name(self) -> str: ...
    def build(self, card: ModelCard) -> torch.nn.Module: ...
