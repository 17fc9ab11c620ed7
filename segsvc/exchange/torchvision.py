"""Weights of torchvision's Mask R-CNN with ResNet-50, of COCO or fine-tuned; its numbers are told from the shapes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from pydantic import ValidationError
from torchvision.models.detection import MaskRCNN, MaskRCNN_ResNet50_FPN_Weights, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FrozenBatchNorm2d

from segsvc.card import ClassNode, Detection, Extraction, ModelCard, Normalisation, Task, describe
from segsvc.errors import ConfigError
from segsvc.exchange.request import NO_WEIGHTS, Draft, ImportRequest, named_classes
from segsvc.exchange.state_dicts import State, fitted, without_prefix

LIBRARY = "torchvision"
V1, V2 = "maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"
_COCO_OUTPUTS = 91
_LEVELS = 5
_SCORES, _BOXES, _MASKS = ("roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred",
                           "roi_heads.mask_predictor.mask_fcn_logits")
_ANCHORS = "rpn.head.cls_logits.weight"
_COUNTED = "backbone.body.bn1.num_batches_tracked"
_NEVER = -1e9  # the logit of an output that is left out
_MOST_OUTPUTS = 10_000


def draft_of_tensors(request: ImportRequest, tensors: Mapping[str, torch.Tensor]) -> Draft:
    """The model of a checkpoint of torchvision's.

    Of COCO's 91 outputs, ten never had an example ("N/A"): they are left out, so that the model has COCO's 80 classes; the
    others' scores then share what those outputs had of the softmax. Raises ConfigError where the shapes are no Mask
    R-CNN's with ResNet-50, or anchors are not said.
    """
    request.check_unused(LIBRARY, "encoder", "options", "background", "activation", "crop_px")
    if request.task not in (None, Task.INSTANCE):
        raise ConfigError(f"--task {request.task}: torchvision's Mask R-CNN is for the task instance")
    whole, notes = _below_prefix(tensors, request.prefix)
    arch = _arch(request, whole)
    outputs = _first_side(whole, f"{_SCORES}.weight")
    if not 2 <= outputs <= _MOST_OUTPUTS:
        raise ConfigError(f"{_SCORES}.weight: expected outputs for a background and classes, got {outputs}")
    kept, names = _kept_outputs(outputs, request)
    detection = _detection(request, whole, arch)
    card = _card(request, arch, detection, names)
    state = _with_outputs(whole, outputs, kept)
    fit = fitted(card, state, prefix="")
    if len(kept) < outputs:
        notes = (*notes, f"{outputs - len(kept)} of COCO's {outputs} outputs have no class (N/A) and were left out")
    if detection.frozen_norms and request.norm_eps is None:
        notes = (*notes, "norm_eps 0, as models that come from COCO's weights have it; for others, --norm-eps 1e-5")
    return Draft(card, fit.network.state_dict(), _network(whole, card, outputs, kept), LIBRARY, notes=notes,
                 kept=tuple(kept))


def _below_prefix(tensors: Mapping[str, torch.Tensor], prefix: str | None) -> tuple[State, tuple[str, ...]]:
    return without_prefix(tensors, {f"{_SCORES}.weight", f"{_SCORES}.bias", f"{_MASKS}.weight"}, prefix)


def _arch(request: ImportRequest, tensors: Mapping[str, torch.Tensor]) -> str:
    found = V1 if "roi_heads.box_head.fc6.weight" in tensors else V2 if "roi_heads.box_head.0.0.weight" in tensors else None
    if found is None or not any(name.startswith("backbone.body.layer4") for name in tensors):
        raise ConfigError(f"expected the tensors of {V1} or {V2}, got others: {', '.join(list(tensors)[:3])} ...")
    if request.arch not in (None, found):
        raise ConfigError(f"--arch {request.arch}: the tensors are those of {found}; leave it out")
    return found


def _first_side(tensors: Mapping[str, torch.Tensor], name: str) -> int:
    if name not in tensors or tensors[name].ndim < 1:
        raise ConfigError(f"expected a tensor {name}, got none")
    return int(tensors[name].shape[0])


def _kept_outputs(outputs: int, request: ImportRequest) -> tuple[list[int], tuple[ClassNode, ...]]:
    """The outputs that stay, background first, and the classes of the others of them."""
    coco: list[str] = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    if outputs != _COCO_OUTPUTS or (request.classes is not None and len(request.classes) == outputs - 1):
        return list(range(outputs)), named_classes(request, outputs - 1)
    kept = [0, *(number for number, name in enumerate(coco) if number and name != "N/A")]
    return kept, named_classes(request, len(kept) - 1, tuple(coco[number] for number in kept[1:]))


def _detection(request: ImportRequest, tensors: Mapping[str, torch.Tensor], arch: str) -> Detection:
    each = _first_side(tensors, _ANCHORS)
    plain = Detection()
    sizes, ratios = request.anchor_sizes_px or plain.anchor_sizes_px, request.anchor_ratios or plain.anchor_ratios
    if len(sizes) != _LEVELS or any(len(level) * len(ratios) != each for level in sizes):
        raise ConfigError(f"--anchor-sizes and --anchor-ratios: the tensors are for {each} anchors a place on {_LEVELS} "
                          f"levels, got {len(sizes)} levels of {len(sizes[0])} sizes and {len(ratios)} ratios. Give those "
                          "it was trained with, e.g. --anchor-sizes '8;16;32;64;128' --anchor-ratios 0.5,1,2.")
    frozen = arch == V1 and _COUNTED not in tensors
    if request.norm_eps is not None and not frozen:
        raise ConfigError(f"--norm-eps: {arch} with these tensors has no frozen norms: leave it out")
    eps = (request.norm_eps or 0.0) if frozen else plain.norm_eps
    try:
        return Detection(anchor_sizes_px=sizes, anchor_ratios=ratios, frozen_norms=frozen, norm_eps=eps)
    except ValidationError as error:
        raise ConfigError(f"the model's card: {describe(error)}") from error


def _card(request: ImportRequest, arch: str, detection: Detection, classes: tuple[ClassNode, ...]) -> ModelCard:
    normalisation = Normalisation()
    if request.mean is not None and request.std is not None:
        normalisation = Normalisation(mean=request.mean, std=request.std)
    tile_px = request.tile_px or 1024
    try:
        return ModelCard(
            name=request.name, family="mask_rcnn", task=Task.INSTANCE, arch=arch, classes=classes, weights_sha256=NO_WEIGHTS,
            normalisation=normalisation, stride_px=1, tile_px=tile_px, overlap_px=tile_px // 4, detection=detection,
            extraction=Extraction(extent_min=0.0, floor=detection.score_min), licence=request.licence)
    except ValidationError as error:
        raise ConfigError(f"the model's card: {describe(error)}") from error


def _with_outputs(tensors: Mapping[str, torch.Tensor], outputs: int, kept: list[int]) -> State:
    """The tensors with the last layers' rows of those outputs alone. Raises ConfigError where they are for other numbers."""
    rows = torch.tensor(kept)
    of_boxes = (4 * rows[:, None] + torch.arange(4)).flatten()
    changed = dict(tensors)
    for layer, chosen, expected in ((_SCORES, rows, outputs), (_BOXES, of_boxes, 4 * outputs), (_MASKS, rows, outputs)):
        for name in (f"{layer}.weight", f"{layer}.bias"):
            if _first_side(tensors, name) != expected:
                raise ConfigError(f"{name}: expected {expected} rows for {outputs} outputs, got "
                                  f"{_first_side(tensors, name)}")
            changed[name] = tensors[name][chosen]
    return changed


def _network(tensors: Mapping[str, torch.Tensor], card: ModelCard, outputs: int, kept: list[int]) -> MaskRCNN:
    """torchvision's own, with all the checkpoint's outputs; those that are left out never win."""
    detection = card.detection or Detection()
    anchors = AnchorGenerator(detection.anchor_sizes_px, (detection.anchor_ratios,) * _LEVELS)
    if card.arch == V2:
        network = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=outputs)
        network.rpn.anchor_generator = anchors
        network.rpn.head = RPNHead(network.backbone.out_channels, anchors.num_anchors_per_location()[0], conv_depth=2)
    else:
        norm = partial(FrozenBatchNorm2d, eps=detection.norm_eps) if detection.frozen_norms else torch.nn.BatchNorm2d
        network = MaskRCNN(resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=norm), num_classes=outputs,
                           rpn_anchor_generator=anchors)
    network.load_state_dict(dict(tensors))
    left_out = sorted(set(range(outputs)) - set(kept))
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.weight[left_out] = 0
        network.roi_heads.box_predictor.cls_score.bias[left_out] = _NEVER
    network.transform.image_mean, network.transform.image_std = list(card.normalisation.mean), list(card.normalisation.std)
    answer: MaskRCNN = network.eval()
    return answer
