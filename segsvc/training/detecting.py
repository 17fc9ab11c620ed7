"""How a small Mask R-CNN is built for the objects of a data set: its scale, anchors and numbers, out of their sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segsvc.card import Detection

_WANTED_PX = 40.0  # how large the middle object should be where the network looks at it
_MOST_ENLARGED = 4.0
_STRIDES = (4, 8, 16, 32)
_LEVEL_RANGE = 2.0  # two levels' anchors differ by no more than this where the objects' sizes allow
_CHANNELS = 96
_MOST_PROPOSALS, _FEWEST_PROPOSALS = 1000, 300
_RATIOS = (0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class ObjectSizes:
    """The objects of a data set: sides_px (n,), the roots of their boxes' areas; ratios (n,), height / width; the most in
    one image."""

    sides_px: npt.NDArray[np.float64]
    ratios: npt.NDArray[np.float64]
    most: int


def detection_for(sizes: ObjectSizes) -> Detection:
    """The settings of the arch "fpn" for objects of these sizes.

    Small objects are enlarged, since a network of stride 4 does not see what is smaller than some of its px. Anchors go in
    even steps of their logarithm from the small to the large objects (the 5th and the 95th percentile), a size a level.
    """
    middle = float(np.median(sizes.sides_px))
    scale = float(np.clip(round(2 * _WANTED_PX / middle) / 2, 1.0, _MOST_ENLARGED))
    low, high = (float(value) * scale for value in np.percentile(sizes.sides_px, (5, 95)))
    levels = int(np.clip(1 + math.ceil(math.log(max(high / low, 1.0), _LEVEL_RANGE)), 2, len(_STRIDES)))
    steps = np.exp(np.linspace(math.log(low), math.log(max(high, low * 1.2)), levels))
    most = int(np.clip(4 * sizes.most, 100, 1000))
    narrow = float(np.percentile(np.abs(np.log(sizes.ratios)), 90)) < math.log(1.6)
    return Detection(
        scale=scale, strides=_STRIDES[:levels], pooled_level=False, channels=_CHANNELS,
        anchor_sizes_px=tuple((round(float(step), 1),) for step in steps), anchor_ratios=(1.0,) if narrow else _RATIOS,
        proposals=int(np.clip(6 * sizes.most, _FEWEST_PROPOSALS, _MOST_PROPOSALS)),
        proposals_per_level=_MOST_PROPOSALS, most=most, train_proposals=_MOST_PROPOSALS,
        train_proposals_per_level=_MOST_PROPOSALS, train_rois=160, box_layers=(256, 256), mask_convs=(_CHANNELS,) * 4)


def object_sizes(boxes: Sequence[Sequence[tuple[int, int]]]) -> ObjectSizes:
    """boxes: for each image, width and height in px of each of its objects. Raises ValueError where there is none."""
    flat = np.array([size for of_image in boxes for size in of_image], np.float64).reshape(-1, 2)
    if not len(flat):
        raise ValueError("expected at least one object, got none")
    return ObjectSizes(np.sqrt(flat.prod(axis=1)), flat[:, 1] / np.maximum(flat[:, 0], 1), max(map(len, boxes)))
