"""An imported model held against its source: the same random input to both, and how far apart the answers are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torchvision.models.detection import MaskRCNN

from segsvc.card import Activation, ModelCard, Task
from segsvc.errors import ConfigError, SegsvcError
from segsvc.exchange.request import Draft
from segsvc.models import onnx
from segsvc.models.detector import build_detector_network
from segsvc.models.library import Model
from segsvc.models.openvino_runtime import OpenvinoNetwork
from segsvc.models.scored import build_scored, reference_scores
from segsvc.types import SCORE_ONE

TOLERANCE = 1e-4  # of scores, which are between 0 and 1; our rounding takes up to 0.08 of it
_BOXES = 12
_SIDES_PX = 224, 320  # what torchvision's rule brings an image to here; its 800 px would only take longer
_SEED = 7


class Differs(SegsvcError):  # noqa: N818 - it reads as what it says
    """The imported model does not answer as its source does; nothing was written."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was compared: sizes (width, height) in px of the inputs, how many scores, and their largest difference."""

    library: str
    sizes_px: tuple[tuple[int, int], ...]
    n_scores: int
    worst: float


def compare(model: Model, draft: Draft) -> Comparison:
    """How far the model's scores are from those of the draft's network. Raises Differs beyond `TOLERANCE`."""
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a foreign library deprecates is not the user's affair
        found = _compare_parts(model, draft) if model.card.task is Task.INSTANCE else _compare_scores(model, draft)
    if not found.worst <= TOLERANCE:
        raise Differs(f"model {model.name}: expected the scores of {draft.library} to within {TOLERANCE:g}, they differ by "
                      f"up to {found.worst:.2g} on random input. Nothing was written; please report which model it is.")
    return found


def _sizes(card: ModelCard) -> tuple[tuple[int, int], tuple[int, int]]:
    if card.resize is not None:
        return (card.resize.crop_px,) * 2, (card.resize.crop_px,) * 2
    if card.tile_px == card.stride_px:
        return (card.tile_px,) * 2, (card.tile_px,) * 2
    least = card.stride_px * max(2, 64 // card.stride_px)
    return (least, least), (least + card.stride_px, least)


def _compare_scores(model: Model, draft: Draft) -> Comparison:
    card = model.card
    ours = _ours(model)
    seeded = torch.Generator().manual_seed(_SEED)
    worst, n, sizes = 0.0, 0, _sizes(card)
    for width, height in sizes:
        pixels = torch.randn(1, card.channels, height, width, generator=seeded)
        got = ours(pixels) / np.float32(SCORE_ONE)
        wanted = _scores(draft, pixels)
        if got.shape != wanted.shape:
            raise ConfigError(f"expected {draft.library} to answer {got.shape}, got {wanted.shape}")
        worst, n = max(worst, _largest(got, wanted)), n + got.size
    return Comparison(draft.library, sizes, n, worst)


def _ours(model: Model) -> Callable[[torch.Tensor], npt.NDArray[np.floating]]:
    """What computes the model here: PyTorch, or OpenVINO where that alone can."""
    if model.card.family == onnx.PLUGIN.name:
        by_openvino = OpenvinoNetwork(model, threads=1)
        return lambda pixels: by_openvino.infer(pixels.numpy()).astype(np.float32)
    network = build_scored(model)
    return lambda pixels: reference_scores(network, pixels, model.card)


def _largest(got: npt.NDArray[np.floating], wanted: npt.NDArray[np.floating]) -> float:
    """The largest difference; infinite where either is no number."""
    difference = float(np.abs(got - wanted).max(initial=0.0))
    return difference if np.isfinite(difference) else float("inf")


def _scores(draft: Draft, pixels: torch.Tensor) -> npt.NDArray[np.float32]:
    """What the source answers, as scores of the card's classes."""
    raw = draft.network(pixels)
    if not isinstance(raw, torch.Tensor):
        raise ConfigError(f"expected {draft.library} to answer with one tensor, got {type(raw).__name__}")
    scores = raw.double()
    if not draft.answers_scores:
        scores = scores.softmax(1) if draft.card.activation is Activation.SOFTMAX else scores.sigmoid()
    kept: npt.NDArray[np.float32] = scores[:, 1 if draft.card.background else 0:].float().numpy()
    return kept


def _compare_parts(model: Model, draft: Draft) -> Comparison:
    """A detector's scores: of the places where objects may be, of classes in boxes, and of the px of masks.

    Boxes are drawn at random, and are the same for both: the best of near ties would be others by rounding alone.
    """
    if model.card.detection is None or not isinstance(draft.network, MaskRCNN):
        raise ConfigError(f"model {model.name}: expected detection in its card and a Mask R-CNN for its source")
    changed = model.card.detection.model_copy(update={"min_side_px": _SIDES_PX[0], "max_side_px": _SIDES_PX[1]})
    card = model.card.model_copy(update={"detection": changed})
    ours, theirs = build_detector_network(Model(model.folder, card, None)), draft.network
    theirs.transform.min_size, theirs.transform.max_size = (_SIDES_PX[0],), _SIDES_PX[1]
    mean, std = (torch.tensor(values)[:, None, None] for values in (card.normalisation.mean, card.normalisation.std))
    seeded = torch.Generator().manual_seed(_SEED)
    worst, n, sizes = 0.0, 0, ((160, 128), (120, 168))
    for width, height in sizes:
        image, places = torch.rand(3, height, width, generator=seeded), torch.rand(_BOXES, 4, generator=seeded)
        got = _parts(ours, (image - mean) / std, places, tuple(range(len(draft.kept))))
        wanted = _parts(theirs, image, places, draft.kept)
        for one, other in zip(got, wanted, strict=True):
            if one.shape != other.shape:
                raise ConfigError(f"expected {draft.library} to answer {tuple(one.shape)}, got {tuple(other.shape)}")
            scale = max(1.0, float(other.abs().max()))  # scores are at most 1; anchors and offsets are held to their largest
            worst, n = max(worst, _largest(one.numpy(), other.numpy()) / scale), n + one.numel()
    return Comparison(draft.library, sizes, n, worst)


def _parts(network: MaskRCNN, image: torch.Tensor, places: torch.Tensor, kept: tuple[int, ...]) -> list[torch.Tensor]:
    """What the parts of a detector answer for an image (3, h, w) and boxes at those places (n, 4), shares of its sides."""
    images, _ = network.transform([image])
    features, heads = network.backbone(images.tensors), network.roi_heads
    levels = list(features.values())
    logits, deltas = network.rpn.head(levels)
    height, width = images.image_sizes[0]
    corners = torch.stack([places[:, [0, 2]].amin(1) * (width - 8), places[:, [1, 3]].amin(1) * (height - 8),
                           places[:, [0, 2]].amax(1) * (width - 8) + 8, places[:, [1, 3]].amax(1) * (height - 8) + 8], dim=1)
    classes, offsets = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, [corners], images.image_sizes)))
    masks = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, [corners], images.image_sizes)))
    rows = list(kept)
    return [*network.rpn.anchor_generator(images, levels), *(level.sigmoid() for level in logits), *deltas,
            classes.softmax(1)[:, rows], offsets.reshape(len(corners), -1, 4)[:, rows], masks.sigmoid()[:, rows]]
