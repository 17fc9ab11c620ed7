"""Any architecture and encoder of segmentation-models-pytorch, as the card names them."""

from __future__ import annotations

import difflib
import inspect
import textwrap
from typing import TYPE_CHECKING

from segsvc.card import ModelCard
from segsvc.errors import ConfigError
from segsvc.models.timm_names import near_networks

if TYPE_CHECKING:
    import torch


_OF_TIMM = "tu-"
_MOST_SAID = 120  # characters of the library's own words, which may list all encoders
_OF_THE_CARD = frozenset({"self", "encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params"})


class SmpFamily:
    """U-Net, FPN, DeepLabV3+, SegFormer ...: `smp.create_model(arch, encoder)` without downloaded weights.

    The card's `options` are given to the architecture by name.
    """

    name = "smp"

    def build(self, card: ModelCard) -> torch.nn.Module:
        """(N, channels, h, w) float32 -> (N, classes [+ 1 background], h, w) raw outputs.

        h and w are multiples of stride_px. Raises ConfigError for an arch, encoder or option that the library does not have.
        """
        import segmentation_models_pytorch as smp

        if ":" in (card.encoder or ""):  # "tu-hf-hub:..." would be fetched from the net
            raise ConfigError(f"model {card.name}: expected an encoder by its name, got {card.encoder!r}")
        known = smp.MODEL_ARCHITECTURES_MAPPING
        if card.arch.lower() not in known:
            raise ConfigError(f"model {card.name}: segmentation-models-pytorch has no arch {card.arch!r} with encoder "
                              f"{card.encoder!r}. Known archs: {', '.join(sorted(known))}.")
        _check_options(card, known[card.arch.lower()])
        try:
            network: torch.nn.Module = smp.create_model(
                card.arch, encoder_name=card.encoder or "resnet34", encoder_weights=None, in_channels=card.channels,
                classes=len(card.classes) + card.background, **card.options)
        except (LookupError, ValueError, RuntimeError, AttributeError, TypeError, AssertionError, ArithmeticError) as error:
            near = _near(card.encoder or "", smp.encoders.get_encoder_names())
            said = textwrap.shorten(str(error), _MOST_SAID, placeholder=" ...").removesuffix(".")
            raise ConfigError(f"model {card.name}: segmentation-models-pytorch has no arch {card.arch!r} with encoder "
                              f"{card.encoder!r}: {said}."
                              + (f" Did you mean {', '.join(near)}?" if near else "")) from error
        return network


def _near(encoder: str, known: list[str]) -> list[str]:
    """Encoders with like names; those of timm begin with `tu-`."""
    if encoder.startswith(_OF_TIMM):
        return [_OF_TIMM + name for name in near_networks(encoder.removeprefix(_OF_TIMM))]
    return difflib.get_close_matches(encoder, known, n=3)


def _check_options(card: ModelCard, architecture: type[torch.nn.Module]) -> None:
    """Raises ConfigError for an option that the architecture's constructor does not name."""
    known = {name for name, each in inspect.signature(architecture.__init__).parameters.items()
             if each.kind is not inspect.Parameter.VAR_KEYWORD} - _OF_THE_CARD
    wrong = sorted(set(card.options) - known)
    if wrong:
        raise ConfigError(f"model {card.name}: {card.arch} has no option {wrong[0]!r}. Known: {', '.join(sorted(known))}.")


PLUGIN = SmpFamily()
