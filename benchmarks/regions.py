"""Score map -> candidates with RLE, against OpenCV's connected components and pycocotools on the crops.

Prints a JSON list, one object a scene; `ours` and `peer` are medians in seconds of interleaved repeats on one thread.
The peer gives plain tuples, in two ways to get a region's highest and mean score; the faster one counts.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
from _common import Row, interleaved, medians, show
from pycocotools import mask as coco

from segsvc.card import Extraction
from segsvc.imaging.regions import extract_regions, lowest_score_above, warm
from segsvc.types import SCORE_ONE, Candidate, ScoreArray

SIDE_PX = 2048
REPEATS = 21
DEMANDED, GOAL = 2.0, 4.0
EXTRACTION = Extraction(extent_min=0.5, floor=0.7, min_area_px=16)

Region = tuple[int, int, int, int, int, float, float, bytes]  # box, area, score, mean score, RLE
FloatMap = npt.NDArray[np.float32]


def nuclei_like(rng: np.random.Generator) -> ScoreArray:
    """600 blobs of 6 to 18 px radius, some touching, with soft edges and little noise on a dark ground."""
    field = np.full((SIDE_PX, SIDE_PX), -6.0, np.float32)
    for _ in range(600):
        x, y = rng.uniform(0, SIDE_PX, 2)
        along, across, turn = rng.uniform(6, 18), rng.uniform(6, 18), rng.uniform(0, np.pi)
        x0, x1, y0, y1 = (int(np.clip(v, 0, SIDE_PX)) for v in (x - 30, x + 30, y - 30, y + 30))
        dy, dx = np.mgrid[y0:y1, x0:x1] - np.array([y, x])[:, None, None]
        u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        blob = 8 * (1 - np.hypot(u / along, v / across)).astype(np.float32)
        field[y0:y1, x0:x1] = np.maximum(field[y0:y1, x0:x1], blob.clip(-6, 6))
    return _scores(field + 0.3 * _noise(rng, 1.5))


def street_like(rng: np.random.Generator) -> ScoreArray:
    """Large surfaces over nearly half of the image and 80 small things, all with ragged edges full of specks."""
    field = 5 * _noise(rng, 90)
    for _ in range(80):
        x, y = rng.integers(0, SIDE_PX - 60, 2)
        field[y:y + rng.integers(6, 50), x:x + rng.integers(6, 30)] = rng.uniform(1, 5)
    return _scores(field + 0.5 * _noise(rng, 1.0) + 0.2 * _noise(rng, 0))


def noise(rng: np.random.Generator) -> ScoreArray:
    """The worst case, of which nothing is demanded: every px is drawn alone, and half are above the threshold."""
    return rng.integers(0, SCORE_ONE, (SIDE_PX, SIDE_PX), np.uint16, endpoint=True)


def _noise(rng: np.random.Generator, sigma_px: float) -> FloatMap:
    field: FloatMap = rng.standard_normal((SIDE_PX, SIDE_PX), np.float32)
    if sigma_px:
        field = cv2.GaussianBlur(field, (0, 0), sigma_px)
    normal: FloatMap = field / field.std()
    return normal


def _scores(logits: FloatMap) -> ScoreArray:
    return np.round(SCORE_ONE / (1 + np.exp(-logits.astype(np.float64)))).astype(np.uint16)


def ours(scores: ScoreArray) -> list[Candidate]:
    return list(extract_regions(scores, extraction=EXTRACTION, class_name="thing")[0])


def by_crops(scores: ScoreArray) -> list[Region]:
    """OpenCV's labels; highest and mean score of each region by OpenCV under the mask of its crop."""
    _, labels, stats, _ = _labels(scores)
    regions: list[Region] = []
    for label, (x, y, w, h, area) in enumerate(stats.tolist()):
        if label == 0 or area < EXTRACTION.min_area_px:
            continue
        crop = scores[y:y + h, x:x + w]
        mask = cv2.compare(labels[y:y + h, x:x + w], label, cv2.CMP_EQ)
        highest = cv2.minMaxLoc(crop, mask)[1] / SCORE_ONE
        if highest >= EXTRACTION.floor:
            mean = round(cv2.mean(crop, mask)[0] * area) / area / SCORE_ONE
            regions.append((x, y, x + w, y + h, area, highest, mean, coco.encode(np.asfortranarray(mask))["counts"]))
    return sorted(regions)


def by_labels(scores: ScoreArray) -> list[Region]:
    """OpenCV's labels; highest and mean score of all regions at once by numpy over the foreground."""
    n_labels, labels, stats, _ = _labels(scores)
    where = np.flatnonzero(labels)
    of, values = labels.reshape(-1)[where], scores.reshape(-1)[where]
    sums = np.bincount(of, values, n_labels)
    highest = np.zeros(n_labels, np.uint16)
    np.maximum.at(highest, of, values)
    regions: list[Region] = []
    for label in np.flatnonzero((highest / SCORE_ONE >= EXTRACTION.floor) & (stats[:, 4] >= EXTRACTION.min_area_px)):
        x, y, w, h, area = stats[label].tolist()
        mask = cv2.compare(labels[y:y + h, x:x + w], int(label), cv2.CMP_EQ)
        regions.append((x, y, x + w, y + h, area, int(highest[label]) / SCORE_ONE,
                        int(sums[label]) / area / SCORE_ONE, coco.encode(np.asfortranarray(mask))["counts"]))
    return sorted(regions)


def _labels(scores: ScoreArray) -> tuple[int, npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    above = cv2.compare(scores, float(lowest_score_above(EXTRACTION.extent_min)), cv2.CMP_GE)
    found: tuple[int, npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float64]]
    found = cv2.connectedComponentsWithStats(above, connectivity=8, ltype=cv2.CV_32S)
    return found


def as_regions(candidates: list[Candidate]) -> list[Region]:
    """The candidates as the peer gives regions."""
    return sorted((c.box.x0, c.box.y0, c.box.x1, c.box.y1, c.area_px, c.score, c.mean_score, c.mask_rle or b"")
                  for c in candidates)


def main() -> None:
    cv2.setNumThreads(1)
    warm()
    rows = []
    for scene in (nuclei_like, street_like, noise):
        scores = scene(np.random.default_rng(7))
        expected = as_regions(ours(scores))
        equal = by_crops(scores) == expected and by_labels(scores) == expected
        repeats, is_wanted = (REPEATS, True) if scene is not noise else (3, False)
        median = medians(interleaved({"ours": partial(ours, scores), "crops": partial(by_crops, scores),
                                      "labels": partial(by_labels, scores)}, repeats=repeats, warm_ups=0))
        peer = min(median["crops"], median["labels"])
        rows.append(Row(
            f"score map of {SIDE_PX} px to candidates with RLE, {scene.__name__.replace('_', '-')}, 1 thread",
            median["ours"], "s", peer, "OpenCV statistics + pycocotools", peer / median["ours"], equal,
            DEMANDED if is_wanted else None, details={
                "goal": GOAL if is_wanted else None, "regions": len(expected), "repeats": repeats,
                "peer_by_crops_s": round(median["crops"], 5), "peer_by_labels_s": round(median["labels"], 5)}))
    show(rows)


if __name__ == "__main__":
    main()
