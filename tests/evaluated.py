"""Labelled scenes, and predictors that answer what a test tells them: what evaluation is tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from segsvc.card import Activation, ClassNode, Detection, Extraction, ModelCard, Normalisation, Resize, Task
from segsvc.imaging.instances import Detections
from segsvc.models.runtime import Detected, Scored
from segsvc.types import SCORE_ONE, Box
from tests.scenes import scene

CLASSES_TXT = "background\nbright\n"
SMALL_MASK_PX = 28


def write_mask_set(folder: Path, count: int, *, splits: Sequence[str] = ("val", "test"), width_px: int = 160) -> Path:
    """A set of generated scenes with masks of what is bright; every fourth mask is wider than the truth, and the first rows
    are to be ignored."""
    for split in splits:
        (folder / split / "images").mkdir(parents=True)
        (folder / split / "masks").mkdir()
        for number in range(count):
            picture = scene(number + 100 * splits.index(split), width_px=width_px)
            mask = (picture > 150).astype(np.uint8)
            if number % 4 == 3:
                mask = cv2.dilate(mask, np.ones((3, 3), np.uint8))
            mask[:6] = 255
            cv2.imwrite(str(folder / split / "images" / f"{split}-{number:02d}.png"), picture)
            cv2.imwrite(str(folder / split / "masks" / f"{split}-{number:02d}.png"), mask)
    (folder / "classes.txt").write_text(CLASSES_TXT)
    return folder


def card_of(task: Task, classes: Sequence[str], *, extraction: Extraction | None = None) -> ModelCard:
    """A card of that task for images in grey of at most 64 px; its weights are nowhere."""
    return ModelCard(
        name="told", family="told", task=task, arch="told", classes=tuple(ClassNode(name=name) for name in classes),
        channels=1, weights_sha256="0" * 64, normalisation=Normalisation(mean=(0.0,), std=(1.0,)), tile_px=64, overlap_px=0,
        activation=Activation.SIGMOID, extraction=extraction or Extraction(), licence="Apache-2.0",
        resize=Resize(shorter_side_px=32, crop_px=32) if task is Task.CLASSIFICATION else None,
        detection=Detection() if task is Task.INSTANCE else None)


class ToldPredictor:
    """Answers each input with what stands for the brightness of its middle px: images of one tile have one each."""

    threads = 1
    flexible = True

    def __init__(self, card: ModelCard, answers: Mapping[int, Scored | Detected]) -> None:
        self.card = card
        self._answers = answers

    def submit(self, pixels: npt.NDArray[np.float32]) -> Future[Scored] | Future[Detected]:
        answer: Future[Scored | Detected] = Future()
        height, width = pixels.shape[2:]
        answer.set_result(self._answers[round(float(pixels[0, 0, height // 2, width // 2]) * 255)])
        return answer  # type: ignore[return-value]


def plain_image(place: Path, value: int, *, width_px: int = 64, height_px: int = 64) -> Path:
    """A grey image of one value, which names it to a `ToldPredictor`."""
    cv2.imwrite(str(place), np.full((height_px, width_px), value, np.uint8))
    return place


def scored(*scores: float) -> Scored:
    """A classifier's answer."""
    return Scored(np.rint(np.array(scores) * SCORE_ONE).astype(np.uint16), 0.0)


def detected(*objects: tuple[int, Box, float]) -> Detected:
    """A detector's answer: class numbers, boxes that the masks fill, and scores, the best first."""
    ordered = sorted(objects, key=lambda one: -one[2])
    return Detected(Detections(
        boxes=np.array([(box.x0, box.y0, box.x1, box.y1) for _, box, _ in ordered], np.float32).reshape(-1, 4),
        scores=np.array([round(score * SCORE_ONE) for *_, score in ordered], np.uint16),
        labels=np.array([number for number, *_ in ordered], np.int64),
        masks=np.ones((len(ordered), SMALL_MASK_PX, SMALL_MASK_PX), np.float32)), 0.0)
