"""Label sets, and what people say of their images: what goes into the ledger and comes out of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from segsvc.errors import ConfigError
from segsvc.ledger.errors import Refused
from segsvc.ledger.records import LONGEST_MASK, LONGEST_NOTE, LONGEST_REQUEST_ID, ImageRecord, check_text, check_work
from segsvc.types import Box

MOST_OBJECTS = 5000  # on an image
MOST_CORNERS = 10_000
_LONGEST_CLASS = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class LabelTask(StrEnum):
    """What people mark."""

    OBJECTS = "objects"  # each object of a class
    CLASSES = "classes"  # which classes the whole image shows


class WhereDiffer(StrEnum):
    """What is true of an image that two people labelled differently."""

    EITHER = "either"  # an object that either has marked is one: nothing that anybody saw is missed
    THIRD = "third"  # a third person labels it, and an object is one that two of them have marked


@dataclass(frozen=True, slots=True)
class Frame:
    """What a label set was drawn from, as it was listed then. digest: of the images and their units, in their order."""

    place: str  # of the file that lists it
    sha256: str
    images: int
    units: int
    listed_at: datetime


@dataclass(frozen=True, slots=True)
class NewSet:
    """A label set to be made. grouped_by: the column whose values are the units that were drawn; None: each image is one."""

    name: str
    task: LabelTask
    class_names: tuple[str, ...]
    input: str
    frame: Frame
    seed: int
    run_id: str | None = None
    grouped_by: str | None = None
    readers: int = 1
    where_differ: WhereDiffer = WhereDiffer.EITHER
    lease_s: int = 1800

    def __post_init__(self) -> None:
        check_set_name(self.name)
        check_classes(self.class_names)
        if self.readers not in (1, 2):
            raise ConfigError(f"--readers: expected 1 or 2, got {self.readers}")


def check_set_name(name: str) -> None:
    """Raises ConfigError for what cannot be called so: files are."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name: expected up to 64 letters, digits, dots, dashes and underlines, got {name!r}")


def check_classes(names: Sequence[str]) -> None:
    """Raises ConfigError for what are no classes of a label set."""
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"--class: expected the classes that are labelled, each once, got {', '.join(names) or 'none'}")
    for name in names:
        if not name.strip() or len(name) > _LONGEST_CLASS or not name.isprintable() or "|" in name:
            raise ConfigError(f"--class: expected a name of printable characters without '|', got {name[:80]!r}")


@dataclass(frozen=True, slots=True)
class ShownCandidate:
    """A candidate of the model on an image of a label set; whether a rule accepts it or a person decides."""

    candidate_id: str
    class_name: str
    box: Box
    mask_rle: str | None
    score: float


@dataclass(frozen=True, slots=True)
class DrawnImage:
    """An image that was drawn. image: None where it could not be opened, for the reason in `fault`.

    candidates: those of a run that are not rejected by rule; None where it was not drawn from a run.
    """

    uri: str
    unit: str
    image: ImageRecord | None
    fault: str | None = None
    split: str | None = None
    meta: Mapping[str, str] | None = None
    candidates: tuple[ShownCandidate, ...] | None = None


