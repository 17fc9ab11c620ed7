"""What is written down about a model and a run; they enter as JSON and are checked here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segsvc.types import Runtime

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
OptionText = Annotated[str, Field(max_length=200)]
OptionNumber = Annotated[int, Field(ge=-65536, le=65536)] | Annotated[float, Field(ge=-65536, le=65536)]  # nobody's memory
OptionScalar = bool | OptionNumber | OptionText | None
Option = OptionScalar | Annotated[tuple[OptionScalar, ...], Field(max_length=64)]


class Document(BaseModel):
    """What enters as JSON or leaves as it: checked, frozen, and the same bytes for the same content."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    def to_json(self) -> str:
        """The document as indented JSON with sorted keys: the same bytes for the same content."""
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


class Task(StrEnum):
    """What a model answers."""

    SEMANTIC = "semantic"  # dense scores, a map a class
    INSTANCE = "instance"  # objects, each with a box, a score and a mask
    CLASSIFICATION = "classification"  # a score a class for the whole image


class Activation(StrEnum):
    """How a model's raw outputs become scores."""

    SIGMOID = "sigmoid"  # classes are judged one by one; several may hold
    SOFTMAX = "softmax"  # exactly one holds


class IntensityScale(StrEnum):
    """How stored pixel values become the numbers that mean and std refer to."""

    DTYPE = "dtype"  # divided by the largest value of the type: 255, 65535, or 1 for float
    PERCENTILE = "percentile"  # the image's low and high percentile become 0 and 1, unclipped above


class Normalisation(Document):
    """Stored pixel values -> model input: scaled, then (value - mean) / std for each channel."""

    scale: IntensityScale = IntensityScale.DTYPE
    low_percentile: Annotated[float, Field(ge=0, lt=100)] = 1.0
    high_percentile: Annotated[float, Field(gt=0, le=100)] = 99.8
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[Annotated[float, Field(gt=0)], ...] = (0.229, 0.224, 0.225)


class Fit(StrEnum):
    """What becomes of an image that is not square."""

    CROP = "crop"  # its middle is seen
    PAD = "pad"  # all of it is seen, with black beside it


class Resize(Document):
    """How an image is brought to a classifier's input of `crop_px` x `crop_px`.

    With fit "crop" the shorter side becomes `shorter_side_px`, and the middle is cut out; with "pad" the longer side
    becomes `crop_px`, and what is missing beside the image is black.
    """

    shorter_side_px: Annotated[int, Field(ge=1)] = 256
    crop_px: Annotated[int, Field(ge=1)] = 224
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    fit: Fit = Fit.CROP


class Extraction(Document):
    """How scores become candidates: a region is formed above `extent_min` and stored if its highest score reaches `floor`.

    For a classifier `extent_min` and `min_area_px` mean nothing, and at most `top_k` classes an image are stored. For
    detected instances `extent_min` means nothing (`detection.mask_min` is for their px), and `floor` is for the score.
    """

    extent_min: Probability = 0.5
    floor: Probability = 0.5
    min_area_px: Annotated[int, Field(ge=1)] = 1
    top_k: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _floor_reaches_extent(self) -> Extraction:
        if self.floor < self.extent_min:
            raise ValueError(f"floor must be at least extent_min ({self.extent_min}), got {self.floor}")
        return self


class FeatureNorm(StrEnum):
    """What follows the convolutions of a detector's pyramid and heads."""

    NONE = "none"
    BATCH = "batch"
    GROUP = "group"  # does not depend on the other images of a batch


