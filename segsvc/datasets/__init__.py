"""One file per layout of labelled images: a folder, a bucket or a table in, images with what is true of them out.

A layout's PLUGIN has `name`, `task`, `recognises(files)`, `open(files)` and `example(folder)`, which writes a small data
set of the layout. Reading a set reads its tables, not its images: an image, and a mask that is an image, is opened when
it is asked for (`segsvc.truth`). What is wrong with a set is collected, all of it, as its `problems`; ConfigError is
raised only where a table as a whole says nothing, such as a CSV without its columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from segsvc.card import Task
from segsvc.datasets.origin import Origin
from segsvc.types import Box, ImageRef

LABEL_SET = "label:"  # begins a DATASET that is a label set of the ledger
NOT_PLUGINS = frozenset({"files", "coco_shapes", "origin"})


class Split(StrEnum):
    """What an image of a data set is for."""

    TRAIN = "train"
    VAL = "val"  # choosing: when to stop, which floor
    CALIBRATION = "calibration"  # proving an operating point
    TEST = "test"  # figures


@dataclass(frozen=True, slots=True)
class TrueObject:
    """An object that a person marked.

    `mask_rle` is COCO's compressed run-length encoding within `box` (px of the image); None where only a box is known.
    `ignored`: neither to be found nor to be missed (COCO's iscrowd).
    """

    class_name: str
    box: Box
    mask_rle: bytes | None = None
    ignored: bool = False


@dataclass(frozen=True, slots=True)
class ClassTruth:
    """Which classes an image shows: one, several, or none."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class ObjectTruth:
    """The objects in an image, and its size as the labels have it."""

    objects: tuple[TrueObject, ...]
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class MaskTruth:
    """An index mask: an image of one channel whose px hold 0 for background, i for class i - 1, and 255 for "ignore"."""

    mask: ImageRef


Truth = ClassTruth | ObjectTruth | MaskTruth


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image and what is true of it. `split` is None where the set names none."""

    ref: ImageRef
    truth: Truth
    split: Split | None = None


class ProblemKind(StrEnum):
    """What can be wrong with a data set."""

    NO_IMAGES = "no_images"
    NO_LABELS = "no_labels"  # an image without its mask, its annotations or its label
    NO_IMAGE = "no_image"  # a label whose image is not there
    UNREADABLE = "unreadable"  # an image, a mask or a table that cannot be read
    OTHER_SIZE = "other_size"  # a mask or annotations of another size than the image
    UNKNOWN_CLASS = "unknown_class"  # a number or name that is no class of the set
    UNKNOWN_SPLIT = "unknown_split"  # a split that is none, or none where others have one
    OUT_OF_IMAGE = "out_of_image"  # an object beyond the image's edge
    BAD_OBJECT = "bad_object"  # a polygon, box or encoding that makes no mask
    EMPTY_CLASS = "empty_class"  # a class without an example, in the set or in one of its splits
    ONE_CLASS = "one_class"  # nothing to be told apart
    DUPLICATE = "duplicate"  # the same image twice
    LEAK = "leak"  # the same image, or images of one group, in two splits
    THIN = "thin"  # so few examples that little is known of a class
    GROUPS_GUESSED = "groups_guessed"  # no groups, where names suggest them


class Severity(StrEnum):
    """Whether a problem stops training."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a data set; `where` is the image or file, "" for the set as a whole."""

    severity: Severity
    kind: ProblemKind
    message: str
    where: str = ""


def wrong(kind: ProblemKind, message: str, where: str = "") -> Problem:
    """A problem that stops training."""
    return Problem(Severity.ERROR, kind, message, where)


def doubtful(kind: ProblemKind, message: str, where: str = "") -> Problem:
    """A problem that does not."""
    return Problem(Severity.WARNING, kind, message, where)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled images in the order of their URIs' bytes; `classes` without a background, in the order of their numbers.

    `task` is the finest one that the labels can teach: objects serve for semantic segmentation too. `exclusive` is true
    where an image has exactly one class. `problems` are those found while reading the tables. `origin` says of labels that
    they come from a review; None where people labelled whole images, as far as the set says.
    """

    place: str
    layout: str
    task: Task
    classes: tuple[str, ...]
    images: tuple[LabelledImage, ...]
    exclusive: bool = False
    problems: tuple[Problem, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    origin: Origin | None = None

    def of(self, *splits: Split) -> tuple[LabelledImage, ...]:
        """The images of these splits."""
        return tuple(image for image in self.images if image.split in splits)

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that the set names."""
        return tuple(split for split in Split if any(image.split is split for image in self.images))


class DatasetFiles(Protocol):
    """What lies at a place, on a disk or in a bucket."""

    @property
    def place(self) -> str:
        """Its URI, without a slash at its end."""

    @property
    def is_table(self) -> bool:
        """Whether the place is itself a table; paths are then relative to its folder."""

    @property
    def files(self) -> Mapping[str, ImageRef]:
        """Relative path -> file, in the order of the paths' bytes; without hidden files and those that are no image."""

    @property
    def skipped(self) -> Mapping[str, int]: ...
    @property
    def empty_folders(self) -> Sequence[str]:
        """Relative paths of folders in which nothing lies, in the order of their bytes."""

    def table(self, path: str) -> bytes | None:
        """The bytes of a table (`annotations.json`, `train/classes.txt`), "" for the place itself; None if not there.

        Raises ConfigError where it cannot be read.
        """

    def refer(self, targets: Sequence[str]) -> list[tuple[ImageRef, bool]]:
        """What a table names, absolute or relative to the root, and whether it is there."""


class Layout(Protocol):
    """What a layout's PLUGIN offers."""

    @property
    def name(self) -> str: ...
    @property
    def task(self) -> Task: ...
    def recognises(self, files: DatasetFiles) -> bool: ...
    def open(self, files: DatasetFiles) -> Dataset: ...
    def example(self, folder: Path) -> None: ...
