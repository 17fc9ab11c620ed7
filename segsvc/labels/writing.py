"""A label set as a data set that any tool reads: a COCO .json, or a .csv for classes of whole images.

Images are named by their whole URIs, so the file may lie anywhere. Beside what the format has, each image bears who
labelled it and when, how long that took, and whether the model's candidates were shown meanwhile.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segsvc.errors import ConfigError
from segsvc.imaging import masks
from segsvc.ledger import label_sets, labelled
from segsvc.ledger.errors import Unknown
from segsvc.ledger.label_records import Label, LabelledImage, LabelSet, LabelTask
from segsvc.ledger.label_rows import shape_of
from segsvc.ledger.opening import Ledger
from segsvc.models.checkpoint import write_whole
from segsvc.readahead import in_order
from segsvc.settings import user_data
from segsvc.stores import store_of

PREFIX = "label:"
_AT_ONCE = 16
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
    data = _table(record, kept) if is_table else _coco(record, kept, places)
    if to is None:
        digest = hashlib.sha256(data).hexdigest()[:12]
        to = _folder(ledger) / f"{wanted.removeprefix(PREFIX)}-{digest}{'.csv' if is_table else '.json'}"
    write_whole(to, data)
    n_labels = sum(len(labelled.agreed(record, each)) for each in kept)
    return WrittenSet(to, len(kept), n_labels, len(images) - len(kept))


def _parsed(wanted: str) -> tuple[str, tuple[int, int] | None]:
    name, at, places = wanted.removeprefix(PREFIX).partition("@")
    if name and not at:
        return name, None
    found = _PLACES.fullmatch(places)
    if not name or found is None:
        raise ConfigError(f"DATASET: expected {PREFIX}SET, {PREFIX}SET@N for its first N images, or {PREFIX}SET@A-B for "
                          f"those from A to B in drawn order, got {wanted!r}")
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


def _provenance(image: LabelledImage) -> dict[str, str]:
    said = [each.labelling for each in image.opinions]
    seconds = [f"{each.seconds:.1f}" if each.seconds is not None else "" for each in said]
    return {"labelled_by": "|".join(each.reader for each in said),
            "labelled_at": "|".join(each.done_at.isoformat() for each in said), "labelled_seconds": "|".join(seconds),
            "candidates_shown": "|".join("yes" if each.candidates_shown else "no" for each in said)}


def _group(record: LabelSet, image: LabelledImage) -> str | None:
    return image.unit if record.grouped_by is not None else image.meta.get("group")


def _table(record: LabelSet, images: Sequence[LabelledImage]) -> bytes:
    own = sorted({name for each in images for name in each.meta} - {"uri", "labels", "group", "split"})
    provenance = list(_provenance(images[0]))
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["uri", "labels", "group", "split", *provenance, *(name for name in own if name not in provenance)])
    for each in images:
        shown = sorted({label.class_name for label in labelled.agreed(record, each)}, key=record.class_names.index)
        said = _provenance(each)
        writer.writerow([each.image.uri, "|".join(shown), _group(record, each) or "", each.split or "", *said.values(),
                         *(each.meta.get(name, "") for name in own if name not in provenance)])
    return file.getvalue().encode("utf-8", "surrogateescape")


def _coco(record: LabelSet, images: Sequence[LabelledImage], places: tuple[int, int] | None) -> bytes:
    number = {name: place for place, name in enumerate(record.class_names, start=1)}
    annotations: list[Mapping[str, Any]] = []
    for each in images:
        for label in labelled.agreed(record, each):
            annotations.append({"id": len(annotations) + 1, "image_id": each.position,
                                "category_id": number[label.class_name], **_shape(label, each)})
    frame = record.frame
    document = {
        "info": {"description": f"{PREFIX}{record.name}: images drawn at random, labelled whole", "label_set": record.name,
                 "input": record.input, "seed": record.seed, "frame_images": frame.images, "frame_units": frame.units,
                 "frame_sha256": frame.sha256, "drawn_units": record.drawn_units, "places": places,
                 "where_differ": record.where_differ.value},
        "images": [{"id": each.position, "file_name": each.image.uri, "width": each.image.width_px,
                    "height": each.image.height_px, "image_id": each.image.image_id, "image_version": each.image.version,
                    **({"group": group} if (group := _group(record, each)) is not None else {}),
                    **({"split": each.split} if each.split is not None else {}),
                    "meta": {**each.meta, **_provenance(each)}} for each in images],
        "categories": [{"id": place, "name": name} for name, place in number.items()],
        "annotations": annotations}
    return (json.dumps(document, ensure_ascii=True, indent=1) + "\n").encode()


def _shape(label: Label, image: LabelledImage) -> dict[str, Any]:
    shape = shape_of(label)
    if shape is None or label.box is None:
        raise ConfigError(f"label set: expected objects, got {label.class_name!r} for the whole of {image.image.uri}")
    box = label.box
    found: dict[str, Any] = {"bbox": [box.x0, box.y0, box.width_px, box.height_px], "area": shape.area_px, "iscrowd": 0,
                             "labelled_by": label.reader}
    if label.polygon is not None:
        found["segmentation"] = [[edge for corner in label.polygon for edge in corner]]
    elif shape.mask_rle is not None:
        size = image.image.width_px, image.image.height_px
        found["segmentation"] = {"size": [size[1], size[0]], "counts": masks.full_frame_rle(
            shape.mask_rle, shape.box, width_px=size[0], height_px=size[1]).decode("ascii")}
    if label.note:
        found["note"] = label.note
    if label.candidate_id is not None:
        found["candidate_id"] = label.candidate_id
    return found
