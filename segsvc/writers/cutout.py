"""Cutouts: an RGBA PNG for each candidate, its box cut out of the image; alpha is 255 in the mask and 0 around it.

A candidate without a mask is opaque all over. Grey images give equal red, green and blue. Images of more than 8 bit are
scaled to 8 bit by one straight line for the whole frame, from its 1st and 99.8th percentile to 0 and 255: cutouts of
one frame can be compared with each other by eye, values cannot be measured in them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from segsvc.errors import ConfigError, ImageError
from segsvc.imaging import masks
from segsvc.imaging.overlay import display_range, to_display
from segsvc.tables import CANDIDATES_VIEW_SCHEMA
from segsvc.types import Box, Source
from segsvc.writers import Export, ExportCount
from segsvc.writers._png_stream import Colour, PngStream, RowFilter
from segsvc.writers._rows import CandidateRow, ImageRow, csv_line, kept_table, meta_columns, read_images, read_index
from segsvc.writers.paths import INDEX_NAME, reading, replacing_folder

if TYPE_CHECKING:
    import pyarrow as pa

BAND_PX = 2 * 1024 * 1024
SAMPLE_PX = 512  # the side of the boxes that stand for an image too large to be looked at whole
SAMPLES_A_SIDE = 4
COLUMNS = ("file", "image_uri", "class_name", "score", "x0", "y0", "x1", "y1", "masked", "image_id", "image_version",
           "frame", "candidate_id", "model", "model_digest", "kind", "mean_score", "area_px", "text", "touches_edge",
           "probability", "band")
_OWN_NAMES = re.compile(r"[0-9a-f]{32}\.png")


class CutoutWriter:
    """`to` is a folder: <candidate_id>.png and index.csv."""

    name = "cutout"
    keeps = frozenset(CANDIDATES_VIEW_SCHEMA.names)

    def encode(self, export: Export, to: Path) -> ExportCount:
        """Writes a cutout for each candidate, band by band.

        An image that cannot be opened or read is left out and counted as unreadable. Raises ConfigError for a folder
        that cannot be written or holds other files.
        """
        images = candidates = unreadable = 0
        columns = meta_columns(export, COLUMNS)
        with (replacing_folder(to, format_name=self.name, columns=COLUMNS, own_names=_OWN_NAMES) as folder,
              (folder / INDEX_NAME).open("w", encoding="utf-8", newline="") as index):
            index.write(csv_line([*COLUMNS, *columns.values()]))
            for image in read_images(export):
                try:
                    lines = _cut_image(export, image, folder) if image.candidates else []
                except ImageError:
                    unreadable += 1
                    continue
                meta = [image.meta.get(key) for key in columns]
                index.writelines(csv_line([*line, *meta]) for line in lines)
                images, candidates = images + 1, candidates + len(lines)
        return ExportCount(images=images, candidates=candidates, files=candidates + 1, unreadable_images=unreadable)

    def decode(self, path: Path) -> pa.Table:
        """The candidates by index and alpha. Raises ConfigError where `path` is no such export."""
        entries = read_index(path / INDEX_NAME, needs=COLUMNS)
        with reading(path):
            return kept_table([_row(path, entry) for entry in entries], self.keeps)


def _cut_image(export: Export, image: ImageRow, folder: Path) -> list[list[object]]:
    """Writes the image's cutouts; gives their lines of the index. Raises ImageError, and then leaves no file."""
    written: list[Path] = []
    lines = []
    source = export.open_image(image.image_uri, image.image_version)
    try:
        for frame, rows in image.candidates.items():
            scale = frame_range(source, frame=frame)
            for row in rows:
                written.append(folder / f"{row.candidate_id}.png")
                _cut(source, row, written[-1], scale)
                box = row.box
                lines.append([written[-1].name, image.image_uri, row.class_name, row.score, box.x0, box.y0, box.x1,
                              box.y1, int(row.mask_rle is not None), image.image_id, image.image_version, frame,
                              row.candidate_id, row.model, row.model_digest, row.kind, row.mean_score, row.area_px,
                              row.text, int(row.touches_edge),
                              row.probability, row.band])
    except ImageError:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    finally:
        source.close()
    return lines


def _cut(source: Source, row: CandidateRow, path: Path, scale: tuple[float, float]) -> None:
    box = row.box
    step = max(1, BAND_PX // box.width_px)
    with path.open("wb") as file:
        stream = PngStream(file, width_px=box.width_px, height_px=box.height_px, colour=Colour.RGB_ALPHA,
                           row_filter=RowFilter.UP)
        for y0 in range(box.y0, box.y1, step):
            band = Box(box.x0, y0, box.x1, min(y0 + step, box.y1))
            pixels = np.empty((band.height_px, band.width_px, 4), np.uint8)
            pixels[:, :, :3] = to_display(source.read(band, frame=row.frame), value_range=scale)
            pixels[:, :, 3] = 255 if row.mask_rle is None else masks.compose([(row.mask_rle, box, 255)], window=band)
            stream.write_rows(pixels)
        stream.finish()


def frame_range(source: Source, *, frame: int) -> tuple[float, float]:
    """Which values of a frame become 0 and 255; (0, 255) where they are of 8 bit.

    They are the percentiles of the smallest level, or of boxes on a regular grid where that is large as well.
    """
    if source.dtype == np.uint8:
        return 0.0, 255.0
    level = len(source.levels) - 1
    width, height = source.levels[level].width_px, source.levels[level].height_px
    boxes = [Box(0, 0, width, height)]
    if width * height > (SAMPLES_A_SIDE * SAMPLE_PX) ** 2:
        boxes = [Box(x0, y0, min(x0 + SAMPLE_PX, width), min(y0 + SAMPLE_PX, height))
                 for y0 in _starts(height) for x0 in _starts(width)]
    sample: list[npt.NDArray[np.generic]] = [source.read(box, level=level, frame=frame).reshape(-1, 1) for box in boxes]
    return display_range(np.concatenate(sample))


def _starts(length_px: int) -> list[int]:
    """Where sample boxes begin along a side, evenly spread; each once."""
    last = max(0, length_px - SAMPLE_PX)
    return sorted({last * place // (SAMPLES_A_SIDE - 1) for place in range(SAMPLES_A_SIDE)})


def _row(path: Path, entry: dict[str, str]) -> dict[str, Any]:
    import cv2

    pixels = cv2.imread(str(path / Path(entry["file"]).name), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4:
        raise ConfigError(f"expected the RGBA cutout {entry['file']} in {path}, got none that can be read")
    row: dict[str, Any] = dict(entry)
    for name in ("x0", "y0", "x1", "y1", "frame", "area_px"):
        row[name] = int(entry[name])
    for name in ("score", "mean_score", "probability"):
        row[name] = float(entry[name]) if entry[name] else None
    row["text"] = entry["text"] or None
    row["touches_edge"] = entry["touches_edge"] == "1"
    row["mask_rle"] = masks.encode(pixels[:, :, 3] == 255).decode("ascii") if entry["masked"] == "1" else None
    return row


PLUGIN = CutoutWriter()
