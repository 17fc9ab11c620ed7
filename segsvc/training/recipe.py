"""How a model is trained, out of what was asked and what the images are like; all that is not asked for is chosen here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segsvc.card import Detection, Fit, IntensityScale, ModelCard, Normalisation, Resize, Task
from segsvc.datasets import LabelledImage
from segsvc.errors import ConfigError, ImageError
from segsvc.models.checkpoint import LITE0_ARCH
from segsvc.readers import ReadLimits, opened
from segsvc.stores import store_of
from segsvc.training.augment import Domain, Variation
from segsvc.training.classification import fitting_crop_px
from segsvc.training.detecting import ObjectSizes, detection_for
from segsvc.training.loop import Course
from segsvc.training.starts import IMAGENET

_LOOKED_AT = 64  # images, to see what they are like
_EPOCHS, _FEWEST_EXAMPLES, _MOST_EXAMPLES = 15, 2400, 24_000
_FEWEST_EPOCHS = 8
_ROUNDS = 20  # looks at validation in a whole course
_PATIENCE = 8  # of them without a gain
_STRIDE_PX = 32
_LITE0_SCALE = 0.5  # mean and standard deviation that EfficientNet-Lite was trained with
_BATCH = {Task.SEMANTIC: 8, Task.INSTANCE: 4, Task.CLASSIFICATION: 16}
_RATE = {Task.SEMANTIC: 1.5e-3, Task.INSTANCE: 1e-3, Task.CLASSIFICATION: 1e-3}
_FAMILY: Mapping[Task, Literal["smp", "mask_rcnn", "classifier"]] = {
    Task.SEMANTIC: "smp", Task.INSTANCE: "mask_rcnn", Task.CLASSIFICATION: "classifier"}
_ARCH = {Task.SEMANTIC: ("unet", f"tu-{LITE0_ARCH}"), Task.INSTANCE: ("fpn", LITE0_ARCH)}
_SQUARE = 1.15  # up to this ratio of its sides an image is about square
_CROP_PX, _SCALED_CROP_PX = 192, 320


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What a user asks of a training; None is for the recipe to choose.

    init: "imagenet", "random", or the name or folder of a model. epochs: passes over the images to learn from. called: what
    the card calls the data, where their file was made for this training alone.
    """

    dataset: str
    task: Task
    out: Path
    init: str = IMAGENET
    freeze_encoder: bool = False
    arch: str | None = None
    encoder: str | None = None
    epochs: int | None = None
    seed: int = 0
    domain: Domain | None = None
    scale: IntensityScale | None = None
    licence: str = "unstated"
    resume: bool = False
    called: str | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 1:
            raise ConfigError(f"--epochs: expected at least 1, got {self.epochs}")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"--seed: expected 0 to {2**32 - 1}, got {self.seed}")


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the images of a data set are like, by the headers of some of them."""

    grey: bool
    deep: bool  # more than 8 bits a channel
    shorter_sides_px: tuple[int, ...]
    aspects: tuple[float, ...]  # longer by shorter side


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a training's result depends on, beside the data."""

    family: Literal["smp", "classifier", "mask_rcnn"]
    arch: str
    encoder: str | None
    channels: Literal[1, 3]
    normalisation: Normalisation
    variation: Variation
    crop_px: int
    resize: Resize | None
    detection: Detection | None
    course: Course

    def described(self) -> dict[str, Any]:
        """The recipe as JSON has it, without what does not change the result."""
        said = {**asdict(self), "normalisation": self.normalisation.model_dump(mode="json"),
                "resize": self.resize.model_dump(mode="json") if self.resize is not None else None,
                "detection": self.detection.model_dump(mode="json") if self.detection is not None else None}
        said["course"].pop("readers")
        return said


