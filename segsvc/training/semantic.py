"""What the training loop needs to know of semantic segmentation: crops with masks, their loss, Dice on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from segsvc import truth
from segsvc.card import ModelCard
from segsvc.datasets import Dataset, LabelledImage
from segsvc.segment import Stopwatch, score_rows
from segsvc.training.augment import Floats, Variation, draw_warp, shade, take
from segsvc.training.balance import turns
from segsvc.training.live import LivePredictor
from segsvc.training.pictures import Kept, Pictures
from segsvc.types import SCORE_ONE

_MOST_BYTES = 1 << 30
_MOST_PLACES = 256  # px of a class that are remembered of an image, to draw crops around
_AROUND_OBJECTS = 0.7  # of the crops lie around something; the others anywhere
_RARE = 0.01  # a class on fewer px than this share is learnt with focal loss
_SMOOTH_PX = 1.0


@dataclass(frozen=True, slots=True)
class _Truth:
    """The index mask of an image, and some px (y, x) of each class in it."""

    mask: npt.NDArray[np.uint8]
    places: Mapping[int, npt.NDArray[np.intp]]


@dataclass(frozen=True, slots=True)
class Crop:
    """Model input (C, side, side), the share of each class in each px (classes, side, side), and which px count."""

    pixels: Floats
    shares: Floats
    counts: npt.NDArray[np.bool_]  # (side, side)


class SemanticLesson:
    """Crops of images with index masks. Loss: binary cross-entropy (focal where a class is rare) and Dice, class by class.

    Dice: Milletari, Navab and Ahmadi, "V-Net" (2016). Focal: Lin et al., "Focal Loss for Dense Object Detection" (2017).
    """

    sees_batches = True

    def __init__(self, dataset: Dataset, learnt: Sequence[LabelledImage], held: Sequence[LabelledImage], *, card: ModelCard,
                 pictures: Pictures, variation: Variation, crop_px: int, seed: int) -> None:
        self._dataset, self._learnt, self._held = dataset, tuple(learnt), tuple(held)
        self._card, self._pictures, self._variation, self._crop_px, self._seed = card, pictures, variation, crop_px, seed
        self._mean = np.asarray(card.normalisation.mean, np.float32)
        self._std = np.asarray(card.normalisation.std, np.float32)
        self._images = {image.ref.uri: image for image in (*learnt, *held)}
        self._truths: Kept[str, _Truth] = Kept(self._read_truth, most_bytes=_MOST_BYTES)
        px = np.stack([self._class_px(image) for image in learnt])
        shown = px[:, 1: len(dataset.classes) + 1]
        shares = shown.sum(axis=0) / max(1, px[:, :truth.IGNORE].sum())
        self._rare = torch.from_numpy((shares < _RARE).astype(np.float32))
        self._turns = turns(shown.sum(axis=1) > 0)

    @property
    def size(self) -> int:
        """How many examples an epoch has: images in which something is come more than once where most are empty."""
        return len(self._turns)

    def sample(self, index: int, random: np.random.Generator) -> Crop:
        image = self._learnt[self._turns[index]]
        width, height = self._pictures.size_px(image.ref)
        known = self._truths[image.ref.uri]
        warp = draw_warp(random, self._variation, side_px=self._crop_px, middle=_middle(random, known, width, height))
        window = warp.window(width, height)
        pixels = take(self._pictures.window(image.ref, window), warp, window)
        mask = np.ascontiguousarray(known.mask[window.y0: window.y1, window.x0: window.x1])
        counts = take((mask != truth.IGNORE).astype(np.uint8), warp, window, interpolation=cv2.INTER_NEAREST)
        shares = [take((mask == number + 1).astype(np.float32), warp, window)
                  for number in range(len(self._dataset.classes))]
        shaded = (shade(random, pixels.astype(np.float32), self._variation) - self._mean) / self._std
        return Crop(np.ascontiguousarray(np.moveaxis(shaded, 2, 0)), np.stack(shares).astype(np.float32),
                    counts.astype(np.bool_))

    def losses(self, network: torch.nn.Module, samples: Sequence[Crop]) -> torch.Tensor:
        device = next(network.parameters()).device
        pixels = torch.from_numpy(np.stack([each.pixels for each in samples])).to(device)
        shares = torch.from_numpy(np.stack([each.shares for each in samples])).to(device)
        counts = torch.from_numpy(np.stack([each.counts for each in samples])).to(device)[:, None]
        raw = network(pixels.contiguous(memory_format=torch.channels_last)).float()
        return semantic_losses(raw, shares, counts, rare=self._rare.to(device))

    def validate(self, network: torch.nn.Module) -> Mapping[str, float]:
        """Dice at 0.5 over all px of the held images, class by class; the score is their mean."""
        if not self._held:
            return {}
        classes = len(self._dataset.classes)
        both, said, true = (np.zeros(classes) for _ in range(3))
        live = LivePredictor(network, self._card)
        for image in self._held:
            mask, top = self._truths[image.ref.uri].mask, 0
            with self._pictures.source(image.ref) as source:
                for rows in score_rows(source, live, watch=Stopwatch()):
                    of_rows = mask[top: top + rows.shape[1]]
                    top += rows.shape[1]
                    for number in range(classes):
                        is_said = (rows[number] > SCORE_ONE // 2) & (of_rows != truth.IGNORE)
                        is_true = of_rows == number + 1
                        both[number] += int((is_said & is_true).sum())
                        said[number] += int(is_said.sum())
                        true[number] += int(is_true.sum())
        dice = 2 * both / np.maximum(said + true, 1)
        mean = float(dice[true > 0].mean()) if (true > 0).any() else 0.0
        return {"score": mean, "dice": mean}

    def _read_truth(self, uri: str) -> tuple[_Truth, int]:
        image = self._images[uri]
        width, height = self._pictures.size_px(image.ref)
        mask = truth.index_mask(image, self._dataset, width_px=width, height_px=height)
        random = np.random.default_rng((self._seed, 3))
        places = {}
        for value in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist():
            if value not in (0, truth.IGNORE):
                at = np.flatnonzero(mask == value)
                chosen = np.sort(random.choice(at, min(_MOST_PLACES, len(at)), replace=False))
                places[value] = np.stack(np.unravel_index(chosen, mask.shape), axis=1)
        return _Truth(mask, places), mask.nbytes

    def _class_px(self, image: LabelledImage) -> npt.NDArray[np.int64]:
        """(256,) how many px of an image hold each value."""
        return np.bincount(self._truths[image.ref.uri].mask.ravel(), minlength=256)


def semantic_losses(raw: torch.Tensor, shares: torch.Tensor, counts: torch.Tensor, *, rare: torch.Tensor) -> torch.Tensor:
    """(n,) losses of raw outputs (n, classes, h, w) against shares of the same shape, over px that count (n, 1, h, w).

    rare: (classes,) 1 where cross-entropy is weighed by (1 - p of the truth) ** 2.
    """
    weight = counts.float()
    n_px = weight.sum(dim=(2, 3)).clamp(min=1)
    scores = raw.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(raw, shares, reduction="none")
    wrong = (scores - shares).abs()
    focal = torch.where(rare[None, :, None, None] > 0, wrong.detach() ** 2, torch.ones_like(wrong))
    cross = (entropy * focal * weight).sum(dim=(2, 3)) / n_px
    both = (scores * shares * weight).sum(dim=(2, 3))
    sizes = ((scores + shares) * weight).sum(dim=(2, 3))
    shown = (shares * weight).sum(dim=(2, 3)) >= _SMOOTH_PX
    dice = torch.where(shown, 1 - (2 * both + _SMOOTH_PX) / (sizes + _SMOOTH_PX), torch.zeros_like(both))
    return (cross + dice).mean(dim=1)


def _middle(random: np.random.Generator, known: _Truth, width_px: int, height_px: int) -> tuple[float, float]:
    """Where a crop lies: around some px of some class, each as often as the others, or anywhere."""
    if known.places and random.random() < _AROUND_OBJECTS:
        places = known.places[int(random.choice(sorted(known.places)))]
        y, x = places[random.integers(len(places))]
        return float(x), float(y)
    return random.uniform(0, width_px), random.uniform(0, height_px)
