"""What flows through the house: frozen values, with their units in their names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from segsvc.errors import ImageErrorKind

PixelArray = npt.NDArray[np.generic]  # (h, w, C)
ScoreArray = npt.NDArray[np.uint16]  # scores as multiples of 1/65535

SCORE_ONE = 65535  # the integer that stands for a score of 1.0


def stable_id(*fields: str | int | bytes | None) -> str:
    """The 32 hexadecimal digits that name these fields: BLAKE2b-128 over each field with its type and length."""
    digest = hashlib.blake2b(digest_size=16)
    for value in fields:
        raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
        digest.update(f"{type(value).__name__}:{len(raw)}:".encode())
        digest.update(raw)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A rectangle in px of the full image: half-open, origin top left."""

    x0: int
    y0: int
    x1: int
    y1: int

    def __post_init__(self) -> None:
        if self.x1 < self.x0 or self.y1 < self.y0:
            raise ValueError(f"a box needs x0 <= x1 and y0 <= y1, got {self.x0, self.y0, self.x1, self.y1}")

    @property
    def width_px(self) -> int:
        return self.x1 - self.x0

    @property
    def height_px(self) -> int:
        return self.y1 - self.y0

    @property
    def area_px(self) -> int:
        return self.width_px * self.height_px


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image somewhere: where it is and which version of it is meant.

    `version` is the ETag on S3, and `<size>-<mtime in ns>` on a disk. `meta` holds a manifest's further
    columns as strings, `group` its unit of calibration.
    """

    uri: str
    version: str
    size_bytes: int
    group: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)

    @property
    def image_id(self) -> str:
        return stable_id(self.uri, self.version)


class Blob(Protocol):
    """The bytes of one image, whole or by ranges; what a store gives to a reader."""

    @property
    def size_bytes(self) -> int: ...

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` (included) to `stop` (excluded), fewer at the end of the file."""

    def read_all(self) -> bytes:
        """All of it, read once."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of a source: its size in px and how many px of level 0 one of its px spans."""

    width_px: int
    height_px: int
    downsample: float


class Source(Protocol):
    """An opened image that is read by boxes.

    Sizes are after any EXIF orientation is obeyed. A photo has one level and one frame; a pyramidal TIFF has
    several levels, a TIFF of several pages several frames.
    """

    @property
    def width_px(self) -> int: ...
    @property
    def height_px(self) -> int: ...
    @property
    def frames(self) -> int: ...
    @property
    def levels(self) -> tuple[Level, ...]: ...
    @property
    def dtype(self) -> np.dtype[np.generic]:
        """uint8, uint16 or float32."""
    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
    @property
    def pixel_size_um(self) -> float | None: ...
    @property
    def in_parts(self) -> bool:
        """Whether a box is read without decoding much beside it, as of a tiled TIFF."""

    def read(self, box: Box, *, level: int = 0, frame: int = 0) -> PixelArray:
        """The pixels in `box` (px of that level) as (h, w, C) of `dtype`.

        Raises ImageError where the bytes cannot be decoded, and ValueError for a box outside the image.
        """

    def close(self) -> None: ...


class CandidateKind(StrEnum):
    """What a candidate is."""

    REGION = "region"  # a connected region of dense scores
    INSTANCE = "instance"  # one detected object
    IMAGE = "image"  # the whole image, for a class
    TEXT = "text"  # a line of text


class Band(StrEnum):
    """What the operating point in force says of a candidate."""

    REJECTED = "rejected"  # score below flag_at: decided by rule
    REVIEW = "review"  # between the two: a person decides
    ACCEPTED = "accepted"  # score from accept_at: decided by rule


class ImageStatus(StrEnum):
    """How an image ended; listed = done + empty + failed + quarantined."""

    DONE = "done"  # read, and candidates were stored
    EMPTY = "empty"  # read, and no candidate was stored
    FAILED = "failed"  # could not be read
    QUARANTINED = "quarantined"  # killed the process that worked on it, twice


class Bound(StrEnum):
    """What shows that a threshold keeps what is promised of it."""

    BINOMIAL = "binomial"  # each unit counts once, by its worst object (or candidate): exact
    BETTING = "betting"  # units have several, which depend on each other: each counts as at most `cap`


class Runtime(StrEnum):
    """What computed the scores; an operating point holds for one of them."""

    OPENVINO = "openvino"
    TORCH_CPU = "torch-cpu"
    TORCH_CUDA = "torch-cuda"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A region, an instance or a whole image that may be what a class means.

    `mask_rle` is COCO's compressed run-length encoding of the mask within `box` (size = box height, box width);
    None without a mask. `score` is the highest and `mean_score` the mean score within the mask, in [0, 1].
    """

    frame: int
    class_name: str
    kind: CandidateKind
    box: Box
    area_px: int
    score: float
    mean_score: float
    mask_rle: bytes | None = None
    text: str | None = None
    touches_edge: bool = False

    def candidate_id(self, image_id: str, model_digest: str) -> str:
        content = self.mask_rle if self.mask_rle is not None else self.text
        box = self.box
        return stable_id(image_id, model_digest, self.frame, self.kind.value, self.class_name,
                         box.x0, box.y0, box.x1, box.y1, content)


@dataclass(frozen=True, slots=True)
class ExtractionCounts:
    """What the filters on the way from scores to candidates kept and took away, in regions."""

    kept: int = 0
    below_floor: int = 0
    below_min_area: int = 0

    def __add__(self, other: ExtractionCounts) -> ExtractionCounts:
        return ExtractionCounts(self.kept + other.kept, self.below_floor + other.below_floor,
                                self.below_min_area + other.below_min_area)


@dataclass(frozen=True, slots=True)
class Segmentation:
    """What a model found in one image: candidates in the order of frame, class and box, and what was filtered."""

    width_px: int
    height_px: int
    frames: int
    candidates: tuple[Candidate, ...]
    counts: ExtractionCounts

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.candidates)

    def __len__(self) -> int:
        return len(self.candidates)


@dataclass(frozen=True, slots=True)
class ImageResult:
    """How one unit ended: a segmentation, or the error that it failed with."""

    ref: ImageRef
    status: ImageStatus
    segmentation: Segmentation | None
    error_kind: ImageErrorKind | None
    error: str | None
    timings_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Unit:
    """One image of a run and its place in the plan."""

    ordinal: int
    ref: ImageRef
