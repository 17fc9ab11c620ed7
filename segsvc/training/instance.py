"""What the training loop needs to know of instance segmentation: crops with objects, Mask R-CNN's losses, AP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from segsvc import truth
from segsvc.card import ModelCard
from segsvc.datasets import Dataset, LabelledImage, TrueObject
from segsvc.evaluation import compared, observe, summarise
from segsvc.imaging import masks
from segsvc.readers import ReadLimits
from segsvc.training.augment import Floats, Variation, Warp, draw_warp, shade, take
from segsvc.training.balance import turns
from segsvc.training.live import LivePredictor
from segsvc.training.norms import RunningEvenly
from segsvc.training.pictures import Pictures
from segsvc.types import Box

_AROUND_OBJECTS = 0.8  # of the crops lie around some object; the others anywhere
_LEAST_PX = 6  # of an object in a crop: of less nothing can be learnt
_LEAST_SHARE = 0.15  # of an object that must lie in the crop


@dataclass(frozen=True, slots=True)
class ObjectCrop:
    """Model input (C, side, side) and the objects in it: boxes (n, 4) xyxy, labels (n,) from 1, masks (n, side, side).

    seed: of what Mask R-CNN draws when it learns from it, so that its loss does not depend on its place in a batch.
    """

    pixels: Floats
    boxes: Floats
    labels: npt.NDArray[np.int64]
    masks: npt.NDArray[np.uint8]
    seed: int


class InstanceLesson:
    """Crops of images with their objects. Loss: the sum of Mask R-CNN's five (He et al., 2017), image by image."""

    sees_batches = False

    def __init__(self, dataset: Dataset, learnt: Sequence[LabelledImage], held: Sequence[LabelledImage], *, card: ModelCard,
                 pictures: Pictures, variation: Variation, crop_px: int, limits: ReadLimits) -> None:
        self._dataset, self._learnt, self._held = dataset, tuple(learnt), tuple(held)
        self._card, self._pictures, self._variation, self._crop_px = card, pictures, variation, crop_px
        self._limits = limits
        self._mean = np.asarray(card.normalisation.mean, np.float32)
        self._std = np.asarray(card.normalisation.std, np.float32)
        self._objects = [self._objects_of(image) for image in learnt]
        self._hidden = [self._hidden_in(image) for image in learnt]
        self._turns = turns(np.array([bool(objects) for objects in self._objects]))

    @property
    def size(self) -> int:
        return len(self._turns)

    def sample(self, index: int, random: np.random.Generator) -> ObjectCrop:
        image, objects = self._learnt[self._turns[index]], self._objects[self._turns[index]]
        width, height = self._pictures.size_px(image.ref)
        middle = random.uniform(0, width), random.uniform(0, height)
        if objects and random.random() < _AROUND_OBJECTS:
            box = objects[random.integers(len(objects))].box
            middle = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
            shift = random.uniform(-0.25, 0.25, 2) * self._crop_px / max(self._variation.scales)
            middle = middle[0] + shift[0], middle[1] + shift[1]
        warp = draw_warp(random, self._variation, side_px=self._crop_px, middle=middle)
        window = warp.window(width, height)
        pixels = take(self._visible(self._turns[index], window), warp, window, outside=0.0)
        shaded = (shade(random, pixels.astype(np.float32), self._variation) - self._mean) / self._std
        boxes, labels, shapes = self._warped(objects, warp, window)
        return ObjectCrop(np.ascontiguousarray(np.moveaxis(shaded, 2, 0)), boxes, labels, shapes,
                          seed=int(random.integers(2**62)))

    def losses(self, network: torch.nn.Module, samples: Sequence[ObjectCrop]) -> torch.Tensor:
        device = next(network.parameters()).device
        losses = []
        with RunningEvenly(network) as running:
            for each in samples:  # one by one: torchvision's losses are means over a batch's anchors, not over its images
                target = {"boxes": torch.from_numpy(each.boxes).to(device),
                          "labels": torch.from_numpy(each.labels).to(device),
                          "masks": torch.from_numpy(each.masks).to(device)}
                torch.manual_seed(each.seed)
                answer: dict[str, torch.Tensor] = network([torch.from_numpy(each.pixels).to(device)], [target])
                losses.append(torch.stack([value.float() for value in answer.values()]).sum())
                running.saw_one()
        return torch.stack(losses)

    def validate(self, network: torch.nn.Module) -> Mapping[str, float]:
        """AP at IoU 0.5, and over IoU 0.5 to 0.95, which counts with half its weight."""
        if not self._held:
            return {}
        live = LivePredictor(network, self._card)
        seen = [observe(image, self._dataset, live, self._limits) for image in self._held]
        summary = summarise(seen, compared(self._card, self._dataset).names, self._card.task, seed=0, resamples=0, slices=())
        ap50, ap = (summary.figures[name].value or 0.0 for name in ("ap50", "ap"))
        return {"score": (ap50 + ap) / 2, "ap50": ap50, "ap": ap}

    def _visible(self, number: int, window: Box) -> Floats:
        """The px of a window of a learnt image; black where labels say to ignore them: nothing is learnt there."""
        pixels = self._pictures.window(self._learnt[number].ref, window)
        if not self._hidden[number]:
            return pixels
        shown = [(each.mask_rle or b"", each.box, 0) for each in self._objects[number]]
        is_hidden = masks.compose([*self._hidden[number], *shown], window=window) == 1
        return np.where(is_hidden[:, :, None], np.float32(0), pixels)

    def _hidden_in(self, image: LabelledImage) -> tuple[tuple[bytes, Box, int], ...]:
        """What the labels say to ignore, as layers of a mask."""
        width, height = self._pictures.size_px(image.ref)
        return tuple((each.mask_rle if each.mask_rle is not None else masks.encode(
            np.ones((each.box.height_px, each.box.width_px), np.bool_)), each.box, 1)
            for each in truth.objects(image, self._dataset, width_px=width, height_px=height) if each.ignored)

    def _objects_of(self, image: LabelledImage) -> tuple[TrueObject, ...]:
        width, height = self._pictures.size_px(image.ref)
        return tuple(each for each in truth.objects(image, self._dataset, width_px=width, height_px=height)
                     if each.mask_rle is not None and not each.ignored)

    def _warped(self, objects: Sequence[TrueObject], warp: Warp,
                window: Box) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """The objects as the crop shows them: those of which enough is in it."""
        boxes, labels, shapes = [], [], []
        for each in objects:
            box = each.box
            if box.x1 <= window.x0 or box.x0 >= window.x1 or box.y1 <= window.y0 or box.y0 >= window.y1:
                continue
            mask = masks.decode(each.mask_rle or b"", height_px=box.height_px, width_px=box.width_px)
            shape = take(mask.view(np.uint8), warp, box, interpolation=cv2.INTER_NEAREST, outside=0.0).astype(np.uint8)
            rows, columns = np.flatnonzero(shape.any(axis=1)), np.flatnonzero(shape.any(axis=0))
            if shape.sum() < max(_LEAST_PX, _LEAST_SHARE * mask.sum() * warp.scale**2):
                continue
            boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
            labels.append(self._dataset.classes.index(each.class_name) + 1)
            shapes.append(shape)
        side = self._crop_px
        return (np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64),
                np.stack(shapes) if shapes else np.zeros((0, side, side), np.uint8))
