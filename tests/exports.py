"""Small seeded exports: tables as a run's parts have them, and images that live in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pycocotools import mask as coco_mask

from segsvc.errors import ImageError, ImageErrorKind
from segsvc.tables import CANDIDATES_VIEW_SCHEMA, IMAGES_SCHEMA
from segsvc.types import Band, Box, Candidate, CandidateKind, ImageStatus, Level, PixelArray, stable_id
from segsvc.writers import Export, ExportPart

CELL_PX = 24
MODEL_DIGEST = "ab" * 32
HOSTILE_CLASSES = ("a,b\n\"c\"", "<script>alert(1)</script>", "../../etc/passwd", " =1+1 ", "\r\nnaïve 漢字",
                   "background", "\"")
HOSTILE_URIS = ("file:///data/..%2F..%2Fetc%2Fpasswd", "file:///data/a%0Ab%22%2C.png", "file:///data/%ED%B2%80%FF.png",
                "file:///data/%3Cscript%3Ealert(1)%3C%2Fscript%3E.png", "file:///data/%2E%2E",
                "s3://bucket/k\"'; drop.png")


@dataclass(frozen=True, slots=True)
class MemorySource:
    """A `Source` over (frames, h, w, C)."""

    pixels: npt.NDArray[np.generic]

    @property
    def width_px(self) -> int:
        return int(self.pixels.shape[2])

    @property
    def height_px(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def frames(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def levels(self) -> tuple[Level, ...]:
        return (Level(self.width_px, self.height_px, 1.0),)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self.pixels.dtype

    @property
    def channels(self) -> int:
        return int(self.pixels.shape[3])

    @property
    def pixel_size_um(self) -> float | None:
        return None

    def read(self, box: Box, *, level: int = 0, frame: int = 0) -> PixelArray:
        if not (0 <= box.x0 < box.x1 <= self.width_px and 0 <= box.y0 < box.y1 <= self.height_px and level == 0):
            raise ValueError(f"no such box: {box} at level {level}")
        return self.pixels[frame, box.y0:box.y1, box.x0:box.x1].copy()

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class MadeImage:
    """An image of a made export; without `pixels` it failed."""

    uri: str
    pixels: npt.NDArray[np.generic] | None
    candidates: tuple[Candidate, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None

    @property
    def image_id(self) -> str:
        return stable_id(self.uri, "1-2")

    @property
    def status(self) -> ImageStatus:
        if self.pixels is None:
            return ImageStatus.FAILED
        return ImageStatus.DONE if self.candidates else ImageStatus.EMPTY


def candidate(mask: npt.NDArray[np.bool_], *, x0: int, y0: int, class_name: str, score: float, frame: int = 0,
              touches_edge: bool = False) -> Candidate:
    """A region out of its mask (h, w), whose first column and row are x0 and y0 of the image."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return Candidate(frame=frame, class_name=class_name, kind=CandidateKind.REGION, score=score,
                     box=Box(x0, y0, x0 + mask.shape[1], y0 + mask.shape[0]), area_px=int(mask.sum()),
                     mean_score=score * 0.75, mask_rle=rle, touches_edge=touches_edge)


def blob(rng: np.random.Generator, size_px: int = CELL_PX - 4) -> npt.NDArray[np.bool_]:
    """A ragged 8-connected mask, cropped to its box; it may have holes and corners that touch."""
    noise = cv2.GaussianBlur(rng.random((size_px, size_px)), (0, 0), 1.2)
    _, labels, stats, _ = cv2.connectedComponentsWithStats((noise > np.median(noise)).astype(np.uint8), connectivity=8)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    x, y, width, height, _ = stats[largest].tolist()
    return labels[y:y + height, x:x + width] == largest


def regions(rng: np.random.Generator, *, width_px: int, height_px: int, classes: Sequence[str], frames: int = 1,
            share: float = 0.6) -> tuple[Candidate, ...]:
    """Regions that do not touch each other, sorted as a run sorts them."""
    found = []
    for frame in range(frames):
        for y in range(0, height_px - CELL_PX + 1, CELL_PX):
            for x in range(0, width_px - CELL_PX + 1, CELL_PX):
                if rng.random() < share:
                    found.append(candidate(blob(rng), x0=x, y0=y, class_name=str(rng.choice(classes)), frame=frame,
                                           score=int(rng.integers(1, 65536)) / 65535, touches_edge=x == 0 or y == 0))
    return tuple(sorted(found, key=lambda one: (one.frame, one.class_name, one.box)))


def pixels(rng: np.random.Generator, *, width_px: int, height_px: int, channels: int = 3, frames: int = 1,
           dtype: type[np.generic] = np.uint8) -> npt.NDArray[np.generic]:
    """(frames, h, w, C) of noise over a slope; below 4,096 for uint16."""
    top = 4096 if dtype == np.uint16 else 256
    slope = np.linspace(0, 0.5, width_px)[None, None, :, None]
    return ((rng.random((frames, height_px, width_px, channels)) * 0.5 + slope) * (top - 1)).astype(dtype)