def look(images: Sequence[LabelledImage], limits: ReadLimits) -> ImageFacts:
    """What the images are like, by at most 64 of them. Raises ConfigError where one cannot be read."""
    chosen = images[:: max(1, len(images) // _LOOKED_AT)][:_LOOKED_AT]
    grey, deep, sides, aspects = True, False, [], []
    for image in chosen:
        try:
            with opened(store_of(image.ref.uri).open(image.ref), limits) as source:
                grey &= source.channels == 1
                deep |= source.dtype != np.uint8
                sides.append(min(source.width_px, source.height_px))
                aspects.append(max(source.width_px, source.height_px) / sides[-1])
        except ImageError as error:
            raise ConfigError(f"{image.ref.uri}: expected an image to learn from: {error}") from error
    return ImageFacts(grey, deep, tuple(sides), tuple(aspects))


def recipe_for(request: TrainingRequest, facts: ImageFacts, *, n_images: int, sizes: ObjectSizes | None,
               init: ModelCard | None) -> Recipe:
    """The recipe for a task.

    sizes: of the objects, where instances are to be learnt. init: the card of the model to start from, whose network and
    scale of intensities are taken over.
    """
    channels: Literal[1, 3] = init.channels if init is not None else 1 if facts.grey else 3
    resize, detection, crop_px = None, None, _CROP_PX
    if request.task is Task.CLASSIFICATION:
        resize = init.resize if init is not None and init.resize is not None else _resize(facts)
        crop_px = resize.crop_px
    if sizes is not None:
        detection = init.detection if init is not None and init.detection is not None else detection_for(sizes)
        crop_px = max(_STRIDE_PX, int(_SCALED_CROP_PX / (detection.scale or 1) / _STRIDE_PX) * _STRIDE_PX)
    if resize is None:
        crop_px = min(crop_px, -(-min(facts.shorter_sides_px) // _STRIDE_PX) * _STRIDE_PX)
    arch, encoder = _network(request, init)
    return Recipe(
        family=_FAMILY[request.task], arch=arch, encoder=encoder, channels=channels,
        normalisation=init.normalisation if init is not None and request.scale is None
        else _normalisation(request, facts, channels), crop_px=crop_px, resize=resize, detection=detection,
        variation=_variation(request), course=_course(request, n_images))


def _resize(facts: ImageFacts) -> Resize:
    """Images that are about square are seen by their middle; of others all is seen, since what counts may lie anywhere."""
    aspects = np.asarray(facts.aspects)
    side = fitting_crop_px(np.asarray(facts.shorter_sides_px) * np.sqrt(aspects))
    return Resize(shorter_side_px=side, crop_px=side, fit=Fit.PAD if float(np.median(aspects)) > _SQUARE else Fit.CROP)


def _network(request: TrainingRequest, init: ModelCard | None) -> tuple[str, str | None]:
    if request.task is Task.CLASSIFICATION:
        if request.encoder is not None and request.arch is not None and request.encoder != request.arch:
            raise ConfigError(f"--encoder: a classifier is all encoder; expected --arch alone, got {request.arch!r} and "
                              f"{request.encoder!r}")
        return request.arch or request.encoder or (init.arch if init is not None else LITE0_ARCH), None
    arch, encoder = (init.arch, init.encoder) if init is not None else _ARCH[request.task]
    return request.arch or arch, request.encoder or encoder


def _normalisation(request: TrainingRequest, facts: ImageFacts, channels: int) -> Normalisation:
    """Intensities of 16 bits mean something else in each image: there the image's own percentiles make the scale."""
    scale = request.scale or (IntensityScale.PERCENTILE if facts.deep else IntensityScale.DTYPE)
    return Normalisation(scale=scale, mean=(_LITE0_SCALE,) * channels, std=(_LITE0_SCALE,) * channels)


def _variation(request: TrainingRequest) -> Variation:
    if request.task is Task.CLASSIFICATION:  # a class may be told by which way it faces: nothing is mirrored unasked
        return Variation(request.domain or Domain.DOCUMENT, scales=(0.85, 1.2), angle_deg=7.0, elastic_share=0.3,
                         elastic=0.02, blur_share=0.1)
    return Variation(request.domain or Domain.PHOTO)


def _course(request: TrainingRequest, n_images: int) -> Course:
    """15 epochs, but at least 2,400 examples, and where that is more than 24,000, no fewer than 8 epochs."""
    batch = _BATCH[request.task]
    if request.epochs is not None:
        examples = request.epochs * n_images
    else:
        examples = max(_FEWEST_EXAMPLES, min(_EPOCHS * n_images, max(_MOST_EXAMPLES, _FEWEST_EPOCHS * n_images)))
    steps = max(1, math.ceil(examples / batch))
    return Course(steps=steps, batch=batch, round_steps=max(1, steps // _ROUNDS), patience_rounds=_PATIENCE,
                  learning_rate=_RATE[request.task], freeze_encoder=request.freeze_encoder, seed=request.seed,
                  threads=request.threads)
