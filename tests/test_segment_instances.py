"""Objects in an image of any size, by detectors: tiled as if whole, and as their runtime finds them."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from segsvc.card import Extraction, ModelCard, Normalisation, Task
from segsvc.imaging.instances import Detections
from segsvc.imaging.masks import decode
from segsvc.loaded import ArraySource
from segsvc.models.detector import Detector
from segsvc.models.runtime import Detected, Predictor, Scored
from segsvc.segment import Stopwatch, segment_source
from segsvc.types import SCORE_ONE, CandidateKind, PixelArray, Runtime, Segmentation
from tests.detectors import TINY, detector_card, random_network, write_detector
from tests.networks import textured

pytestmark = pytest.mark.usefixtures("in_process")


class BrightObjects:
    """A detector without a network: what is brighter than grey and hangs together is an object."""

    threads = 2
    flexible = True

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def submit(self, pixels: npt.NDArray[np.float32]) -> Future[Detected]:
        bright = (pixels[0, 0] > 0.5).astype(np.uint8)
        n, labels, stats, _ = cv2.connectedComponentsWithStats(bright)
        boxes = np.array([(x, y, x + w, y + h) for x, y, w, h, _ in stats[1:]], np.float32).reshape(-1, 4)
        scores = [int(pixels[0, 0][labels == label].max() * SCORE_ONE) for label in range(1, n)]
        done: Future[Detected] = Future()
        done.set_result(Detected(Detections(boxes, np.array(scores, np.uint16), np.zeros(n - 1, np.int64),
                                            np.ones((n - 1, 28, 28), np.float32)), 0.0))
        return done


def bright_card(*, tile_px: int, overlap_px: int, floor: float = 0.5) -> ModelCard:
    return detector_card(channels=1, normalisation=Normalisation(mean=(0.0,), std=(1.0,)), tile_px=tile_px,
                         overlap_px=overlap_px, extraction=Extraction(extent_min=0, floor=floor, min_area_px=30))


def squares(width_px: int, height_px: int) -> tuple[npt.NDArray[np.uint8], set[tuple[int, int]]]:
    """Bright squares of 14 px, no two nearer than 6 px, and where each begins."""
    image = np.zeros((height_px, width_px), np.uint8)
    draw, places = np.random.default_rng(1), set()
    for x in range(2, width_px - 20, 24):
        for y in range(2, height_px - 20, 24):
            x0, y0 = x + int(draw.integers(0, 4)), y + int(draw.integers(0, 4))
            image[y0: y0 + 14, x0: x0 + 14] = draw.integers(150, 255)
            places.add((x0, y0))
    return image, places


def found(model_or_card: Predictor | BrightObjects, image: PixelArray, watch: Stopwatch | None = None) -> Segmentation:
    return segment_source(ArraySource(image), model_or_card, watch or Stopwatch())


@pytest.mark.parametrize(("width_px", "height_px", "tile_px", "overlap_px"), [
    (300, 500, 96, 32), (300, 500, 128, 64), (90, 60, 512, 64), (700, 50, 64, 32)])
def test_every_object_is_found_once_however_the_image_is_tiled(
        width_px: int, height_px: int, tile_px: int, overlap_px: int) -> None:
    image, places = squares(width_px, height_px)
    segmentation = found(BrightObjects(bright_card(tile_px=tile_px, overlap_px=overlap_px)), image)
    assert {(each.box.x0, each.box.y0) for each in segmentation} == places
    assert len(segmentation) == len(places) == segmentation.counts.kept
    for each in segmentation:
        assert each.kind is CandidateKind.INSTANCE
        mask = decode(each.mask_rle or b"", height_px=each.box.height_px, width_px=each.box.width_px)
        assert (each.box.width_px, each.box.height_px, int(mask.sum()), each.area_px) == (14, 14, 196, 196)
        assert each.score == int(image[each.box.y0 + 5, each.box.x0 + 5] / np.float32(255) * SCORE_ONE) / SCORE_ONE


def test_what_the_floor_takes_away_is_counted_once_for_all_tiles() -> None:
    image, places = squares(300, 300)
    brightness = [image[y + 3, x + 3] / 255 for x, y in places]
    segmentation = found(BrightObjects(bright_card(tile_px=96, overlap_px=32, floor=0.8)), image)
    assert segmentation.counts.kept == sum(value >= 0.8 for value in brightness)
    assert segmentation.counts.below_floor == sum(value < 0.8 for value in brightness) > 0


def test_an_object_larger_than_the_overlap_may_be_cut_and_none_of_it_is_hidden() -> None:
    image = np.zeros((60, 400), np.uint8)
    image[20:40, 30:370] = 255
    segmentation = found(BrightObjects(bright_card(tile_px=128, overlap_px=32)), image)
    assert len(segmentation) > 1
    covered = np.zeros(image.shape, bool)
    for each in segmentation:
        covered[each.box.y0: each.box.y1, each.box.x0: each.box.x1] = True
    assert covered[20:40, 30:370].all()


def test_a_large_image_is_found_the_same_by_any_number_of_threads(tmp_path: Path) -> None:
    model = write_detector(tmp_path, detector_card())
    image = textured(3, width_px=300, height_px=180)
    outcomes = []
    for threads in (1, 2):
        predictor = Predictor(model, Runtime.TORCH_CPU, threads=threads)
        watch = Stopwatch()
        outcomes.append(found(predictor, image, watch))
        predictor.close()
        assert {"read", "tile", "model", "masks"} <= set(watch.seconds)
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) > 10
    assert {each.class_name for each in outcomes[0]} == {"round", "square"}


def test_a_whole_image_of_any_size_is_one_tile_where_the_stride_is_one(tmp_path: Path) -> None:
    detection = TINY.model_copy(update={"scale": None, "min_side_px": 80, "max_side_px": 200})
    card = detector_card(detection=detection, stride_px=1)
    model = write_detector(tmp_path, card)
    image = textured(5, width_px=101, height_px=67)
    predictor = Predictor(model, Runtime.TORCH_CPU, threads=1)
    segmentation = found(predictor, image)
    predictor.close()
    mean, std = np.array(card.normalisation.mean, np.float32), np.array(card.normalisation.std, np.float32)
    pixels = torch.from_numpy(np.moveaxis((image / np.float32(255) - mean) / std, 2, 0)[None].copy())
    with torch.inference_mode():
        wanted = Detector(random_network(card), card).detect(pixels)
    assert len(wanted) >= len(segmentation) > 3
    assert {each.score for each in segmentation} <= {int(score) / SCORE_ONE for score in wanted.scores}
    assert len(wanted) - len(segmentation) == segmentation.counts.below_min_area


def test_objects_where_scores_are_expected_and_scores_where_objects_are_expected_are_refused() -> None:
    class Dense:
        """Answers with scores whatever the card says."""

        threads, flexible = 1, True
        card = bright_card(tile_px=64, overlap_px=16)

        def submit(self, pixels: npt.NDArray[np.float32]) -> Future[Scored]:
            done: Future[Scored] = Future()
            done.set_result(Scored(np.zeros((1, *pixels.shape[2:]), np.uint16), 0.0))
            return done

    with pytest.raises(ValueError, match="expected objects from it, got Scored"):
        segment_source(ArraySource(np.zeros((40, 40), np.uint8)), Dense(), Stopwatch())
    semantic = bright_card(tile_px=64, overlap_px=16).model_copy(update={"task": Task.SEMANTIC})
    with pytest.raises(ValueError, match="expected scores from it, got Detected"):
        segment_source(ArraySource(np.zeros((40, 40), np.uint8)), BrightObjects(semantic), Stopwatch())