Share = Annotated[float, Field(gt=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]


class Detection(Document):
    """How a detector with masks (Mask R-CNN) is built, and which of its answers count. The defaults are torchvision's.

    A tile is enlarged before the network sees it: by `scale`, or where that is null as torchvision does, so that its
    shorter side is `min_side_px` unless the longer one would exceed `max_side_px`. Sizes of anchors and `roi_level_px` are
    in px of the enlarged tile; ratios are height / width. A detection counts from `score_min`; of two of a class whose boxes
    overlap by more than `nms_iou` the better one does, and at most `most` a tile. A px belongs to its mask from `mask_min`.

    The last group is for the arch "fpn" alone, a pyramid over the features of a timm encoder: its levels have these strides
    and, with `pooled_level`, one of twice the last stride; each has its own sizes of anchors. An object of `roi_level_px` is
    looked at on the level of stride 16, one of half the size on the level before. Masks have 2 * `mask_roi_px` px a side.
    """

    scale: Annotated[float, Field(gt=0, le=16)] | None = None
    min_side_px: Count = 800
    max_side_px: Count = 1333

    anchor_sizes_px: Annotated[tuple[Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)], ...],
                               Field(min_length=1)] = ((32,), (64,), (128,), (256,), (512,))
    anchor_ratios: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.5, 1.0, 2.0)

    proposals_per_level: Count = 1000  # before suppression; and after it, in all:
    proposals: Count = 1000
    proposal_nms_iou: Share = 0.7
    proposal_score_min: Probability = 0.0
    score_min: Probability = 0.05
    nms_iou: Share = 0.5
    most: Annotated[int, Field(ge=1, le=1000)] = 100
    mask_min: Probability = 0.5

    train_proposals_per_level: Count = 2000  # while it is trained, as all `train_` are
    train_proposals: Count = 2000
    train_anchor_iou: Share = 0.7
    train_anchor_iou_below: Share = 0.3
    train_anchors: Count = 256
    train_anchor_positive: Share = 0.5
    train_roi_iou: Share = 0.5
    train_rois: Count = 512
    train_roi_positive: Share = 0.25

    frozen_norms: bool = False  # maskrcnn_resnet50_fpn: torchvision's FrozenBatchNorm2d, as its checkpoints have it ...
    norm_eps: Annotated[float, Field(ge=0)] = 1e-5  # ... which those trained on COCO have with 0

    strides: Annotated[tuple[Count, ...], Field(min_length=1)] = (4, 8, 16, 32)
    pooled_level: bool = True
    channels: Count = 256
    norm: FeatureNorm = FeatureNorm.NONE
    rpn_convs: Count = 1
    roi_level_px: Count = 224
    box_roi_px: Count = 7
    box_convs: tuple[Count, ...] = ()
    box_layers: Annotated[tuple[Count, ...], Field(min_length=1)] = (1024, 1024)
    mask_roi_px: Count = 14
    mask_convs: Annotated[tuple[Count, ...], Field(min_length=1)] = (256, 256, 256, 256)

    @model_validator(mode="after")
    def _levels_fit(self) -> Detection:
        if any(stride & (stride - 1) for stride in self.strides) or any(
                below * 2 != above for below, above in pairwise(self.strides)):
            raise ValueError(f"strides must be powers of 2, each twice the one before, got {self.strides}")
        if len({len(sizes) for sizes in self.anchor_sizes_px}) != 1:
            raise ValueError(f"anchor_sizes_px must name as many sizes for each level, got {self.anchor_sizes_px}")
        levels = len(self.strides) + self.pooled_level
        if len(self.anchor_sizes_px) != levels:
            raise ValueError(f"anchor_sizes_px must have sizes for {levels} levels (strides, and one more if pooled_level), "
                             f"got {len(self.anchor_sizes_px)}")
        if self.train_anchor_iou_below > self.train_anchor_iou:
            raise ValueError(f"train_anchor_iou_below must be at most train_anchor_iou ({self.train_anchor_iou}), got "
                             f"{self.train_anchor_iou_below}")
        return self


class ClassNode(Document):
    """A class and, in a tree of classes, its parent (trailer < car < traffic)."""

    name: Annotated[str, Field(min_length=1)]
    parent: str | None = None


