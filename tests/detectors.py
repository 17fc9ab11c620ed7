"""Small Mask R-CNNs with seeded random weights, as models' folders: what they find means nothing, but they find things."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torchvision.models.detection import MaskRCNN

from segsvc import plugins
from segsvc.card import ClassNode, Detection, Extraction, ModelCard, Normalisation, Task
from segsvc.models import Family
from segsvc.models.checkpoint import save_model
from segsvc.models.library import Model, read_model

TINY = Detection(scale=1.0, anchor_sizes_px=((16,), (32,), (64,)), strides=(4, 8), channels=16, box_layers=(32,),
                 mask_convs=(16,), mask_roi_px=7, roi_level_px=112, proposals_per_level=200, proposals=100, most=20,
                 score_min=0.02)


def detector_card(*, detection: Detection = TINY, **fields: Any) -> ModelCard:
    """A card of the arch fpn on timm's smallest encoder; `fields` change it."""
    card = ModelCard(
        name="tiny-detector", family="mask_rcnn", task=Task.INSTANCE, arch="fpn", encoder="test_resnet",
        classes=(ClassNode(name="round"), ClassNode(name="square")), weights_sha256="0" * 64, tile_px=128, overlap_px=32,
        normalisation=Normalisation(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)), detection=detection,
        extraction=Extraction(extent_min=0, floor=0.02, min_area_px=4), licence="Apache-2.0")
    return card.model_copy(update=fields)


def random_network(card: ModelCard, *, seed: int = 0) -> MaskRCNN:
    """What the family builds for the card, in evaluation mode, with weights with which it finds all sorts of things.

    Its boxes, scores and masks differ from place to place: norms have seen noise, and the last layers speak up.
    """
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        family: Family = plugins.load(plugins.PluginKind.MODEL, card.family)
        network = family.build(card)
        if not isinstance(network, MaskRCNN):
            raise ValueError(f"expected a MaskRCNN, got {type(network).__name__}")
        with torch.no_grad():
            network.train()
            for _ in range(4):
                network.backbone(torch.randn(2, card.channels, 64, 64))
            network.eval()
            network.rpn.head.cls_logits.weight *= 100
            network.rpn.head.bbox_pred.weight *= 10
            network.roi_heads.box_predictor.cls_score.weight *= 8
            network.roi_heads.mask_predictor.mask_fcn_logits.weight *= 3
    return network


def write_detector(folder: Path, card: ModelCard, *, seed: int = 0) -> Model:
    """A model's folder of that card with the weights of `random_network`."""
    place = folder / card.name
    digest = save_model(random_network(card, seed=seed).state_dict(), place / "model.safetensors", half=False)
    (place / "card.json").write_text(card.model_copy(update={"weights_sha256": digest}).to_json())
    return read_model(place)
