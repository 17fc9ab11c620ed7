"""What the tests of data sets share: small images with bytes of their own, masks, COCO files, and problems by kind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segsvc.datasets import Dataset, Problem, ProblemKind, Severity

WIDTH_PX, HEIGHT_PX = 32, 24
CATEGORIES = ({"id": 1, "name": "disc"}, {"id": 2, "name": "bar"})
SQUARE = [[4.0, 4.0, 12.0, 4.0, 12.0, 12.0, 4.0, 12.0]]


def write_image(path: Path, *, seed: int, width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> Path:
    """A grey image of noise."""
    noise = np.random.default_rng(seed).integers(0, 200, (height_px, width_px)).astype(np.uint8)
    return write_mask(path, noise)


def write_mask(path: Path, values: npt.NDArray[Any]) -> Path:
    """An image of these very values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix.lower(), values)[1].tobytes())
    return path


def mask_of(*values: int) -> npt.NDArray[np.uint8]:
    """(HEIGHT_PX, WIDTH_PX): background, and a square of 4 x 4 px for each value, side by side."""
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    for at, value in enumerate(values):
        mask[2:6, 6 * at + 1: 6 * at + 5] = value
    return mask


def write_masked(
    folder: Path, masks: Mapping[str, npt.NDArray[Any]], *, classes: Iterable[str] | None = ("disc", "bar"),
) -> None:
    """`images/` and `masks/` with these masks by their stems."""
    for seed, (stem, mask) in enumerate(masks.items()):
        write_image(folder / "images" / f"{stem}.png", seed=seed + 1000 * len(str(folder)))
        write_mask(folder / "masks" / f"{stem}.png", mask)
    if classes is not None:
        (folder / "classes.txt").write_text("\n".join(["background", *classes]) + "\n", encoding="utf-8")


def image_entry(number: int, name: str, **more: Any) -> dict[str, Any]:
    """An image of a COCO file."""
    return {"id": number, "file_name": name, "width": WIDTH_PX, "height": HEIGHT_PX, **more}


def write_coco(folder: Path, images: Iterable[Any], annotations: Iterable[Any], *, categories: Iterable[Any] = CATEGORIES,
               name: str = "annotations.json") -> Path:
    """A COCO file; its images are not written."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"images": list(images), "annotations": list(annotations), "categories": list(categories)}
    (folder / name).write_text(json.dumps(document), encoding="utf-8")
    return folder


def write_classes(folder: Path, names: Iterable[str]) -> None:
    """A small image at each of these relative paths."""
    for seed, name in enumerate(names):
        write_image(folder / name, seed=seed)


def names_of(dataset: Dataset) -> list[str]:
    """The last part of each image's URI."""
    return [image.ref.uri.rsplit("/", 1)[1] for image in dataset.images]


def kinds(problems: Iterable[Problem], severity: Severity = Severity.ERROR) -> list[ProblemKind]:
    """The kinds of the problems of that severity, in their order."""
    return [problem.kind for problem in problems if problem.severity is severity]


def the_problem(problems: Iterable[Problem], kind: ProblemKind) -> Problem:
    """The only problem of that kind."""
    (found,) = [problem for problem in problems if problem.kind is kind]
    return found
