"""What is written down about a model, an operating point and a run; they enter as JSON and are checked here."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segsvc.types import Runtime

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    def to_json(self) -> str:
        """The document as indented JSON with sorted keys: the same bytes for the same content."""
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


class Task(StrEnum):
    """What a model answers."""

    SEMANTIC = "semantic"  # dense scores, a map a class
    CLASSIFICATION = "classification"  # a score a class for the whole image


class Activation(StrEnum):
    """How a model's raw outputs become scores."""

    SIGMOID = "sigmoid"  # classes are judged one by one; several may hold
    SOFTMAX = "softmax"  # exactly one holds


class IntensityScale(StrEnum):
    """How stored pixel values become the numbers that mean and std refer to."""

    DTYPE = "dtype"  # divided by the largest value of the type: 255, 65535, or 1 for float
    PERCENTILE = "percentile"  # the image's low and high percentile become 0 and 1, unclipped above


class Normalisation(_Document):
    """Stored pixel values -> model input: scaled, then (value - mean) / std for each channel."""

    scale: IntensityScale = IntensityScale.DTYPE
    low_percentile: Annotated[float, Field(ge=0, lt=100)] = 1.0
    high_percentile: Annotated[float, Field(gt=0, le=100)] = 99.8
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[Annotated[float, Field(gt=0)], ...] = (0.229, 0.224, 0.225)


class Resize(_Document):
    """How an image is brought to a classifier's input: the shorter side to `shorter_side_px`, then a centre crop."""

    shorter_side_px: Annotated[int, Field(ge=1)] = 256
    crop_px: Annotated[int, Field(ge=1)] = 224
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"


class Extraction(_Document):
    """How scores become candidates: a region is formed above `extent_min` and stored if its highest score reaches `floor`.

    For a classifier `extent_min` and `min_area_px` mean nothing, and at most `top_k` classes an image are stored.
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


class ClassNode(_Document):
    """A class and, in a tree of classes, its parent (trailer < car < traffic)."""

    name: Annotated[str, Field(min_length=1)]
    parent: str | None = None


class ModelCard(_Document):
    """A model's card.json: what it is, how it is computed, where it comes from and what it is not for.

    `classes` are those that are judged, in the order of the output channels; a softmax model with a background has it
    as output channel 0 and `background` true.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: str = "1"
    description: str = ""
    family: Annotated[str, Field(min_length=1)]
    task: Task
    arch: str
    encoder: str | None = None
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
        known = [node.name for node in self.classes]
        if len(set(known)) != len(known):
            raise ValueError("class names must differ from each other")
        for node in self.classes:
            if node.parent is not None and node.parent not in known:
                raise ValueError(f"class {node.name!r} names the parent {node.parent!r}, which is no class of this model")
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


class Basis(StrEnum):
    """What an operating point rests on; only CALIBRATED is a promise, and only where the runtime is the same."""

    CALIBRATED = "calibrated"  # proven by a bound on calibration data
    MEASURED = "measured"  # measured on held-out data: "measured, not guaranteed"
    BY_HAND = "by_hand"  # set by a person


class ClassThresholds(_Document):
    """From `flag_at` a candidate of the class is flagged; from `accept_at` it is accepted by rule (null: never)."""

    flag_at: Probability
    accept_at: Probability | None = None

    @model_validator(mode="after")
    def _ordered(self) -> ClassThresholds:
        if self.accept_at is not None and self.accept_at < self.flag_at:
            raise ValueError(f"accept_at must be at least flag_at ({self.flag_at}), got {self.accept_at}")
        return self


class OperatingPoint(_Document):
    """Thresholds per class, and what they rest on. `classes` may hold "*", which stands for every class not named."""

    basis: Basis
    classes: dict[str, ClassThresholds]
    model_digest: str | None = None
    runtime: Runtime | None = None
    data_digest: str | None = None
    note: str = ""
    set_at: datetime | None = None

    def thresholds(self, class_name: str) -> ClassThresholds | None:
        """The thresholds of a class; None where the point says nothing about it."""
        return self.classes.get(class_name, self.classes.get("*"))

    def says_as(self, other: OperatingPoint) -> bool:
        """Whether both say the same, whenever they were set."""
        return self.model_copy(update={"set_at": None}) == other.model_copy(update={"set_at": None})

    def wording(self, *, model_digest: str, runtime: Runtime) -> str:
        """What may be said of this point on that model and runtime, in the words shown to users."""
        if self.basis is Basis.BY_HAND:
            return "set by hand, not guaranteed"
        if self.basis is Basis.CALIBRATED and (self.model_digest, self.runtime) == (model_digest, runtime):
            return "guaranteed as calibrated"
        return "measured, not guaranteed"


class RunSpec(_Document):
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
