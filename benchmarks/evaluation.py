"""Average precision of 5,000 generated images with 100,000 objects, against pycocotools on the same masks and boxes.

Both begin with what lies in memory after reading: ours shapes within their boxes, the peer's dictionaries as from JSON
(its index made, its results loaded: that is not counted). Both give AP and AR over all IoU thresholds and sizes. What our
intervals take on top, which the peer has none of, is given as a detail. Prints a JSON list, one object for masks and one
for boxes; seconds are medians of interleaved repeats, on one thread. Beside them stands the
processor's own time of one call each, which is disturbed less by what else the machine does.
"""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from _common import Row, interleaved, medians, say, show
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segsvc.imaging import masks
from segsvc.quality.average_precision import detection_figures, detection_tally
from segsvc.quality.bootstrap import Resamples
from segsvc.quality.figures import DetectionFigures
from segsvc.quality.matching import Shape
from segsvc.types import Box

IMAGES, OBJECTS_AN_IMAGE = 5_000, 20
SIDE_PX = 512
CLASSES = ("one", "two", "three")
MOST = 100  # detections an image and class, as in COCO
REPEATS = 3
DEMANDED = 2.5
RESAMPLES = 1000


@dataclass(frozen=True)
class Image:
    """Shapes, classes and scores of an image's objects and detections."""

    objects: list[Shape]
    object_classes: np.ndarray[Any, np.dtype[np.int64]]
    detections: list[Shape]
    detection_classes: np.ndarray[Any, np.dtype[np.int64]]
    scores: np.ndarray[Any, np.dtype[np.float64]]


def ellipse(box: Box) -> Shape:
    y, x = np.mgrid[0: box.height_px, 0: box.width_px]
    inside = ((x + 0.5) / box.width_px - 0.5) ** 2 + ((y + 0.5) / box.height_px - 0.5) ** 2 < 0.25
    return Shape(box, masks.encode(inside))


def near(random: np.random.Generator, box: Box) -> Box:
    edges = np.array([box.x0, box.y0, box.x1, box.y1]) + random.normal(0, 0.08 * min(box.width_px, box.height_px), 4)
    x0, y0, x1, y1 = np.clip(np.rint(edges), 0, SIDE_PX).astype(int).tolist()
    return Box(min(x0, x1 - 1), min(y0, y1 - 1), x1, y1)


def generated(seed: int) -> list[Image]:
    """Ellipses of 12 to 140 px, a detection near nine of ten, and a false one for every fifth."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(IMAGES):
        sides = np.exp(random.uniform(np.log(12), np.log(140), (OBJECTS_AN_IMAGE, 2))).astype(int)
        boxes = [Box(x, y, x + int(w), y + int(h)) for w, h in sides.tolist()
                 for x, y in [(int(random.integers(0, SIDE_PX - w)), int(random.integers(0, SIDE_PX - h)))]]
        classes = random.integers(0, len(CLASSES), OBJECTS_AN_IMAGE)
        found = [(near(random, box), number, random.beta(5, 2)) for box, number in zip(boxes, classes.tolist(), strict=True)
                 if random.random() < 0.9]
        found += [(box, int(random.integers(0, len(CLASSES))), random.beta(2, 5))
                  for box in (near(random, box) for box in boxes[::5])]
        images.append(Image([ellipse(box) for box in boxes], classes, [ellipse(box) for box, *_ in found],
                            np.array([number for _, number, _ in found]), np.array([score for *_, score in found])))
    return images


def ours(images: list[Image], *, by_box: bool, resamples: int = 0) -> DetectionFigures:
    def shapes(of: list[Shape]) -> list[Shape]:
        return [Shape(shape.box) for shape in of] if by_box else of

    tallies = [detection_tally(
        shapes(image.detections), image.scores, image.detection_classes, shapes(image.objects), image.object_classes,
        np.zeros(len(image.objects), np.bool_), n_classes=len(CLASSES), most=MOST) for image in images]
    drawn = Resamples([str(number) for number in range(len(images))], n=resamples, seed=0)
    return detection_figures(tallies, CLASSES, drawn)


def as_coco(shape: Shape) -> dict[str, Any]:
    box = shape.box
    counts = masks.full_frame_rle(shape.mask_rle or b"", box, width_px=SIDE_PX, height_px=SIDE_PX)
    return {"segmentation": {"size": [SIDE_PX, SIDE_PX], "counts": counts}, "area": shape.area_px,
            "bbox": [box.x0, box.y0, box.width_px, box.height_px]}


def loaded(images: list[Image], *, by_box: bool) -> tuple[COCO, COCO]:
    """The peer's truth and results, indexed."""
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        for shape, of_class in zip(image.objects, image.object_classes.tolist(), strict=True):
            one = as_coco(shape)
            if by_box:
                one["area"] = shape.box.area_px
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": of_class + 1, "iscrowd": 0,
                                **one})
        said = zip(image.detections, image.detection_classes.tolist(), image.scores.tolist(), strict=True)
        for shape, of_class, score in said:
            one = as_coco(shape)
            results.append({"image_id": number, "category_id": of_class + 1, "score": score}
                           | {key: one[key] for key in (["bbox"] if by_box else ["segmentation"])})
    truth = COCO()
    truth.dataset = {"images": [{"id": number, "width": SIDE_PX, "height": SIDE_PX} for number in range(1, len(images) + 1)],
                     "annotations": annotations, "categories": [{"id": number, "name": name}
                                                                for number, name in enumerate(CLASSES, start=1)], "info": {}}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        return truth, truth.loadRes(results)


