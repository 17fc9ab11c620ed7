"""Small labelled sets of generated scenes: bright discs and bars on grey ground, an image a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from segsvc.imaging import masks

CLASSES = ("disc", "bar")


def scene(seed: int, *, side_px: int = 64) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Pixels (side, side, 3) and index mask (side, side): 0 ground, 1 disc, 2 bar; nothing overlaps."""
    random = np.random.default_rng(seed)
    mask = np.zeros((side_px, side_px), np.uint8)
    half = side_px // 2
    for number, corner in enumerate(random.permutation(4)[: random.integers(1, 4)].tolist()):
        x, y = (corner % 2) * half + half // 2, (corner // 2) * half + half // 2
        if (seed + number) % 2:
            cv2.circle(mask, (x, y), int(random.integers(6, half // 2 - 1)), 1, -1)
        else:
            cv2.rectangle(mask, (x - half // 2 + 3, y - 4), (x + half // 2 - 4, y + 3), 2, -1)
    pixels = random.normal(90, 12, (side_px, side_px, 3))
    pixels[mask == 1] += (70, 0, 0)
    pixels[mask == 2] += (0, 0, 80)
    return np.clip(pixels, 0, 255).astype(np.uint8), mask


def write_image(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels)


def mask_folder(folder: Path, **splits: int) -> Path:
    """A set of images/ and masks/, so many images a split; one without splits for `images=N`."""
    seed = 0
    for split, count in splits.items():
        for _ in range(count):
            pixels, mask = scene(seed)
            place = folder if split == "images" else folder / split
            write_image(place / "images" / f"scene-{seed}.png", pixels)
            write_image(place / "masks" / f"scene-{seed}.png", mask)
            seed += 1
    (folder / "classes.txt").write_text("\n".join(("ground", *CLASSES)) + "\n")
    return folder


def coco(folder: Path, **splits: int) -> Path:
    """A COCO set with a mask for each object."""
    seed = 0
    for split, count in splits.items():
        images, annotations = [], []
        for _ in range(count):
            pixels, mask = scene(seed)
            write_image(folder / split / f"scene-{seed}.png", pixels)
            images.append({"id": seed, "file_name": f"scene-{seed}.png", "width": 64, "height": 64})
            _, parts, stats, _ = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8))
            for part in range(1, len(stats)):
                one = parts == part
                annotations.append({
                    "id": len(annotations) + 1, "image_id": seed, "category_id": int(mask[one][0]), "iscrowd": 0,
                    "bbox": [int(value) for value in stats[part][:4]], "area": int(stats[part][4]),
                    "segmentation": {"size": [64, 64], "counts": masks.encode(one).decode()}})
            seed += 1
        categories = [{"id": number + 1, "name": name} for number, name in enumerate(CLASSES)]
        (folder / split / "annotations.json").write_text(json.dumps(
            {"images": images, "annotations": annotations, "categories": categories}))
    return folder


def class_folder(folder: Path, **splits: int) -> Path:
    """A folder per class: what is in the middle, disc or bar; so many images of each class a split."""
    seed = 0
    for split, count in splits.items():
        for number in range(2 * count):
            random = np.random.default_rng((1, seed))
            pixels = random.normal(90, 12, (48, 40, 3)).astype(np.float32)
            if number % 2:
                cv2.circle(pixels, (20, 24), int(random.integers(8, 14)), (200, 60, 60), -1)
            else:
                cv2.rectangle(pixels, (4, 18), (34, int(random.integers(24, 32))), (60, 60, 200), -1)
            name = CLASSES[0] if number % 2 else CLASSES[1]
            write_image(folder / split / name / f"{seed}.png", np.clip(pixels, 0, 255).astype(np.uint8))
            seed += 1
    return folder


def label_table(folder: Path, images: int) -> Path:
    """A table of images with the classes that each shows: one, both or none."""
    rows = []
    for seed in range(images):
        pixels, mask = scene(seed)
        write_image(folder / "pictures" / f"scene-{seed}.png", pixels)
        shown = [name for number, name in enumerate(CLASSES) if (mask == number + 1).any()]
        rows.append((f"pictures/scene-{seed}.png", "|".join(shown)))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("uri", "labels"), *rows])
    return folder / "labels.csv"