def export_of(images: Sequence[MadeImage], *, classes: Sequence[str], n_parts: int = 2) -> Export:
    """An export of these images, cut into so many parts."""
    size = max(1, -(-len(images) // n_parts))
    made = [_part(images[start:start + size]) for start in range(0, len(images), size)]
    held = {(image.uri, "1-2"): image.pixels for image in images}

    def open_image(uri: str, version: str) -> MemorySource:
        found = held.get((uri, version))
        if found is None:
            raise ImageError(ImageErrorKind.MISSING, "no longer there")
        return MemorySource(found)

    def parts_again() -> Iterator[ExportPart]:
        return iter(made)

    def images_again() -> Iterator[pa.Table]:
        return (part.images for part in made)

    return Export(classes=tuple(classes), parts=parts_again, images=images_again, open_image=open_image)


def _part(images: Sequence[MadeImage]) -> ExportPart:
    image_rows, candidate_rows = [], []
    for image in images:
        shape = (None, None, None) if image.pixels is None else image.pixels.shape[:3]
        image_rows.append({
            "image_id": image.image_id, "image_uri": image.uri, "image_version": "1-2", "status": image.status.value,
            "frames": shape[0], "height_px": shape[1], "width_px": shape[2], "n_candidates": len(image.candidates),
            "error_kind": "missing" if image.pixels is None else None, "error": None, "n_below_floor": 0,
            "n_below_min_area": 0, "group": image.group, "meta": list(image.meta.items())})
        for number, one in enumerate(image.candidates):
            box = one.box
            candidate_rows.append({
                "candidate_id": one.candidate_id(image.image_id, MODEL_DIGEST), "image_id": image.image_id,
                "image_uri": image.uri, "image_version": "1-2", "frame": one.frame, "model": "made",
                "model_digest": MODEL_DIGEST, "class_name": one.class_name, "kind": one.kind.value, "score": one.score,
                "mean_score": one.mean_score, "x0": box.x0, "y0": box.y0, "x1": box.x1, "y1": box.y1,
                "area_px": one.area_px, "mask_rle": None if one.mask_rle is None else one.mask_rle.decode(),
                "text": one.text, "touches_edge": one.touches_edge,
                "probability": None if number % 3 == 0 else one.score ** 2,
                "band": (Band.ACCEPTED if one.score > 0.5 else Band.REVIEW).value})
    return ExportPart(images=pa.Table.from_pylist(image_rows, schema=IMAGES_SCHEMA),
                      candidates=pa.Table.from_pylist(candidate_rows, schema=CANDIDATES_VIEW_SCHEMA))


def plain_export(seed: int = 0) -> Export:
    """Two classes, regions apart from each other; an empty and a failed image, a grey one of 16 bit and two frames."""
    rng = np.random.default_rng(seed)
    classes = ("nucleus", "crack")
    deep = pixels(rng, width_px=96, height_px=72, channels=1, frames=2, dtype=np.uint16)
    images = [
        MadeImage("file:///data/a/one.png", pixels(rng, width_px=120, height_px=100),
                  regions(rng, width_px=120, height_px=100, classes=classes), {"street": "Main St", "score": "7"},
                  group="g1"),
        MadeImage("file:///data/a/two.png", pixels(rng, width_px=40, height_px=30), (), {"street": "Side, St"}),
        MadeImage("file:///data/b/one.png", None, (), {"camera": "left"}),
        MadeImage("file:///data/b/deep%20film.tif", deep,
                  regions(rng, width_px=96, height_px=72, classes=classes, frames=2)),
        MadeImage("file:///data/c.png", pixels(rng, width_px=49, height_px=73),
                  regions(rng, width_px=49, height_px=73, classes=classes, share=1.0), {"camera": "right"}),
    ]
    return export_of(images, classes=classes)


def maskless_export() -> Export:
    """Candidates without a mask: classes of whole images, and boxes."""
    rng = np.random.default_rng(1)
    whole = Box(0, 0, 64, 48)
    found = tuple(Candidate(0, name, CandidateKind.IMAGE, whole, whole.area_px, score, score)
                  for name, score in (("cat", 0.75), ("dog", 0.125)))
    boxes = (Candidate(0, "cat", CandidateKind.INSTANCE, Box(3, 4, 20, 30), 17 * 26, 0.5, 0.25),)
    return export_of([MadeImage("s3://bucket/x/cat.jpg", pixels(rng, width_px=64, height_px=48), found),
                      MadeImage("s3://bucket/x/boxes.jpg", pixels(rng, width_px=64, height_px=48), boxes)],
                     classes=("dog", "cat"))


def hostile_export() -> Export:
    """Names of classes, URIs and columns that try to break out of lines, quotes, markup and folders."""
    rng = np.random.default_rng(2)
    images = [MadeImage(uri, pixels(rng, width_px=72, height_px=72),
                        regions(rng, width_px=72, height_px=72, classes=HOSTILE_CLASSES, share=1.0),
                        {"../x": "=cmd|' /C calc'!A0", "a\nb": "line\r\nline", "file": "\"", "candidate_id": "<b>"})
              for uri in HOSTILE_URIS]
    return export_of(images, classes=HOSTILE_CLASSES)


def nothing_export() -> Export:
    """An image in which nothing was found."""
    return export_of([MadeImage("file:///data/a.png", np.zeros((1, 5, 7, 3), np.uint8))], classes=("nucleus",))


def no_parts_export() -> Export:
    """Not even an image."""
    return export_of([], classes=("nucleus",))