def peer(truth: COCO, results: COCO, *, by_box: bool) -> list[float]:
    """AP, AP50, AP75, AP by size, AR and AR by size."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, results, "bbox" if by_box else "segm")
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"][..., -1], evaluation.eval["recall"][..., -1]
    cells = [precision[..., 0], precision[0, ..., 0], precision[5, ..., 0], *(precision[..., area] for area in (1, 2, 3)),
             *(recall[..., area] for area in range(4))]
    return [float(cell[cell > -1].mean()) for cell in cells]


def listed(figures: DetectionFigures) -> list[float]:
    """The same of ours."""
    sizes = (figures.all, figures.small, figures.medium, figures.large)
    every = [figures.all.ap, figures.all.ap50, figures.all.ap75, *(size.ap for size in sizes[1:]),
             *(size.ar for size in sizes)]
    return [figure.value if figure.value is not None else -1.0 for figure in every]


def main() -> None:
    images = generated(7)
    ours(images[:10], by_box=False)  # compiles
    say(f"{len(images)} images, {sum(len(image.objects) for image in images)} objects, "
        f"{sum(len(image.detections) for image in images)} detections")
    rows = []
    for by_box in (False, True):
        truth, results = loaded(images, by_box=by_box)
        begun = time.process_time()
        got = listed(ours(images, by_box=by_box))
        between = time.process_time()
        expected = peer(truth, results, by_box=by_box)
        processor_s, peers_processor_s = between - begun, time.process_time() - between
        difference = max(abs(one - other) for one, other in zip(expected, got, strict=True))
        median = medians(interleaved({"ours": partial(ours, images, by_box=by_box),
                                      "peer": partial(peer, truth, results, by_box=by_box)}, repeats=REPEATS, warm_ups=0))
        begun = time.perf_counter()
        sure = ours(images, by_box=by_box, resamples=RESAMPLES)
        with_intervals_s = time.perf_counter() - begun
        rows.append(Row(
            f"average precision, {IMAGES} images, {IMAGES * OBJECTS_AN_IMAGE} objects, by {'boxes' if by_box else 'masks'}",
            median["ours"], "s", median["peer"], "pycocotools, evaluate and accumulate", median["peer"] / median["ours"],
            difference < 1e-9, DEMANDED, details={
                "largest_difference": difference, "ap": got[0], "ap50": got[1], "repeats": REPEATS,
                "processor_s": round(processor_s, 2), "peers_processor_s": round(peers_processor_s, 2),
                "with_intervals_s": round(with_intervals_s, 2), "resamples_of_intervals": sure.resamples}))
        del truth, results
    show(rows)


if __name__ == "__main__":
    main()
