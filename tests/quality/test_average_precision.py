"""Average precision: equal to pycocotools, with intervals by its own bootstrap."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segsvc.imaging import masks
from segsvc.quality.average_precision import detection_figures, detection_tally
from segsvc.quality.bootstrap import Resamples
from segsvc.quality.figures import Averages, DetectionFigures
from segsvc.quality.matching import Shape
from segsvc.quality.observations import DetectionTally
from segsvc.types import Box

SIDE = 300
CLASSES = ("bolt", "nut", "never")


@dataclass
class Scene:
    """Objects and detections of one image: class, shape, and ignored or score."""

    objects: list[tuple[int, Shape, bool]] = field(default_factory=list)
    detections: list[tuple[int, Shape, float]] = field(default_factory=list)


def blob(random: np.random.Generator, box: Box) -> Shape:
    """A ragged ellipse in a box."""
    y, x = np.mgrid[0: box.height_px, 0: box.width_px]
    inside = ((x + 0.5) / box.width_px - 0.5) ** 2 + ((y + 0.5) / box.height_px - 0.5) ** 2 < 0.25
    return Shape(box, masks.encode(inside & (random.random(inside.shape) < 0.95)))


def moved(random: np.random.Generator, box: Box, by: float) -> Box:
    edges = np.array([box.x0, box.y0, box.x1, box.y1]) + random.normal(0, by * max(box.width_px, 4), 4)
    x0, y0, x1, y1 = np.clip(np.rint(edges), 0, SIDE).astype(int).tolist()
    return Box(min(x0, x1), min(y0, y1), max(x0, x1, min(x0, x1) + 1), max(y0, y1, min(y0, y1) + 1))


def scenes(seed: int, count: int = 25) -> list[Scene]:
    """Images with objects of all sizes, some crowds, detections near them and elsewhere, and equal scores."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        scene = Scene()
        for _ in range(int(random.integers(0, 12))):
            side = int(random.choice([8, 20, 50, 120]))
            x0, y0 = random.integers(0, SIDE - side, 2).tolist()
            box = Box(x0, y0, x0 + side, y0 + int(side * random.uniform(0.5, 1)))
            number = int(random.integers(0, 2))
            scene.objects.append((number, blob(random, box), bool(random.random() < 0.1)))
            for _ in range(int(random.integers(0, 3))):
                other = number if random.random() < 0.9 else 1 - number
                near = moved(random, box, 0.06)
                scene.detections.append((other, blob(random, near), round(float(random.random()), 1)))
        found.append(scene)
    return found


def tallies(images: list[Scene], *, by_box: bool, most: int) -> list[DetectionTally]:
    def shown(shape: Shape) -> Shape:
        return Shape(shape.box) if by_box else shape

    return [detection_tally(
        [shown(shape) for _, shape, _ in scene.detections], np.array([score for *_, score in scene.detections]),
        np.array([number for number, *_ in scene.detections], np.int64), [shown(shape) for _, shape, _ in scene.objects],
        np.array([number for number, *_ in scene.objects], np.int64),
        np.array([ignored for *_, ignored in scene.objects], np.bool_), n_classes=len(CLASSES), most=most)
        for scene in images]


def as_coco(shape: Shape) -> dict[str, Any]:
    rle = {"size": [SIDE, SIDE], "counts": masks.full_frame_rle(shape.mask_rle or b"", shape.box, width_px=SIDE,
                                                                height_px=SIDE)}
    box = shape.box
    return {"segmentation": rle, "bbox": [box.x0, box.y0, box.width_px, box.height_px]}


