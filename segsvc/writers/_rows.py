"""The rows of an export: typed, image by image, and the columns that a manifest brought along."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from segsvc.errors import ConfigError
from segsvc.tables import CANDIDATES_VIEW_SCHEMA
from segsvc.types import Box, ImageStatus
from segsvc.writers import Export, ExportPart

BATCH_ROWS = 4096
GROUP = "group"
_READ = (ImageStatus.DONE.value, ImageStatus.EMPTY.value)


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One row of `CANDIDATES_VIEW_SCHEMA`; `mask_rle` is COCO's compressed RLE within `box`, None without a mask."""

    candidate_id: str
    frame: int
    model: str
    model_digest: str
    class_name: str
    kind: str
    score: float
    mean_score: float
    box: Box
    area_px: int
    mask_rle: bytes | None
    text: str | None
    touches_edge: bool
    probability: float | None
    band: str


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image that was read, with its candidates by frame; `meta` is what its manifest said, `group` included."""

    image_id: str
    image_uri: str
    image_version: str
    width_px: int
    height_px: int
    frames: int
    meta: Mapping[str, str]
    candidates: Mapping[int, Sequence[CandidateRow]] = field(default_factory=dict)

    def of_frame(self, frame: int) -> Sequence[CandidateRow]:
        return self.candidates.get(frame, ())

    def named(self, suffix: str, *, frame: int = 0) -> str:
        """A file's name made of the image's id and, from the second frame on, of the frame's number from 0."""
        return f"{self.image_id}_f{frame:04d}{suffix}" if frame else f"{self.image_id}{suffix}"


def read_images(export: Export) -> Iterator[ImageRow]:
    """The images of all parts that were read (status done or empty) in order, each with its candidates.

    Images that failed are left out: nothing is known of them. Raises ValueError where a part's candidates do not
    follow the order of its images, as they would otherwise be lost.
    """
    for part in export.parts():
        yield from _of_part(part)


def _of_part(part: ExportPart) -> Iterator[ImageRow]:
    rows = _candidates(part.candidates)
    ahead = next(rows, None)
    for image in images_alone(part.images):
        found: dict[int, list[CandidateRow]] = {}
        while ahead is not None and ahead[0] == image.image_id:
            if ahead[1].frame >= image.frames:
                raise ValueError(f"expected candidates in the {image.frames} frames of image {image.image_id}, got frame "
                                 f"{ahead[1].frame}")
            found.setdefault(ahead[1].frame, []).append(ahead[1])
            ahead = next(rows, None)
        yield replace(image, candidates=found)
    if ahead is not None:
        raise ValueError("expected candidates in the order of their part's readable images, got candidate "
                         f"{ahead[1].candidate_id} of image {ahead[0]} out of order")


def images_alone(images: pa.Table) -> Iterator[ImageRow]:
    """The images of a part that were read, in order, without their candidates."""
    for image in _batched(images):
        if image["status"] in _READ:
            yield ImageRow(image_id=image["image_id"], image_uri=image["image_uri"], image_version=image["image_version"],
                           width_px=image["width_px"], height_px=image["height_px"], frames=image["frames"],
                           meta=_meta(image))


def _meta(image: Mapping[str, Any]) -> dict[str, str]:
    group = {} if image[GROUP] is None else {GROUP: image[GROUP]}
    return {**group, **dict(image["meta"])}


def _batched(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        yield from batch.to_pylist()


def _candidates(table: pa.Table) -> Iterator[tuple[str, CandidateRow]]:
    for row in _batched(table):
        mask = row["mask_rle"]
        yield row["image_id"], CandidateRow(
            candidate_id=row["candidate_id"], frame=row["frame"], model=row["model"], model_digest=row["model_digest"],
            class_name=row["class_name"], kind=row["kind"], score=row["score"], mean_score=row["mean_score"],
            box=Box(row["x0"], row["y0"], row["x1"], row["y1"]), area_px=row["area_px"],
            mask_rle=None if mask is None else mask.encode("ascii"), text=row["text"],
            touches_edge=row["touches_edge"], probability=row["probability"], band=row["band"])


def readable_count(part: ExportPart) -> int:
    """How many of the part's images were read."""
    return int(pc.sum(pc.is_in(part.images.column("status"), value_set=pa.array(_READ))).as_py() or 0)


def class_number(classes: Sequence[str], class_name: str) -> int:
    """The place of a class, from 0. Raises ValueError for a class that the export does not name."""
    try:
        return classes.index(class_name)
    except ValueError:
        raise ValueError(f"expected a class of the export ({', '.join(classes)}), got {class_name!r}") from None


def meta_columns(export: Export, taken: Iterable[str]) -> dict[str, str]:
    """Which column holds which key of the images' meta: in the order of their first appearance.

    A key has its own name, and `meta.` before it where a column of that name is `taken`.
    """
    used, columns = set(taken), {}
    for images in export.images():
        keys = [GROUP] if images.column(GROUP).null_count < images.num_rows else []
        keys += [key for meta in images.column("meta").to_pylist() for key, _ in meta]
        for key in keys:
            if key not in columns:
                name = key
                while name in used:
                    name = f"meta.{name}"
                used.add(name)
                columns[key] = name
    return columns


def view(export: Export, part: ExportPart, columns: Mapping[str, str]) -> pa.Table:
    """The part's candidates with the columns of `CANDIDATES_VIEW_SCHEMA`, what was decided, and their images' meta."""
    schema = view_schema(export, {})
    table = part.candidates.select(schema.names).cast(schema)
    places = pc.index_in(table.column("image_id"), value_set=part.images.column("image_id").combine_chunks())
    for key, name in columns.items():
        values = pc.map_lookup(part.images.column("meta"), key, "last")
        if key == GROUP:
            values = pc.coalesce(values, part.images.column(GROUP))
        table = table.append_column(pa.field(name, pa.string()), values.take(places))
    return table


def view_schema(export: Export, columns: Mapping[str, str]) -> pa.Schema:
    """The schema of what `view` gives."""
    texts = (*export.decided, *columns.values())
    return pa.schema([*CANDIDATES_VIEW_SCHEMA, *(pa.field(name, pa.string()) for name in texts)])


def kept_table(rows: Sequence[Mapping[str, Any]], keeps: frozenset[str]) -> pa.Table:
    """Rows read back as a table of the columns in `keeps`, in the order and the types of `CANDIDATES_VIEW_SCHEMA`."""
    schema = pa.schema([column for column in CANDIDATES_VIEW_SCHEMA if column.name in keeps])
    return pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)


def csv_line(cells: Iterable[object]) -> str:
    """One line of CSV (RFC 4180, but ended by a line feed); None is an empty cell."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(["" if cell is None else cell for cell in cells])
    return line.getvalue()


def read_index(path: Path, *, needs: Sequence[str]) -> list[dict[str, str]]:
    """The lines of an export's index by column. Raises ConfigError where it is missing or is none of ours."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ())[:len(needs)] != tuple(needs):
                raise ConfigError(f"expected an index that begins with {','.join(needs)}, got {path}")
            return list(reader)
    except OSError as error:
        raise ConfigError(f"expected an export with the index {path}: {error.strerror}") from error
