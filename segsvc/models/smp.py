"""Any architecture and encoder of segmentation-models-pytorch, as the card names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segsvc.card import ModelCard
from segsvc.errors import ConfigError

if TYPE_CHECKING:
    import torch


class SmpFamily:
    """U-Net, FPN, DeepLabV3+, SegFormer ...: `smp.create_model(arch, encoder)` without downloaded weights."""

    name = "smp"

    def build(self, card: ModelCard) -> torch.nn.Module:
        """(N, channels, h, w) float32 -> (N, classes [+ 1 background], h, w) raw outputs.

        h and w are multiples of stride_px. Raises ConfigError for an arch or encoder that the library does not have.
        """
        import segmentation_models_pytorch as smp

        if ":" in (card.encoder or ""):  # "tu-hf-hub:..." would be fetched from the net
            raise ConfigError(f"model {card.name}: expected an encoder by its name, got {card.encoder!r}")
        try:
            network: torch.nn.Module = smp.create_model(
                card.arch, encoder_name=card.encoder or "resnet34", encoder_weights=None, in_channels=card.channels,
                classes=len(card.classes) + card.background)
        except (KeyError, ValueError, RuntimeError, AttributeError) as error:
            raise ConfigError(f"model {card.name}: segmentation-models-pytorch has no arch {card.arch!r} with encoder "
                              f"{card.encoder!r}: {error}") from error
        return network


PLUGIN = SmpFamily()