def by_pycocotools(images: list[Scene], *, by_box: bool, most: int, only: int | None = None) -> list[float]:
    """COCO's AP, AP50, AP75, APs, APm, APl, AR, ARs, ARm, ARl."""
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image, scene in enumerate(images, start=1):
        for number, shape, ignored in scene.objects:
            area = shape.box.area_px if by_box else shape.area_px
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": number + 1, "area": area,
                                "iscrowd": int(ignored), **as_coco(shape)})
        results += [{"image_id": image, "category_id": number + 1, "score": score,
                     **{key: value for key, value in as_coco(shape).items() if (key == "bbox") == by_box}}
                    for number, shape, score in scene.detections]
    truth = COCO()
    truth.dataset = {"images": [{"id": image, "width": SIDE, "height": SIDE} for image in range(1, len(images) + 1)],
                     "annotations": annotations, "info": {},
                     "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox" if by_box else "segm")
        evaluation.params.maxDets = [1, 2, most]
        if only is not None:
            evaluation.params.catIds = [only + 1]
        evaluation.evaluate()
        evaluation.accumulate()
        precision, recall = evaluation.eval["precision"][..., -1], evaluation.eval["recall"][..., -1]

    def mean(values: Any) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else -1.0

    return [mean(precision[:, :, :, 0]), mean(precision[0, :, :, 0]), mean(precision[5, :, :, 0]),
            *(mean(precision[:, :, :, area]) for area in (1, 2, 3)), *(mean(recall[:, :, area]) for area in range(4))]


def ours(figures: DetectionFigures) -> list[float]:
    def plain(value: float | None) -> float:
        return -1.0 if value is None else value

    sizes: list[Averages] = [figures.all, figures.small, figures.medium, figures.large]
    return [plain(figures.all.ap.value), plain(figures.all.ap50.value), plain(figures.all.ap75.value),
            *(plain(each.ap.value) for each in sizes[1:]), *(plain(each.ar.value) for each in sizes)]


@pytest.mark.parametrize("by_box", [False, True], ids=["masks", "boxes"])
@pytest.mark.parametrize(("seed", "most"), [(1, 100), (2, 3), (3, 1000)])
def test_figures_are_those_of_pycocotools(seed: int, most: int, by_box: bool) -> None:
    images = scenes(seed)
    figures = detection_figures(tallies(images, by_box=by_box, most=most), CLASSES, Resamples(["one"] * 25, n=0, seed=0))
    assert ours(figures) == pytest.approx(by_pycocotools(images, by_box=by_box, most=most), abs=1e-9)
    for number in range(len(CLASSES)):
        expected = by_pycocotools(images, by_box=by_box, most=most, only=number)[:3]
        averages = figures.classes[number].averages
        assert [-1.0 if figure.value is None else figure.value for figure in (averages.ap, averages.ap50, averages.ap75)
                ] == pytest.approx(expected, abs=1e-9)


def test_the_mask_of_pycocotools_is_the_scenes_mask() -> None:
    _, shape, _ = scenes(1)[3].objects[0]
    assert int(coco_mask.area(as_coco(shape)["segmentation"])) == shape.area_px


def test_a_weighed_image_counts_as_that_many_copies_of_it() -> None:
    images = scenes(4, count=12)
    random = np.random.default_rng(9)  # scores without ties, whose order copies would change
    every = [replace(tally, score=-np.sort(-random.random(len(tally.score))))
             for tally in tallies(images, by_box=False, most=100)]
    drawn = Resamples([str(number) for number in range(12)], n=3, seed=5)
    figures = detection_figures(every, CLASSES, drawn)
    copied = []
    for weights in drawn.weights[1:]:
        again = [tally for tally, weight in zip(every, weights[drawn.of_image].tolist(), strict=True) for _ in range(weight)]
        of_copies = detection_figures(again, CLASSES, Resamples(["one"] * len(again), n=0, seed=0))
        copied.append(of_copies.all.ap.value)
    expected = np.quantile(np.array(copied), [0.025, 0.975])
    assert [figures.all.ap.low, figures.all.ap.high] == pytest.approx(expected, abs=1e-9)


def test_where_there_are_many_detections_there_are_fewer_resamples_and_that_is_said() -> None:
    every = tallies(scenes(6, count=6), by_box=True, most=100)
    figures = detection_figures(every, CLASSES, Resamples(list("abcdef"), n=500, seed=0), most_steps=1)
    assert figures.resamples == 100


def test_without_objects_averages_are_undefined() -> None:
    nothing = [Scene(detections=[(0, Shape(Box(0, 0, 5, 5)), 0.5)]), Scene()]
    figures = detection_figures(tallies(nothing, by_box=True, most=100), CLASSES, Resamples(["a", "b"], n=10, seed=0))
    assert figures.all.objects == 0
    assert figures.all.ap.value is None
