"""Writes the data sets of the packaged models of nuclei: `python -m segsvc.training.nuclei_data --out DIR`.

Real: the fluorescence image `img2d.tif` of StarDist (512 x 512 px, 125 labelled nuclei, BSD-3-Clause). Models learn from
its left half, columns 0 to 255, cut into strips; the right half is the split `test`. A nucleus that a cut parts is a nucleus
on each side. Photographs of scikit-image (CC0), and noise that is generated here, are learnt from as images in which nothing
is: a percentile scale makes noise loud.

DIR/semantic holds index masks, DIR/instances COCO annotations, both over the same images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segsvc.errors import ConfigError
from segsvc.imaging import masks
from segsvc.settings import settings

NAME = "nucleus"
PLAIN_PHOTOS = ("brick.png", "grass.png", "gravel.png", "chelsea.png", "coffee.png")  # CC0
STRIPS = 4
NOISES, NOISE_PX = 6, 256
_SEED = 0

Pixels = npt.NDArray[Any]  # (h, w), uint8 or uint16
Labels = npt.NDArray[np.uint16]  # (h, w): 0 is background, each nucleus has a number of its own


def read_image(assets: Path) -> tuple[Pixels, Labels]:
    """The image and its labels, uint16 (512, 512). Raises ConfigError where a file is missing or another image."""
    pixels, labels = (_read(assets / name) for name in ("img2d.tif", "mask2d.tif"))
    if not pixels.shape == labels.shape == (512, 512) or not pixels.dtype == labels.dtype == np.uint16:
        raise ConfigError(f"{assets}: expected img2d.tif and mask2d.tif of uint16 (512, 512), got "
                          f"{pixels.dtype} {pixels.shape} and {labels.dtype} {labels.shape}")
    return pixels, labels


def images(assets: Path) -> dict[str, dict[str, tuple[Pixels, Labels]]]:
    """Split -> name -> pixels and labels."""
    pixels, labels = read_image(assets)
    half, rows = pixels.shape[1] // 2, pixels.shape[0] // STRIPS
    learnt = {f"left-{strip}": (pixels[strip * rows: (strip + 1) * rows, :half],
                                labels[strip * rows: (strip + 1) * rows, :half]) for strip in range(STRIPS)}
    for name in PLAIN_PHOTOS:
        photo = _read(assets / name, cv2.IMREAD_GRAYSCALE)
        learnt[f"photo-{Path(name).stem}"] = photo, np.zeros(photo.shape, np.uint16)
    for number in range(NOISES):
        learnt[f"noise-{number}"] = noise(number), np.zeros((NOISE_PX, NOISE_PX), np.uint16)
    return {"train": learnt, "test": {"right": (pixels[:, half:], labels[:, half:])}}


def noise(number: int) -> npt.NDArray[np.uint16]:
    """(256, 256) uint16: grain, grain that was smoothed, a ramp under it, or clouds; generated, the same each time."""
    random = np.random.default_rng((_SEED, number))
    grain = random.normal(size=(NOISE_PX, NOISE_PX)).astype(np.float32)
    if number % 3:
        grain = cv2.GaussianBlur(grain, (0, 0), 0.6 * 2 ** (number % 4))
    grain /= grain.std()
    if number % 2:
        grain = grain + np.linspace(-2, 2, NOISE_PX, dtype=np.float32)
    if number >= NOISES // 2:
        clouds = random.normal(size=(4, 4)).astype(np.float32)
        grain = grain + cv2.resize(clouds, (NOISE_PX, NOISE_PX), interpolation=cv2.INTER_CUBIC)
    return np.clip(2000 + 300 * grain, 0, 65535).astype(np.uint16)


def write(assets: Path, out: Path) -> None:
    """Writes both data sets; the same bytes each time."""
    for split, of_split in images(assets).items():
        listed, annotations = [], []
        for number, (name, (pixels, labels)) in enumerate(sorted(of_split.items())):
            _write(out / "semantic" / split / "images" / f"{name}.png", pixels)
            _write(out / "semantic" / split / "masks" / f"{name}.png", (labels > 0).astype(np.uint8))
            _write(out / "instances" / split / f"{name}.png", pixels)
            listed.append({"id": number, "file_name": f"{name}.png", "width": labels.shape[1], "height": labels.shape[0]})
            annotations += [{"image_id": number, **each} for each in _annotations(labels)]
        document = {"images": listed, "categories": [{"id": 1, "name": NAME}],
                    "annotations": [{"id": number + 1, **each} for number, each in enumerate(annotations)]}
        (out / "instances" / split / "annotations.json").write_text(json.dumps(document) + "\n")
    (out / "semantic" / "classes.txt").write_text(f"background\n{NAME}\n")


def _annotations(labels: Labels) -> list[dict[str, Any]]:
    found = []
    for value in np.unique(labels[labels > 0]).tolist():
        mask = labels == value
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]
        found.append({"category_id": 1, "iscrowd": 0, "bbox": box, "area": int(mask.sum()),
                      "segmentation": {"size": list(mask.shape), "counts": masks.encode(mask).decode()}})
    return found


def _read(path: Path, how: int = cv2.IMREAD_UNCHANGED) -> Pixels:
    image = cv2.imread(str(path), how)
    if image is None:
        raise ConfigError(f"{path}: expected a fetched image, got none that can be read. Run `segsvc models pull`.")
    return np.asarray(image)


def _write(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), pixels):
        raise ConfigError(f"{path}: expected a place that can be written")


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m segsvc.training.nuclei_data", description="Writes the data sets.")
    parser.add_argument("--assets", type=Path, default=settings().assets_dir, help="folder of the fetched files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the data sets")
    given = parser.parse_args()
    write(given.assets, given.out)


if __name__ == "__main__":
    main()
