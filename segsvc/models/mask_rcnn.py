"""Mask R-CNN: torchvision's with ResNet-50, or a small one on a pyramid over the features of any timm encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segsvc.card import Detection, ModelCard
from segsvc.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator

RESNET50, RESNET50_V2, FPN = "maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "fpn"
_RESNET50_LEVELS = 5
_OF_FPN = ("strides", "pooled_level", "channels", "norm", "rpn_convs", "roi_level_px", "box_roi_px", "box_convs",
           "box_layers", "mask_roi_px", "mask_convs")
_OF_RESNET50 = ("frozen_norms", "norm_eps")


class MaskRcnnFamily:
    """He et al., "Mask R-CNN" (2017), as torchvision computes it, without downloaded weights."""

    name = "mask_rcnn"

    def build(self, card: ModelCard) -> MaskRCNN:
        """torchvision's module; class i of the card is its label i + 1, and its state dict has torchvision's names.

        Unlike torchvision's own it takes images as the card's normalisation leaves them; it scales them, and targets with
        them, as `card.detection` says. In training it is called with a list of images (C, h, w) and a list of targets
        (boxes, labels, masks), and answers with its losses. Raises ConfigError for an arch or encoder that there is not,
        and for settings that the arch does not have.
        """
        from segsvc.models.pyramid import AsScaled

        if card.options:
            raise ConfigError(f"model {card.name}: the family mask_rcnn has no options, got {', '.join(card.options)}")
        if card.detection is None:
            raise ConfigError(f"model {card.name}: expected detection in its card, got none")
        builders = {RESNET50: _resnet50, RESNET50_V2: _resnet50_v2, FPN: _on_timm}
        if card.arch not in builders:
            raise ConfigError(f"model {card.name}: mask_rcnn has no arch {card.arch!r}. Known: {', '.join(builders)}.")
        network = builders[card.arch](card, card.detection)
        network.transform = AsScaled(card.detection)
        for pool in (network.roi_heads.box_roi_pool, network.roi_heads.mask_roi_pool):
            _set_levels(pool, card.detection.strides)
        return network


def _set_levels(pool: Any, strides: tuple[int, ...]) -> None:
    """Says at which scale the levels are. torchvision would infer it from the first image, wrongly from a narrow one."""
    from torchvision.ops.poolers import initLevelMapper

    pool.scales = [1 / stride for stride in strides]
    pool.map_levels = initLevelMapper(strides[0].bit_length() - 1, strides[-1].bit_length() - 1,
                                      canonical_scale=pool.canonical_scale, canonical_level=pool.canonical_level)


def _numbers(detection: Detection) -> dict[str, Any]:
    """What torchvision's constructor calls the settings that all archs have."""
    return {
        "rpn_pre_nms_top_n_test": detection.proposals_per_level, "rpn_post_nms_top_n_test": detection.proposals,
        "rpn_pre_nms_top_n_train": detection.train_proposals_per_level,
        "rpn_post_nms_top_n_train": detection.train_proposals, "rpn_nms_thresh": detection.proposal_nms_iou,
        "rpn_score_thresh": detection.proposal_score_min, "rpn_fg_iou_thresh": detection.train_anchor_iou,
        "rpn_bg_iou_thresh": detection.train_anchor_iou_below, "rpn_batch_size_per_image": detection.train_anchors,
        "rpn_positive_fraction": detection.train_anchor_positive, "box_score_thresh": detection.score_min,
        "box_nms_thresh": detection.nms_iou, "box_detections_per_img": detection.most,
        "box_fg_iou_thresh": detection.train_roi_iou, "box_bg_iou_thresh": detection.train_roi_iou,
        "box_batch_size_per_image": detection.train_rois, "box_positive_fraction": detection.train_roi_positive}


def _anchors(detection: Detection) -> AnchorGenerator:
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    levels = len(detection.anchor_sizes_px)
    return AnchorGenerator(detection.anchor_sizes_px, (detection.anchor_ratios,) * levels)


