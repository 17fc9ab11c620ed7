"""Mask R-CNN at inference: a tile -> its objects with small masks, whoever computes the heavy parts.

The steps between the parts are torchvision's, on the same numbers, but for what can be left out without changing them:
proposals are decoded after the best of each level are chosen, and masks stay as small as the network gives them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import boxes as boxes_of

from segsvc.card import Detection, ModelCard
from segsvc.errors import ConfigError
from segsvc.imaging.instances import Detections
from segsvc.models.library import Model
from segsvc.models.pyramid import SIZE_DIVISIBLE, enlarged
from segsvc.models.scored import build_network
from segsvc.types import SCORE_ONE

_MASKS_AT_ONCE = 128  # the mask head needs about a megabyte an object

Tensors = Sequence[torch.Tensor]


@dataclass(frozen=True, slots=True)
class Levels:
    """What the pyramid gives: features (1, channels, h, w) a level, and the region proposal head's answer to each.

    logits: (1, anchors, h, w), deltas: (1, 4 * anchors, h, w).
    """

    features: Tensors
    logits: Tensors
    deltas: Tensors


class Parts(Protocol):
    """The parts of a Mask R-CNN that are worth computing elsewhere than in PyTorch."""

    def levels(self, pixels: torch.Tensor) -> Levels:
        """pixels: (1, C, h, w), multiples of 32."""

    def boxes(self, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, channels, px, px) -> logits (n, classes + 1) and deltas (n, 4 * (classes + 1))."""

    def masks(self, rois: torch.Tensor) -> torch.Tensor:
        """(n, channels, px, px) -> logits (n, classes + 1, side, side)."""