@dataclass(frozen=True, slots=True)
class LabelSet:
    """A label set and how far it is.

    drawn = labelled + left + unreadable, images. first_open: the place, from 1, of the first image that is still to be
    labelled; None where none is. agreement: over the images that two have labelled, the share of objects that both marked.
    """

    name: str
    task: LabelTask
    class_names: tuple[str, ...]
    input: str
    run_id: str | None
    grouped_by: str | None
    seed: int
    frame: Frame
    drawn_units: int
    readers: int
    where_differ: WhereDiffer
    lease_s: int
    created_at: datetime
    drawn: int
    labelled: int
    unreadable: int
    first_open: int | None
    has_candidates: bool
    median_seconds: float | None
    agreement: float | None

    @property
    def left(self) -> int:
        return self.drawn - self.labelled - self.unreadable


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object that a person marks. Raises Refused where it is none.

    polygon: corners x, y in px of the image. mask_rle: COCO's compressed RLE within `box`. With neither it is the box; with
    no box either it is the whole image, which shows the class. candidate_id: the model's, which a person took as it is.
    """

    class_name: str
    box: Box | None = None
    polygon: tuple[tuple[float, float], ...] | None = None
    mask_rle: str | None = None
    frame: int = 0
    note: str = ""
    candidate_id: str | None = None
    request_id: str | None = None

    def __post_init__(self) -> None:
        for name, value, most in (("class_name", self.class_name, _LONGEST_CLASS), ("note", self.note, LONGEST_NOTE),
                                  ("mask_rle", self.mask_rle, LONGEST_MASK),
                                  ("candidate_id", self.candidate_id, LONGEST_REQUEST_ID),
                                  ("request_id", self.request_id, LONGEST_REQUEST_ID)):
            if value is not None:
                check_text(name, value, most)
        if not self.class_name.strip():
            raise Refused("class_name: expected a class, got an empty name")
        if self.polygon is not None and (self.box is not None or self.mask_rle is not None):
            raise Refused("polygon: expected a polygon, or a box with or without a mask_rle; got both")
        if self.mask_rle is not None and self.box is None:
            raise Refused("mask_rle: expected the box that it lies in beside it, got none")
        if self.polygon is not None:
            if not 3 <= len(self.polygon) <= MOST_CORNERS:
                raise Refused(f"polygon: expected 3 to {MOST_CORNERS} corners, got {len(self.polygon)}")
            if not all(math.isfinite(x) and math.isfinite(y) for x, y in self.polygon):
                raise Refused("polygon: expected corners x, y that are finite numbers, got others")
        if self.box is not None and not (self.box.x0 < self.box.x1 and self.box.y0 < self.box.y1):
            raise Refused(f"box: expected one of at least 1 x 1 px, got {self.box.width_px} x {self.box.height_px}")


@dataclass(frozen=True, slots=True)
class Label:
    """An object as it stands in the ledger; `box` encloses whatever it is, None for a whole image."""

    label_id: str
    image_id: str
    reader: str
    made_at: datetime
    class_name: str
    box: Box | None
    polygon: tuple[tuple[float, float], ...] | None
    mask_rle: str | None
    frame: int
    note: str
    candidate_id: str | None


@dataclass(frozen=True, slots=True)
class NewLabelling:
    """A person says that an image is labelled. Raises Refused where that is contradictory in itself.

    objects: all that there are, in place of whatever this person said of the image before; None: those that were added one
    by one stand. nothing: there is none.
    """

    nothing: bool
    objects: tuple[NewObject, ...] | None = None
    shown_at: datetime | None = None
    seconds: float | None = None
    candidates_shown: bool = False
    request_id: str | None = None

    def __post_init__(self) -> None:
        if self.objects is not None and len(self.objects) > MOST_OBJECTS:
            raise Refused(f"objects: expected at most {MOST_OBJECTS}, got {len(self.objects)}")
        if self.request_id is not None:
            check_text("request_id", self.request_id, LONGEST_REQUEST_ID)
        check_work(self.shown_at, self.seconds)


@dataclass(frozen=True, slots=True)
class Labelling:
    """What a person said of an image, and when. seconds: those that count as work. position: in its set, from 1."""

    labelling_id: str
    image_id: str
    image_uri: str
    set_name: str | None
    run_id: str | None
    position: int | None
    reader: str
    nothing: bool
    n_objects: int
    candidates_shown: bool
    done_at: datetime
    seconds: float | None


@dataclass(frozen=True, slots=True)
class LabelItem:
    """An image of a label set as one person may see it: without what others have marked.

    labels: this person's own. labelled: this person has said that it is done. candidates: None where they were not asked
    for.
    """

    image: ImageRecord
    set_name: str
    position: int
    unit: str
    labels: tuple[Label, ...]
    labelled: bool
    candidates: tuple[ShownCandidate, ...] | None


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one person holds to be true of an image."""

    labelling: Labelling
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image of a set with what all people said of it, in the order in which they first did."""

    image: ImageRecord
    position: int
    unit: str
    split: str | None
    meta: Mapping[str, str]
    opinions: tuple[Opinion, ...]
