"""What Mask R-CNN is built of beside torchvision's own parts: a pyramid over timm's features, and the scale of its input."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import timm
import torch
from torch import nn
from torch.nn import functional
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from segsvc.card import Detection, FeatureNorm, ModelCard
from segsvc.errors import ConfigError
from segsvc.models.timm_names import known_networks

SIZE_DIVISIBLE = 32  # what the network sees is padded to a multiple of it, with zeros on the right and below
_GROUPS = 16

Target = dict[str, torch.Tensor]


class AsScaled(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Images that are normalised already, brought to the card's scale; targets with them."""

    def __init__(self, detection: Detection) -> None:
        super().__init__(detection.min_side_px, detection.max_side_px, [0.0], [1.0], size_divisible=SIZE_DIVISIBLE)
        self._detection = detection

    def normalize(self, image: torch.Tensor) -> torch.Tensor:
        """The image as it is: the card's normalisation was done before."""
        return image

    def resize(self, image: torch.Tensor, target: Target | None = None) -> tuple[torch.Tensor, Target | None]:
        """(C, h, w) and its target, scaled: images bilinearly, masks to the nearest px."""
        height, width = image.shape[-2:]
        scaled = enlarged(image[None], self._detection)[0]
        if target is None:
            return scaled, None
        to_height, to_width = scaled.shape[-2:]
        factors = torch.tensor([to_width / width, to_height / height] * 2, device=image.device)
        changed = {**target, "boxes": target["boxes"] * factors}
        if "masks" in target and (to_height, to_width) != tuple(target["masks"].shape[-2:]):
            changed["masks"] = functional.interpolate(target["masks"][:, None], size=(to_height, to_width))[:, 0]
        return scaled, changed


def enlarged(pixels: torch.Tensor, detection: Detection) -> torch.Tensor:
    """(N, C, h, w) at the scale that the network takes: as torchvision's GeneralizedRCNNTransform brings it there."""
    height, width = pixels.shape[-2:]
    if detection.scale is not None:
        scale = detection.scale
    else:
        scale = min(detection.min_side_px / min(height, width), detection.max_side_px / max(height, width))
    if scale == 1.0:
        return pixels
    size = max(1, int(height * scale)), max(1, int(width * scale))
    return functional.interpolate(pixels, size=size, mode="bilinear", align_corners=False)


def norm_layer(norm: FeatureNorm) -> Callable[[int], nn.Module] | None:
    """What makes the norm for so many channels; None for none."""
    return {FeatureNorm.NONE: None, FeatureNorm.BATCH: nn.BatchNorm2d, FeatureNorm.GROUP: _group_norm}[norm]


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(_GROUPS, channels), channels)


class TimmPyramid(nn.Module):
    """A feature pyramid (Lin et al., 2017) on the features of a timm encoder, as torchvision's on ResNet's.

    (N, C, h, w) -> its levels (N, channels, h / stride, w / stride), the finest first. Raises ConfigError for an encoder
    that timm does not have, or that has no features of the card's strides.
    """

    def __init__(self, card: ModelCard, detection: Detection) -> None:
        super().__init__()
        self.body, channels = _features(card, detection.strides)
        self.out_channels = detection.channels
        self.fpn = FeaturePyramidNetwork(
            channels, detection.channels, norm_layer=norm_layer(detection.norm),
            extra_blocks=LastLevelMaxPool() if detection.pooled_level else None)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        features = OrderedDict((str(level), feature) for level, feature in enumerate(self.body(pixels)))
        levels: dict[str, torch.Tensor] = self.fpn(features)
        return levels


def _features(card: ModelCard, strides: tuple[int, ...]) -> tuple[nn.Module, list[int]]:
    """The encoder, and how many channels its features of each stride have."""
    encoder = card.encoder or ""
    if not timm.is_model(encoder):  # nor any "hf-hub:...", which would be fetched from the net
        raise ConfigError(f"model {card.name}: expected an encoder of timm, got {card.encoder!r}. Known: "
                          f"{known_networks(encoder)}.")
    try:
        with torch.device("meta"):
            offered = timm.create_model(encoder, pretrained=False, features_only=True).feature_info.reduction()
        missing = [stride for stride in strides if stride not in offered]
        if missing:
            raise ConfigError(f"model {card.name}: {encoder} has features of the strides {offered}, detection.strides names "
                              f"{missing[0]}")
        features = timm.create_model(
            encoder, pretrained=False, features_only=True, in_chans=card.channels,
            out_indices=tuple(offered.index(stride) for stride in strides))
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise ConfigError(f"model {card.name}: timm gives no features of {encoder!r}: {error}") from error
    return features, features.feature_info.channels()