def _resnet50(card: ModelCard, detection: Detection) -> MaskRCNN:
    from functools import partial

    from torch import nn
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    _check_resnet50(card, detection, others=_OF_FPN)
    norm = partial(FrozenBatchNorm2d if detection.frozen_norms else nn.BatchNorm2d, eps=detection.norm_eps)
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=norm, trainable_layers=5)
    return MaskRCNN(backbone, num_classes=len(card.classes) + 1, rpn_anchor_generator=_anchors(detection),
                    **_numbers(detection))


def _resnet50_v2(card: ModelCard, detection: Detection) -> MaskRCNN:
    from torchvision.models.detection import maskrcnn_resnet50_fpn_v2
    from torchvision.models.detection.rpn import RPNHead

    _check_resnet50(card, detection, others=(*_OF_FPN, *_OF_RESNET50))
    network: MaskRCNN = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=len(card.classes) + 1,
                                                 **_numbers(detection))
    anchors = _anchors(detection)
    if (anchors.sizes, anchors.aspect_ratios) != (network.rpn.anchor_generator.sizes,
                                                  network.rpn.anchor_generator.aspect_ratios):
        network.rpn.anchor_generator = anchors
        network.rpn.head = RPNHead(network.backbone.out_channels, anchors.num_anchors_per_location()[0], conv_depth=2)
    return network


def _check_resnet50(card: ModelCard, detection: Detection, *, others: tuple[str, ...]) -> None:
    _check_defaults(card, detection, others)
    if card.channels != 3:
        raise ConfigError(f"model {card.name}: {card.arch} takes 3 channels, the card says {card.channels}")
    if len(detection.anchor_sizes_px) != _RESNET50_LEVELS:
        raise ConfigError(f"model {card.name}: {card.arch} has {_RESNET50_LEVELS} levels, detection.anchor_sizes_px names "
                          f"sizes for {len(detection.anchor_sizes_px)}")


def _check_defaults(card: ModelCard, detection: Detection, names: tuple[str, ...]) -> None:
    """Raises ConfigError where a setting is given that the arch does not have: it would be taken for obeyed."""
    wrong = [name for name in names if getattr(detection, name) != Detection.model_fields[name].default]
    if wrong:
        raise ConfigError(f"model {card.name}: {card.arch} has no setting detection.{wrong[0]}: leave it out")


def _on_timm(card: ModelCard, detection: Detection) -> MaskRCNN:
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.models.detection.rpn import RPNHead
    from torchvision.ops import MultiScaleRoIAlign

    from segsvc.models.pyramid import TimmPyramid, norm_layer

    _check_defaults(card, detection, _OF_RESNET50)
    backbone = TimmPyramid(card, detection)
    anchors, norm, outputs = _anchors(detection), norm_layer(detection.norm), len(card.classes) + 1
    channels, box_px, width = detection.channels, detection.box_roi_px, detection.mask_convs[-1]

    def pooled(side_px: int) -> nn.Module:
        levels = [str(level) for level in range(len(detection.strides))]
        pool: nn.Module = MultiScaleRoIAlign(levels, output_size=side_px, sampling_ratio=2,
                                             canonical_scale=detection.roi_level_px)
        return pool

    return MaskRCNN(
        backbone, rpn_anchor_generator=anchors,
        rpn_head=RPNHead(channels, anchors.num_anchors_per_location()[0], conv_depth=detection.rpn_convs),
        box_roi_pool=pooled(box_px), box_head=FastRCNNConvFCHead(
            (channels, box_px, box_px), list(detection.box_convs), list(detection.box_layers), norm_layer=norm),
        box_predictor=FastRCNNPredictor(detection.box_layers[-1], outputs), mask_roi_pool=pooled(detection.mask_roi_px),
        mask_head=MaskRCNNHeads(channels, list(detection.mask_convs), 1, norm_layer=norm),
        mask_predictor=MaskRCNNPredictor(width, width, outputs), **_numbers(detection))


PLUGIN = MaskRcnnFamily()
