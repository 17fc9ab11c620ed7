"""COCO instances JSON (https://cocodataset.org/#format-data), as pycocotools loads it.

An image of several frames is one COCO image a frame. `file_name` is the image's place below the folder that all images
have in common, so that the file can stand in that folder as a data set; `image_uri`, `image_version`, `image_id` and
`frame` say exactly which image it is. A mask is `segmentation` as a compressed RLE of the whole frame. A candidate
without a mask (a box, or a class of a whole image, for which COCO has no place) has its box as `segmentation`, so that
pycocotools can load and score it as annotation and as result, and `has_mask` false. Everything else that is known of a
candidate stands beside as further keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote_to_bytes

from segsvc.errors import ConfigError
from segsvc.imaging import masks
from segsvc.types import Box
from segsvc.writers import Export, ExportCount
from segsvc.writers._rows import CandidateRow, ImageRow, class_number, images_alone, kept_table, read_images
from segsvc.writers.paths import file_target, reading, replacing

if TYPE_CHECKING:
    import pyarrow as pa

DEFAULT_NAME = "annotations.json"
_HEAD = b'{"info":{"description":"segsvc export","version":"1"},"licenses":[],"images":['
_KEPT_AS_IS = ("candidate_id", "model", "model_digest", "kind", "score", "mean_score", "text", "touches_edge",
               "probability", "band")
_KEPT_OF_IMAGE = ("image_uri", "image_version", "frame")


class CocoWriter:
    """`to` is a file that ends in .json, or a folder that gets annotations.json."""

    name = "coco"
    keeps = frozenset({*_KEPT_AS_IS, *_KEPT_OF_IMAGE, "image_id", "class_name", "x0", "y0", "x1", "y1", "area_px",
                       "mask_rle"})

    def encode(self, export: Export, to: Path) -> ExportCount:
        """Writes images that were read, and then their candidates, image by image.

        Raises ConfigError for a place that cannot be written, ValueError for a class that the export does not name.
        """
        target = file_target(to, format_name=self.name, suffixes=(".json",), default_name=DEFAULT_NAME,
                             is_ours=_is_ours)
        folder = _common_folder(export)
        images = candidates = 0
        with replacing(target) as file:
            file.write(_HEAD)
            listed = _Items(file)
            for image, number, frame in _frames(each for part in export.images() for each in images_alone(part)):
                listed.add(_image(image, number, frame, folder))
                images += frame == 0
            file.write(b'],"annotations":[')
            listed = _Items(file)
            for annotation in _annotations(export):
                listed.add(annotation)
                candidates += 1
            file.write(b'],"categories":[')
            listed = _Items(file)
            for number, name in enumerate(export.classes, start=1):
                listed.add({"id": number, "name": name, "supercategory": ""})
            file.write(b"]}\n")
        return ExportCount(images=images, candidates=candidates, files=1)

    def decode(self, path: Path) -> pa.Table:
        """The candidates in the file, or in the folder's annotations.json. Raises ConfigError for anything else."""
        source = path / DEFAULT_NAME if path.is_dir() else path
        with reading(source), source.open("rb") as file:
            try:
                document = json.load(file)
                images = {image["id"]: image for image in document["images"]}
                names = {category["id"]: category["name"] for category in document["categories"]}
                rows = [_row(annotation, images[annotation["image_id"]], names)
                        for annotation in document["annotations"]]
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"expected a COCO export of ours, got {source}: {error!r}") from error
        return kept_table(rows, self.keeps)


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_HEAD)) == _HEAD


class _Items:
    """The items of a JSON list, written one by one, each on its line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._before = b"\n"

    def add(self, item: Mapping[str, Any]) -> None:
        text = json.dumps(item, separators=(",", ":"), allow_nan=False)
        self._file.write(self._before + text.encode("ascii"))
        self._before = b",\n"


def _frames(images: Iterable[ImageRow]) -> Iterator[tuple[ImageRow, int, int]]:
    """Each frame of these images, with its number in the file, from 1."""
    number = 0
    for image in images:
        for frame in range(image.frames):
            number += 1
            yield image, number, frame


def _common_folder(export: Export) -> str:
    """What all URIs begin with, up to and with a slash; "" where they have nothing in common."""
    common: str | None = None
    for images in export.images():
        for uri in images.column("image_uri").to_pylist():
            folder = uri[:uri.rfind("/") + 1]
            while common is not None and not folder.startswith(common):
                common = common[:common.rfind("/", 0, -1) + 1]
            common = folder if common is None else common
    return common or ""


def _plain_name(segment: str) -> str:
    """A segment of a URI as a file's name; it stays percent-encoded where it would not be one segment of text."""
    try:
        name = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        return segment
    return segment if name in ("", ".", "..") or any(bad in name for bad in "/\\\0") else name


def _image(image: ImageRow, number: int, frame: int, folder: str) -> dict[str, Any]:
    below = image.image_uri[len(folder):].split("/")
    return {"id": number, "file_name": "/".join(_plain_name(segment) for segment in below), "width": image.width_px,
            "height": image.height_px, "image_uri": image.image_uri, "image_version": image.image_version,
            "image_id": image.image_id, "frame": frame, "meta": dict(image.meta)}


def _annotations(export: Export) -> Iterator[dict[str, Any]]:
    number = 0
    for image, image_number, frame in _frames(read_images(export)):
        for row in image.of_frame(frame):
            number += 1
            box = row.box
            yield {"id": number, "image_id": image_number,
                   "category_id": class_number(export.classes, row.class_name) + 1,
                   "bbox": [box.x0, box.y0, box.width_px, box.height_px], "area": row.area_px, "iscrowd": 0,
                   "segmentation": _segmentation(row, image), "has_mask": row.mask_rle is not None,
                   **{key: getattr(row, key) for key in _KEPT_AS_IS}}


def _segmentation(row: CandidateRow, image: ImageRow) -> dict[str, Any]:
    inside = _solid_rle(row.box.area_px) if row.mask_rle is None else row.mask_rle
    rle = masks.full_frame_rle(inside, row.box, width_px=image.width_px, height_px=image.height_px)
    return {"size": [image.height_px, image.width_px], "counts": rle.decode("ascii")}


def _solid_rle(area_px: int) -> bytes:
    """The encoding of a mask that fills its box of so many px: runs of 0 px of background and all of foreground."""
    text = bytearray(b"0")
    left, follows = area_px, True
    while follows:
        bits, left = left & 0x1F, left >> 5
        follows = left > 0 or bits & 0x10 != 0  # bit 4 of a number's last character is its sign
        text.append(48 + bits + (0x20 if follows else 0))
    return bytes(text)


def _row(annotation: Mapping[str, Any], image: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    x, y, width, height = annotation["bbox"]
    box = Box(x, y, x + width, y + height)
    mask = None
    if annotation["has_mask"]:
        shape = annotation["segmentation"]
        frame = Box(0, 0, shape["size"][1], shape["size"][0])
        inside = masks.compose([(shape["counts"].encode("ascii"), frame, 1)], window=box)
        mask = masks.encode(inside == 1).decode("ascii")
    return {"image_id": image["image_id"], "class_name": names[annotation["category_id"]], "x0": box.x0,
            "y0": box.y0, "x1": box.x1, "y1": box.y1, "area_px": annotation["area"], "mask_rle": mask,
            **{key: annotation[key] for key in _KEPT_AS_IS}, **{key: image[key] for key in _KEPT_OF_IMAGE}}


PLUGIN = CocoWriter()
