"""What the training loop needs to know of classification: whole images in varied views, their loss, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from segsvc.card import Activation, Fit, ModelCard, Resize
from segsvc.datasets import Dataset, LabelledImage
from segsvc.imaging.intensity import affine, to_channels, to_input
from segsvc.imaging.resizing import model_view
from segsvc.training.augment import Floats, Variation, draw_warp, shade, take
from segsvc.training.pictures import Kept, Pictures
from segsvc.truth import class_names
from segsvc.types import Box, ImageRef

_SMOOTHING = 0.05  # of labels, where an image has one class (Szegedy et al., 2016)
_KEPT_BYTES = 1 << 30
_FINER = 1.25  # images are kept this much finer than the model sees them


@dataclass(frozen=True, slots=True)
class View:
    """Model input (C, crop_px, crop_px), and which classes it shows (classes,)."""

    pixels: Floats
    shown: Floats


class ClassificationLesson:
    """Views of whole images. Loss: cross-entropy over classes, or binary cross-entropy where an image may show several."""

    sees_batches = True

    def __init__(self, dataset: Dataset, learnt: Sequence[LabelledImage], held: Sequence[LabelledImage], *,
                 card: ModelCard, resize: Resize, pictures: Pictures, variation: Variation) -> None:
        self._dataset, self._learnt, self._held = dataset, tuple(learnt), tuple(held)
        self._card, self._resize, self._pictures, self._variation = card, resize, pictures, variation
        self._mean = np.asarray(card.normalisation.mean, np.float32)
        self._std = np.asarray(card.normalisation.std, np.float32)
        self._refs = {image.ref.uri: image.ref for image in learnt}
        self._reduced: Kept[str, Floats] = Kept(self._reduce, most_bytes=_KEPT_BYTES)
        self._views: Kept[int, Floats] = Kept(self._held_view, most_bytes=_KEPT_BYTES)

    @property
    def size(self) -> int:
        return len(self._learnt)

    def sample(self, index: int, random: np.random.Generator) -> View:
        image = self._learnt[index]
        whole = self._reduced[image.ref.uri]
        height, width = whole.shape[:2]
        side = self._resize.crop_px
        low, high = self._variation.scales
        scale = _seen_scale(self._resize, width, height) * math.exp(random.uniform(math.log(low), math.log(high)))
        free = max(side / scale, 1.0) * 0.08  # how far the middle may lie beside that of the image
        long_way = np.maximum(np.array([width, height]) - side / scale, 0.0) / 2  # what a crop could leave out
        middle = np.array([width, height]) / 2 + random.uniform(-1, 1, 2) * (free + 0.5 * long_way)
        warp = draw_warp(random, self._variation, side_px=side, middle=(float(middle[0]), float(middle[1])), scale=scale)
        how = cv2.INTER_CUBIC if scale > 1 and self._resize.interpolation == "bicubic" else cv2.INTER_LINEAR
        pixels = take(whole, warp, Box(0, 0, width, height), interpolation=how,
                      outside=0.0 if self._resize.fit is Fit.PAD else None)
        shaded = (shade(random, pixels.astype(np.float32), self._variation) - self._mean) / self._std
        return View(np.ascontiguousarray(np.moveaxis(shaded, 2, 0)), self._shown(image))

    def losses(self, network: torch.nn.Module, samples: Sequence[View]) -> torch.Tensor:
        device = next(network.parameters()).device
        pixels = torch.from_numpy(np.stack([each.pixels for each in samples])).to(device)
        shown = torch.from_numpy(np.stack([each.shown for each in samples])).to(device)
        raw = network(pixels.contiguous(memory_format=torch.channels_last)).float()
        return classification_losses(raw, shown, exclusive=self._card.activation is Activation.SOFTMAX, smooth=_SMOOTHING)

    def validate(self, network: torch.nn.Module) -> Mapping[str, float]:
        """Accuracy (or the share of right answers per class) and, which counts, the log loss: `score` is its negative."""
        device, exclusive = next(network.parameters()).device, self._card.activation is Activation.SOFTMAX
        losses, right = [], []
        if not self._held:
            return {}
        with torch.inference_mode():
            for number, image in enumerate(self._held):
                raw = network(torch.from_numpy(self._views[number]).to(device)).float()
                shown = torch.from_numpy(self._shown(image))[None].to(device)
                losses.append(float(classification_losses(raw, shown, exclusive=exclusive, smooth=0.0)[0]))
                right.append(float(raw.argmax() == shown.argmax()) if exclusive
                             else float(((raw > 0) == (shown > 0)).float().mean()))
        return {"score": -float(np.mean(losses)), "accuracy": float(np.mean(right))}

    def _shown(self, image: LabelledImage) -> Floats:
        names = class_names(image)
        return np.array([name in names for name in self._dataset.classes], np.float32)

    def _reduce(self, uri: str) -> tuple[Floats, int]:
        """The image, no finer than it is of use."""
        ref = self._refs[uri]
        width, height = self._pictures.size_px(ref)
        pixels = self._pictures.window(ref, Box(0, 0, width, height))
        factor = _FINER * max(self._variation.scales) * _seen_scale(self._resize, width, height)
        if factor < 1:
            size = max(1, round(width * factor)), max(1, round(height * factor))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], pixels.shape[2])
        return pixels, pixels.nbytes

    def _held_view(self, number: int) -> tuple[Floats, int]:
        """(1, C, crop_px, crop_px): what the model is given of an image at inference."""
        view = held_view(self._pictures, self._held[number].ref, self._card, self._resize)
        return view, view.nbytes


def _seen_scale(resize: Resize, width_px: int, height_px: int) -> float:
    """How many px of the model's view a px of the image becomes."""
    if resize.fit is Fit.PAD:
        return resize.crop_px / max(width_px, height_px)
    return resize.shorter_side_px / min(width_px, height_px)


def held_view(pictures: Pictures, ref: ImageRef, card: ModelCard, resize: Resize) -> Floats:
    """(1, C, crop_px, crop_px) float32, model input: what a classifier is given of an image at inference."""
    with pictures.source(ref) as source:
        view = to_channels(model_view(source, resize), card.channels)
        return to_input(view, affine(card.normalisation, dtype=source.dtype, sample=view))


def classification_losses(raw: torch.Tensor, shown: torch.Tensor, *, exclusive: bool, smooth: float) -> torch.Tensor:
    """(n,) losses of raw outputs (n, classes) against which classes are shown, 0 or 1, of the same shape."""
    if exclusive:
        return functional.cross_entropy(raw, shown.argmax(dim=1), reduction="none", label_smoothing=smooth)
    target = shown * (1 - smooth) + smooth / 2
    return functional.binary_cross_entropy_with_logits(raw, target, reduction="none").mean(dim=1)


def fitting_crop_px(sides_px: npt.NDArray[np.float64]) -> int:
    """The side of the model's view for images of these sides (roots of areas): no larger than serves, a multiple of 32.

    Small images are enlarged, since a network of stride 32 sees nothing in a digit of 20 px.
    """
    middle = float(np.median(sides_px))
    wanted = 3 * middle if middle < 64 else middle
    return int(np.clip(math.ceil(wanted / 32) * 32, 64, 224))
