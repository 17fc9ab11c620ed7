"""A label set as a data set that any tool reads: a COCO .json, or a .csv for classes of whole images.

Images are named by their whole URIs, so the file may lie anywhere. Beside what the format has, each image bears who
labelled it and when, how long that took, and whether the model's candidates were shown meanwhile.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segsvc import datasets
from segsvc.datasets import LABEL_SET, ClassTruth, ObjectTruth, TrueObject
from segsvc.errors import ConfigError
from segsvc.labels.files import class_file, coco_file
from segsvc.ledger import label_sets, labelled
from segsvc.ledger.errors import Unknown
from segsvc.ledger.label_records import Label, LabelledImage, LabelSet, LabelTask
from segsvc.ledger.label_rows import shape_of
from segsvc.ledger.opening import Ledger
from segsvc.models.checkpoint import write_whole
from segsvc.readahead import in_order
from segsvc.settings import user_data
from segsvc.stores import store_of
from segsvc.types import ImageRef

_AT_ONCE = 16
_OF_TABLES = frozenset({"uri", "labels", "group", "split"})  # columns that a manifest may have and a table has of its own
_PLACES = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class WrittenSet:
    """A label set in a file: where it is, what is in it, and how many images were left out as they have changed."""

    place: Path
    images: int
    labels: int
    left_out: int


def write_set(ledger: Ledger, wanted: str, to: Path | None = None, *, format_name: str | None = None,
              say: Callable[[str], None] = lambda text: None) -> WrittenSet:
    """Writes `label:SET`, its first images as `label:SET@N`, or a stretch of the drawn order as `label:SET@41-100`.

    to: by default a file among those of the ledger. format_name: coco or csv, which must be the one that fits what was
    labelled; None: the one that fits. Images that have changed since they were labelled are left out, and said. Raises
    ConfigError for a set that there is not, that is not finished so far, or that holds nothing that can be read.
    """
    name, places = _parsed(wanted)
    try:
        record = label_sets.find(ledger, name)
        images = labelled.images(ledger, name, places=places)
    except Unknown as error:
        raise ConfigError(str(error)) from error
    kept = _unchanged(images, say)
    if not kept:
        raise ConfigError(f"label set {name}: expected labelled images, got none that can be read")
    is_table = record.task is LabelTask.CLASSES
    if format_name not in (None, own := "csv" if is_table else "coco"):
        raise ConfigError(f"--format: expected {own} for the label set {name}, which is about {record.task.value}, got "
                          f"{format_name}")
    found = [_labelled(record, each) for each in kept]
    written = [image for image, _ in found]
    data = class_file(written) if is_table else coco_file(written, record.class_names, info=_info(record, places), further={
        (image.ref.uri, each): besides for image, objects in found for each, besides in objects.items()})
    if to is None:
        digest = hashlib.sha256(data).hexdigest()[:12]
        to = _folder(ledger) / f"{wanted.removeprefix(LABEL_SET)}-{digest}{'.csv' if is_table else '.json'}"
    write_whole(to, data)
    return WrittenSet(to, len(kept), sum(map(_counted, written)), len(images) - len(kept))


def _parsed(wanted: str) -> tuple[str, tuple[int, int] | None]:
    name, at, places = wanted.removeprefix(LABEL_SET).partition("@")
    if name and not at:
        return name, None
    found = _PLACES.fullmatch(places)
    if not name or found is None:
        raise ConfigError("DATASET: expected label:SET, label:SET@N for its first N images, or label:SET@A-B for those from "
                          f"A to B in drawn order, got {wanted!r}")
    first, last = found.groups()
    return name, (int(first) if last else 1, int(last or first))


def _folder(ledger: Ledger) -> Path:
    if ledger.folder is not None:
        return ledger.folder / "labels"
    return user_data("labels") / hashlib.sha256(ledger.shown.encode()).hexdigest()[:12]


def _unchanged(images: Sequence[LabelledImage], say: Callable[[str], None]) -> list[LabelledImage]:
    def is_same(each: LabelledImage) -> bool:
        return store_of(each.image.uri).find(each.image.uri).version == each.image.version

    kept = []
    for each, same in zip(images, in_order(is_same, images, at_once=_AT_ONCE), strict=True):
        if same:
            kept.append(each)
        else:
            say(f"left out, as it is gone or has changed since it was labelled: {each.image.uri}")
    return kept


def _counted(image: datasets.LabelledImage) -> int:
    truth = image.truth
    return len(truth.objects) if isinstance(truth, ObjectTruth) else len(truth.names) if isinstance(truth, ClassTruth) else 0


def _labelled(record: LabelSet, image: LabelledImage) -> tuple[datasets.LabelledImage, dict[TrueObject, dict[str, Any]]]:
    """The image as data sets have it, and what its objects bear besides."""
    said = [each.labelling for each in image.opinions]
    provenance = {"labelled_by": [each.reader for each in said], "labelled_at": [each.done_at.isoformat() for each in said],
                  "labelled_seconds": [f"{each.seconds:.1f}" if each.seconds is not None else "" for each in said],
                  "candidates_shown": ["yes" if each.candidates_shown else "no" for each in said]}
    own = {name: value for name, value in image.meta.items() if name not in _OF_TABLES}
    group = image.unit if record.grouped_by is not None else image.meta.get("group")
    ref = ImageRef(image.image.uri, image.image.version, 0, group,
                   {**own, **{name: "|".join(values) for name, values in provenance.items()}})
    split = datasets.Split(image.split) if image.split is not None else None
    agreed = labelled.agreed(record, image)
    if record.task is LabelTask.CLASSES:
        return datasets.LabelledImage(ref, ClassTruth(frozenset(label.class_name for label in agreed)), split), {}
    objects = {_object(label): _besides(label) for label in agreed}
    return datasets.LabelledImage(ref, ObjectTruth(tuple(objects), image.image.width_px, image.image.height_px),
                                  split), objects


def _object(label: Label) -> TrueObject:
    shape = shape_of(label)
    if shape is None:
        raise ValueError(f"label {label.label_id}: expected an object, got a class of a whole image")
    return TrueObject(label.class_name, shape.box, shape.mask_rle)


def _besides(label: Label) -> dict[str, Any]:
    """What an annotation bears beside the object: its corners as they were drawn, who drew it, and from what."""
    found: dict[str, Any] = {"labelled_by": label.reader}
    if label.polygon is not None:
        found["segmentation"] = [[edge for corner in label.polygon for edge in corner]]
    if label.note:
        found["note"] = label.note
    if label.candidate_id is not None:
        found["candidate_id"] = label.candidate_id
    return found


def _info(record: LabelSet, places: tuple[int, int] | None) -> dict[str, Any]:
    frame = record.frame
    return {"description": f"{LABEL_SET}{record.name}: images drawn at random, labelled whole", "label_set": record.name,
            "input": record.input, "seed": record.seed, "frame_images": frame.images, "frame_units": frame.units,
            "frame_sha256": frame.sha256, "drawn_units": record.drawn_units, "places": places,
            "where_differ": record.where_differ.value}
