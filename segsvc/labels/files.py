"""Labelled images written as one file that any layout's reader takes: COCO for objects, a .csv for classes of whole images.

Images are named by their whole URIs, so that the file may lie anywhere. Groups, splits and further columns are kept, and so
is where labels come from.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from segsvc import truth
from segsvc.datasets import Dataset, LabelledImage, MaskTruth, ObjectTruth, TrueObject
from segsvc.datasets.origin import COLUMNS, Origin
from segsvc.errors import ConfigError, ImageError
from segsvc.imaging import masks
from segsvc.imaging.masks import BoolArray
from segsvc.index_masks import read_index_mask
from segsvc.readers import ReadLimits
from segsvc.settings import settings
from segsvc.types import Box

OBJECTS, CLASSES = "annotations.json", "labels.csv"


def coco_file(images: Sequence[LabelledImage], classes: Sequence[str], *, origin: Origin | None = None,
              further: Mapping[tuple[str, TrueObject], Mapping[str, Any]] | None = None,
              info: Mapping[str, Any] | None = None) -> bytes:
    """A COCO file of images whose truth is objects. further: of an image's URI and an object, keys of its annotation in
    place of those that follow from it, or that COCO does not know. info: further keys of `info`.

    Raises ValueError for images with another truth.
    """
    number_of = {name: number for number, name in enumerate(classes, start=1)}
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        if not isinstance(image.truth, ObjectTruth):
            raise ValueError(f"{image.ref.uri}: expected objects, got {type(image.truth).__name__}")
        width, height = image.truth.width_px, image.truth.height_px
        entries.append({"id": number, "file_name": image.ref.uri, "width": width, "height": height, **_kept(image)})
        for each in image.truth.objects:
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": number_of[each.class_name],
                "bbox": [each.box.x0, each.box.y0, each.box.width_px, each.box.height_px], "iscrowd": int(each.ignored),
                **_shape(each, width, height), **(further or {}).get((image.ref.uri, each), {})})
    said = {"description": "labels", "version": "1", **(info or {}), **(origin.as_info() if origin is not None else {})}
    categories = [{"id": number, "name": name} for name, number in number_of.items()]
    return (json.dumps({"info": said, "images": entries, "annotations": annotations, "categories": categories},
                       separators=(",", ":")) + "\n").encode("ascii")


def class_file(images: Sequence[LabelledImage], *, origin: Origin | None = None) -> bytes:
    """A .csv of the classes that images show. Raises ConfigError for images with index masks."""
    names = sorted({name for image in images for name in image.ref.meta} - {"uri", "labels", "group", "split", *COLUMNS})
    said = origin.as_columns() if origin is not None else {}
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["uri", "labels", "group", "split", *names, *said])
    for image in images:
        split = image.split.value if image.split is not None else ""
        table.writerow([image.ref.uri, "|".join(sorted(truth.class_names(image))), image.ref.group or "", split,
                        *(image.ref.meta.get(name, "") for name in names), *said.values()])
    return text.getvalue().encode("utf-8", "surrogateescape")


def with_objects(image: LabelledImage, dataset: Dataset) -> LabelledImage:
    """The image with objects as its truth: those of its mask are its regions, and one of what the mask ignores.

    Raises ConfigError for a mask that cannot be read.
    """
    if not isinstance(image.truth, MaskTruth):
        return image
    try:
        height, width = read_index_mask(image.truth.mask, ReadLimits(decode_bytes=settings().decode_limit_bytes)).shape
    except ImageError as error:
        raise ConfigError(f"{image.truth.mask.uri}: {error}") from error
    mask = truth.index_mask(image, dataset, width_px=width, height_px=height)
    found = (*truth.regions(mask, dataset), *ignored(mask == truth.IGNORE, dataset.classes[0]))
    return replace(image, truth=ObjectTruth(found, width, height))


def ignored(px: BoolArray, class_name: str) -> tuple[TrueObject, ...]:
    """The px (h, w) of an image that are neither to be found nor to be missed, as one object; none where there are none."""
    rows, columns = np.flatnonzero(px.any(axis=1)), np.flatnonzero(px.any(axis=0))
    if not rows.size:
        return ()
    box = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return (TrueObject(class_name, box, masks.encode(px[box.y0: box.y1, box.x0: box.x1]), ignored=True),)


def _kept(image: LabelledImage) -> dict[str, Any]:
    kept: dict[str, Any] = {"meta": dict(image.ref.meta)} if image.ref.meta else {}
    if image.ref.group is not None:
        kept["group"] = image.ref.group
    if image.split is not None:
        kept["split"] = image.split.value
    return kept


def _shape(each: TrueObject, width_px: int, height_px: int) -> dict[str, Any]:
    if each.mask_rle is None:
        return {"area": each.box.area_px, "segmentation": [], "has_mask": False}
    rle = masks.full_frame_rle(each.mask_rle, each.box, width_px=width_px, height_px=height_px)
    area_px = masks.area_px(each.mask_rle, height_px=each.box.height_px, width_px=each.box.width_px)
    return {"area": area_px, "segmentation": {"size": [height_px, width_px], "counts": rle.decode("ascii")}}