class ModelCard(Document):
    """A model's card.json: what it is, how it is computed, where it comes from and what it is not for.

    `classes` are those that are judged, in the order of the output channels; a softmax model with a background has it
    as output channel 0 and `background` true. `options` are settings of the arch by their names in its library, for families
    that know them: of segmentation-models-pytorch those of decoder and encoder.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: str = "1"
    description: str = ""
    family: Annotated[str, Field(min_length=1)]
    task: Task
    arch: str
    encoder: str | None = None
    options: dict[str, Option] = {}
    classes: Annotated[tuple[ClassNode, ...], Field(min_length=1)]
    activation: Activation = Activation.SIGMOID
    background: bool = False
    channels: Literal[1, 3] = 3
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    normalisation: Normalisation = Normalisation()
    tile_px: Annotated[int, Field(ge=32)] = 512
    overlap_px: Annotated[int, Field(ge=0)] = 64
    stride_px: Annotated[int, Field(ge=1)] = 32
    pixel_size_um: Annotated[float, Field(gt=0)] | None = None
    resize: Resize | None = None
    detection: Detection | None = None
    extraction: Extraction = Extraction()
    licence: str
    trained_on: str = ""
    not_for: str = ""
    source: str = ""
    seed: int | None = None
    made_by: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> ModelCard:
        if self.tile_px % self.stride_px:
            raise ValueError(f"tile_px must be a multiple of stride_px ({self.stride_px}), got {self.tile_px}")
        if 2 * self.overlap_px > self.tile_px:
            raise ValueError(f"overlap_px must be at most half of tile_px ({self.tile_px}), got {self.overlap_px}")
        for what, values in (("mean", self.normalisation.mean), ("std", self.normalisation.std)):
            if len(values) != self.channels:
                raise ValueError(f"normalisation.{what} must have {self.channels} values, got {len(values)}")
        if self.task is Task.CLASSIFICATION and self.resize is None:
            raise ValueError("a classification model needs resize: {shorter_side_px, crop_px}")
        if self.task is Task.INSTANCE and self.detection is None:
            raise ValueError("an instance model needs detection: {} for torchvision's settings, or what differs from them")
        parents = {node.name: node.parent for node in self.classes}
        if len(parents) != len(self.classes):
            raise ValueError("class names must differ from each other")
        for name, parent in parents.items():
            if parent is not None and parent not in parents:
                raise ValueError(f"class {name!r} names the parent {parent!r}, which is no class of this model")
        _check_no_circle(parents)
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.classes)

    @property
    def digest(self) -> str:
        """sha256 of the card, which holds the sha256 of the weights: the model's digest.

        Fields at their default are left out, so that a field that is new in a later version changes no digest; a default
        must therefore never change.
        """
        said = self.model_dump(mode="json", exclude_defaults=True)
        canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def _check_no_circle(parents: Mapping[str, str | None]) -> None:
    """Raises ValueError for a class that is its own ancestor."""
    settled: set[str] = set()
    for name in parents:
        line: dict[str, None] = {}
        at: str | None = name
        while at is not None and at not in settled:
            if at in line:
                raise ValueError(f"class {at!r} must have other classes as its ancestors, got itself among them")
            line[at] = None
            at = parents[at]
        settled |= line.keys()


class RunSpec(Document):
    """spec.json: what was asked. Two runs with equal fields are the same run; operating points are no part of it."""

    format: Literal[1] = 1
    input: str
    limit: int | None = None
    shard_size: Annotated[int, Field(ge=1)]
    model: str
    model_digest: str
    runtime: Runtime


def describe(error: Any) -> str:
    """A pydantic ValidationError in one line: field, what was expected, what came."""
    parts = []
    for problem in error.errors()[:3]:
        if not problem["loc"] and "error" in problem.get("ctx", {}):  # a rule on the whole document says all itself
            parts.append(str(problem["ctx"]["error"]))
            continue
        where = ".".join(str(step) for step in problem["loc"]) or "the document"
        parts.append(f"{where}: {problem['msg']}, got {problem['input']!r:.80}")
    return "; ".join(parts)
