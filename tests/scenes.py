"""Generated scenes whose truth is known: bright boxes and discs on a dark ground. No real images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from segsvc.types import Box

Gray = npt.NDArray[np.uint8]


def scene(seed: int, *, width_px: int = 160, height_px: int = 120, objects: int = 5) -> Gray:
    """(height_px, width_px) uint8: dark noise with bright discs."""
    random = np.random.default_rng(seed)
    image = random.integers(5, 40, (height_px, width_px)).astype(np.uint8)
    for _ in range(objects):
        centre = (int(random.integers(0, width_px)), int(random.integers(0, height_px)))
        cv2.circle(image, centre, int(random.integers(3, 14)), int(random.integers(170, 250)), -1)
    return image


def boxes_scene(boxes: list[Box], *, width_px: int, height_px: int) -> Gray:
    """(height_px, width_px) uint8: black, and white where the boxes are."""
    image = np.zeros((height_px, width_px), np.uint8)
    for box in boxes:
        image[box.y0: box.y1, box.x0: box.x1] = 255
    return image


def write_scenes(folder: Path, count: int, *, first_seed: int = 0) -> list[Path]:
    """`count` PNGs of generated scenes, in the order in which a run lists them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"scene-{number:05d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), scene(first_seed + number))
    return paths
