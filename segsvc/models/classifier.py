"""Any classifier of timm, single label (softmax) or many (sigmoid), as the card says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segsvc.card import ModelCard
from segsvc.errors import ConfigError
from segsvc.models.timm_names import known_networks

if TYPE_CHECKING:
    import torch


class ClassifierFamily:
    """`timm.create_model(arch)` without downloaded weights."""

    name = "classifier"

    def build(self, card: ModelCard) -> torch.nn.Module:
        """(N, channels, h, w) float32 -> (N, classes) raw outputs."""
        import timm

        if card.options:
            raise ConfigError(f"model {card.name}: the family classifier has no options, got {', '.join(card.options)}")
        if not timm.is_model(card.arch):  # nor any "hf-hub:...", which would be fetched from the net
            raise ConfigError(f"model {card.name}: timm has no arch {card.arch!r}. Known: {known_networks(card.arch)}.")
        try:
            network: torch.nn.Module = timm.create_model(card.arch, pretrained=False, num_classes=len(card.classes),
                                                         in_chans=card.channels)
        except (RuntimeError, ValueError, TypeError) as error:
            raise ConfigError(f"model {card.name}: timm cannot build {card.arch!r}: {error}") from error
        return network


PLUGIN = ClassifierFamily()
