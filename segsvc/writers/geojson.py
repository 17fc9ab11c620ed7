"""GeoJSON as QuPath 0.4 and later read and write it (https://qupath.readthedocs.io): a Feature a candidate.

Coordinates are px of the full image, origin top left; rings run along the edges of px, so that filling them gives the
mask again, and are closed. Outlines of more than `MOST_VERTICES` corners are simplified until they fit. A candidate
without a mask is its box. Places in the image are of the objectType "detection"; a class of the whole image is an
"annotation". A frame but the first is the plane's t. Numbers stand in `measurements`; text, and which image it is, in
`metadata`. `bbox` is x0, y0, x1, y1 (RFC 7946, section 5).
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from segsvc.errors import ConfigError
from segsvc.imaging import masks
from segsvc.imaging.overlay import class_colour
from segsvc.types import CandidateKind
from segsvc.writers import Export, ExportCount
from segsvc.writers._rows import (
    CandidateRow,
    ImageRow,
    class_number,
    csv_line,
    kept_table,
    meta_columns,
    read_images,
    read_index,
)
from segsvc.writers.paths import INDEX_NAME, file_target, reading, replacing, replacing_folder

if TYPE_CHECKING:
    import pyarrow as pa

MOST_VERTICES = 4000
SUFFIXES = (".geojson", ".json")
COLUMNS = ("file", "image_uri", "image_version", "frames", "width_px", "height_px", "n_candidates")
_HEAD = b'{"type":"FeatureCollection","features":['
_OWN_NAMES = re.compile(r"[0-9a-f]{32}\.geojson")
_MEASURED = ("score", "mean_score", "area_px", "probability")
_OF_IMAGE = ("image_id", "image_uri", "image_version")
_WORDS = ("kind", "band", "model", "model_digest", "text")


class GeoJsonWriter:
    """`to` is a file that ends in .geojson or .json, for all images; or a folder: <image_id>.geojson and index.csv."""

    name = "geojson"
    keeps = frozenset({*_MEASURED, *_OF_IMAGE, *_WORDS, "candidate_id", "frame", "class_name", "x0", "y0", "x1", "y1",
                       "touches_edge"})

    def encode(self, export: Export, to: Path) -> ExportCount:
        """Writes the images that were read. Raises ConfigError for a place that cannot be written."""
        if to.suffix.lower() in SUFFIXES and not to.is_dir():
            return self._encode_file(export, to)
        return self._encode_folder(export, to)

    def decode(self, path: Path) -> pa.Table:
        """The candidates of a file or folder. Raises ConfigError for anything else."""
        with reading(path):
            files = [path]
            if path.is_dir():
                files = [path / Path(entry["file"]).name for entry in read_index(path / INDEX_NAME, needs=COLUMNS)]
            rows: list[dict[str, Any]] = []
            for file in files:
                try:
                    rows += [_row(feature) for feature in json.loads(file.read_bytes())["features"]]
                except (ValueError, KeyError, TypeError) as error:
                    raise ConfigError(f"expected a GeoJSON export of ours, got {file}: {error!r}") from error
        return kept_table(rows, self.keeps)

    def _encode_file(self, export: Export, to: Path) -> ExportCount:
        target = file_target(to, format_name=self.name, suffixes=SUFFIXES, default_name="", is_ours=lambda _: False)
        images = candidates = 0
        with replacing(target) as file:
            file.write(_HEAD)
            for image in read_images(export):
                candidates += _write_features(file, image, export.classes, is_first=candidates == 0)
                images += 1
            file.write(b"\n]}\n")
        return ExportCount(images=images, candidates=candidates, files=1)

    def _encode_folder(self, export: Export, to: Path) -> ExportCount:
        images = candidates = 0
        columns = meta_columns(export, COLUMNS)
        with (replacing_folder(to, format_name=self.name, columns=COLUMNS, own_names=_OWN_NAMES) as folder,
              (folder / INDEX_NAME).open("w", encoding="utf-8", newline="") as index):
            index.write(csv_line([*COLUMNS, *columns.values()]))
            for image in read_images(export):
                name = image.named(".geojson")
                with (folder / name).open("wb") as file:
                    file.write(_HEAD)
                    count = _write_features(file, image, export.classes, is_first=True)
                    file.write(b"\n]}\n")
                index.write(csv_line([name, image.image_uri, image.image_version, image.frames, image.width_px,
                                      image.height_px, count, *(image.meta.get(key) for key in columns)]))
                images, candidates = images + 1, candidates + count
        return ExportCount(images=images, candidates=candidates, files=images + 1)


def _write_features(file: BinaryIO, image: ImageRow, classes: Sequence[str], *, is_first: bool) -> int:
    count = 0
    for rows in image.candidates.values():
        for row in rows:
            feature = json.dumps(_feature(image, row, classes), separators=(",", ":"), allow_nan=False)
            file.write((b"\n" if is_first and count == 0 else b",\n") + feature.encode("ascii"))
            count += 1
    return count


def _feature(image: ImageRow, row: CandidateRow, classes: Sequence[str]) -> dict[str, Any]:
    box = row.box
    whole = row.kind == CandidateKind.IMAGE
    words = {name: value for name in _WORDS if (value := getattr(row, name)) is not None}
    return {
        "type": "Feature", "id": str(uuid.UUID(row.candidate_id)), "bbox": [box.x0, box.y0, box.x1, box.y1],
        "geometry": {**_geometry(row), **({"plane": {"c": -1, "z": 0, "t": row.frame}} if row.frame else {})},
        "properties": {
            "objectType": "annotation" if whole else "detection",
            "classification": {"name": row.class_name,
                               "color": list(class_colour(class_number(classes, row.class_name)))},
            "isLocked": False,
            "measurements": {name: value for name in _MEASURED if (value := getattr(row, name)) is not None},
            "metadata": {**{f"meta.{key}": value for key, value in image.meta.items()},
                         **{name: getattr(image, name) for name in _OF_IMAGE}, **words,
                         "touches_edge": str(row.touches_edge).lower()},
        },
    }


def _geometry(row: CandidateRow) -> dict[str, Any]:
    box = row.box
    if row.mask_rle is None:
        corners = [[box.x0, box.y0], [box.x1, box.y0], [box.x1, box.y1], [box.x0, box.y1], [box.x0, box.y0]]
        return {"type": "Polygon", "coordinates": [corners]}
    polygons = [[_closed(ring) for ring in (polygon.outer, *polygon.holes)]
                for polygon in masks.polygons(row.mask_rle, box, max_vertices=MOST_VERTICES)]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _closed(ring: masks.Ring) -> list[list[int]]:
    corners: list[list[int]] = ring.tolist()
    return [*corners, corners[0]]


def _row(feature: Mapping[str, Any]) -> dict[str, Any]:
    properties = feature["properties"]
    metadata, measured = properties["metadata"], properties["measurements"]
    return {"candidate_id": uuid.UUID(feature["id"]).hex, "frame": feature["geometry"].get("plane", {}).get("t", 0),
            "class_name": properties["classification"]["name"],
            **dict(zip(("x0", "y0", "x1", "y1"), feature["bbox"], strict=True)),
            **{name: measured.get(name) for name in _MEASURED}, **{name: metadata[name] for name in _OF_IMAGE},
            **{name: metadata.get(name) for name in _WORDS}, "touches_edge": metadata["touches_edge"] == "true"}


PLUGIN = GeoJsonWriter()