class TorchParts:
    """The parts as the module has them."""

    def __init__(self, network: MaskRCNN) -> None:
        self._network = network

    def levels(self, pixels: torch.Tensor) -> Levels:
        features = list(self._network.backbone(pixels).values())
        logits, deltas = self._network.rpn.head(features)
        return Levels(features, logits, deltas)

    def boxes(self, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        heads = self._network.roi_heads
        answer: tuple[torch.Tensor, torch.Tensor] = heads.box_predictor(heads.box_head(rois))
        return answer

    def masks(self, rois: torch.Tensor) -> torch.Tensor:
        heads = self._network.roi_heads
        answer: torch.Tensor = heads.mask_predictor(heads.mask_head(rois))
        return answer


class Detector:
    """Finds the objects in a tile; may be called by several threads at once, as far as its parts may.

    network: what the family built, in evaluation mode and with its weights; of it only what lies between the parts is used
    where `parts` are given.
    """

    def __init__(self, network: MaskRCNN, card: ModelCard, parts: Parts | None = None) -> None:
        if card.detection is None:
            raise ConfigError(f"model {card.name}: expected detection in its card, got none")
        self._detection: Detection = card.detection
        self._rpn, self._heads = network.rpn, network.roi_heads
        self._parts = parts if parts is not None else TorchParts(network)

    def detect(self, pixels: torch.Tensor) -> Detections:
        """pixels: (1, C, h, w) float32, model input. Its objects, the best first."""
        height, width = pixels.shape[-2:]
        scaled = enlarged(pixels, self._detection)
        size = (int(scaled.shape[-2]), int(scaled.shape[-1]))
        whole = padded(scaled)
        levels = self._parts.levels(whole)
        proposals = self._proposals(levels, size, (int(whole.shape[-2]), int(whole.shape[-1])))
        if not len(proposals):
            return self._nothing()
        features = OrderedDict((str(level), feature) for level, feature in enumerate(levels.features))
        heads = self._heads
        logits, deltas = self._parts.boxes(heads.box_roi_pool(features, [proposals], [size]))
        [boxes], [scores], [labels] = heads.postprocess_detections(logits, deltas, [proposals], [size])
        masks = [self._masks(features, boxes[at: at + _MASKS_AT_ONCE], labels[at: at + _MASKS_AT_ONCE], size)
                 for at in range(0, len(boxes), _MASKS_AT_ONCE)]
        if not masks:
            return self._nothing()
        return Detections(
            resize_boxes(boxes, size, (height, width)).float().cpu().numpy(),
            torch.round(scores.float() * SCORE_ONE).cpu().numpy().astype(np.uint16),
            labels.cpu().numpy() - 1,
            torch.cat(masks).float().cpu().numpy())

    def _nothing(self) -> Detections:
        side = 2 * self._detection.mask_roi_px
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.uint16), np.zeros(0, np.int64),
                          np.zeros((0, side, side), np.float32))

    def _masks(self, features: OrderedDict[str, torch.Tensor], boxes: torch.Tensor, labels: torch.Tensor,
               size: tuple[int, int]) -> torch.Tensor:
        """(n, side, side) probabilities of the label of each box."""
        rois = self._heads.mask_roi_pool(features, [boxes], [size])
        of_labels: torch.Tensor = maskrcnn_inference(self._parts.masks(rois), [labels])[0][:, 0]
        return of_labels

    def _proposals(self, levels: Levels, size: tuple[int, int], padded_size: tuple[int, int]) -> torch.Tensor:
        """(n, 4) boxes in px of the scaled tile: torchvision's `RegionProposalNetwork.filter_proposals`, of one image."""
        rpn = self._rpn
        rpn.anchor_generator.set_cell_anchors(levels.logits[0].dtype, levels.logits[0].device)
        found, scores, of_level = [], [], []
        for number, (logits, deltas) in enumerate(zip(levels.logits, levels.deltas, strict=True)):
            anchors = logits.shape[1]
            objectness = logits.permute(0, 2, 3, 1).reshape(1, -1)
            best, at = objectness.topk(min(self._detection.proposals_per_level, objectness.shape[1]), dim=1)
            place, kind = torch.div(at[0], anchors, rounding_mode="floor"), at[0] % anchors
            rows, columns = torch.div(place, logits.shape[3], rounding_mode="floor"), place % logits.shape[3]
            steps = [full // side for full, side in zip(padded_size, logits.shape[2:], strict=True)]
            shifts = torch.stack((columns * steps[1], rows * steps[0]) * 2, dim=1)
            chosen = deltas[0].view(anchors, 4, *logits.shape[2:])[kind, :, rows, columns]
            found.append(rpn.box_coder.decode_single(chosen, shifts + rpn.anchor_generator.cell_anchors[number][kind]))
            scores.append(torch.sigmoid(best[0]))
            of_level.append(torch.full_like(at[0], number))
        boxes = boxes_of.clip_boxes_to_image(torch.cat(found), size)
        probabilities, numbers = torch.cat(scores), torch.cat(of_level)
        kept = boxes_of.remove_small_boxes(boxes, rpn.min_size)
        kept = kept[probabilities[kept] >= rpn.score_thresh]
        boxes, probabilities, numbers = boxes[kept], probabilities[kept], numbers[kept]
        kept = boxes_of.batched_nms(boxes, probabilities, numbers, rpn.nms_thresh)[: self._detection.proposals]
        proposals: torch.Tensor = boxes[kept]
        return proposals


def padded(pixels: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) with zeros on the right and below, so that both sides are multiples of 32."""
    height, width = pixels.shape[-2:]
    return functional.pad(pixels, (0, -width % SIZE_DIVISIBLE, 0, -height % SIZE_DIVISIBLE))


def build_detector_network(model: Model) -> MaskRCNN:
    """The model's network with its weights, in evaluation mode. Raises ConfigError where they do not fit."""
    network = build_network(model)
    if not isinstance(network, MaskRCNN):
        raise ConfigError(f"model {model.name}: expected a family that builds a MaskRCNN for the task instance, got "
                          f"{model.card.family!r}")
    return network.eval()


def least_tile(card: ModelCard) -> torch.Tensor:
    """(1, C, h, w) zeros: a tile that takes the least to compute; where tiles are brought to a size, a narrow one."""
    detection, stride = card.detection, card.stride_px
    wide = stride if detection is None or detection.scale is not None else -(-detection.max_side_px // stride) * stride
    return torch.zeros(1, card.channels, stride, wide)


def check_detects(detector: Detector, card: ModelCard) -> None:
    """Raises ConfigError where the network cannot compute the least tile."""
    tile = least_tile(card)
    try:
        with torch.inference_mode():
            found = detector.detect(tile)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise ConfigError(f"model {card.name}: expected a network that takes {tile.shape[3]} x {tile.shape[2]} px, got: "
                          f"{(str(error).strip() or repr(error)).splitlines()[0][:200]}") from error
    side = 2 * card.detection.mask_roi_px if card.detection is not None else 0
    if found.masks.shape[1:] != (side, side):
        raise ConfigError(f"model {card.name}: expected masks of {side} x {side} px, got {found.masks.shape[1:]}")
