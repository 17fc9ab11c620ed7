"""Index masks: a PNG for each image and frame whose px say which class is there; a data set of masks as others read it.

Value 0 is background and value v is line v of classes.txt (from 0). Value 255 means "ignored" to most readers of such
masks and is never written: from the 255th class on values are one higher, and files are of 16 bit from 255 classes on.
Where regions of several classes overlap, the px belong to the region of the highest score, and on equal scores to the
earlier class. Candidates without a mask are left out and not counted. Regions of one class that touch become one.
A line of classes.txt is the class's name; one that could not be told apart as a line is written as a JSON string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from segsvc.errors import ConfigError
from segsvc.imaging import masks
from segsvc.types import Box
from segsvc.writers import Export, ExportCount
from segsvc.writers._png_stream import Colour, PngStream, RowFilter
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
from segsvc.writers.paths import INDEX_NAME, reading, replacing_folder

if TYPE_CHECKING:
    import pyarrow as pa

BAND_BYTES = 16 * 1024 * 1024
BACKGROUND = "background"
IGNORED = 255
CLASSES_NAME = "classes.txt"
COLUMNS = ("file", "image_uri", "image_version", "frame", "width_px", "height_px")
_OWN_NAMES = re.compile(r"[0-9a-f]{32}(_f[0-9]{4,})?\.png|classes\.txt")

IndexArray = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


class PngWriter:
    """`to` is a folder: <image_id>.png, further frames as <image_id>_f0001.png, classes.txt and index.csv."""

    name = "png"
    keeps = frozenset({"image_id", "image_uri", "image_version", "frame", "class_name", "x0", "y0", "x1", "y1",
                       "area_px", "mask_rle"})

    def encode(self, export: Export, to: Path) -> ExportCount:
        """Writes a mask for every frame of every image that was read, also where nothing was found.

        Memory is bounded by a band of rows. Raises ConfigError for a folder that cannot be written or holds other
        files.
        """
        images = painted = files = 0
        columns = meta_columns(export, COLUMNS)
        with (replacing_folder(to, format_name=self.name, columns=COLUMNS, own_names=_OWN_NAMES) as folder,
              (folder / INDEX_NAME).open("w", encoding="utf-8", newline="") as index):
            (folder / CLASSES_NAME).write_text("".join(f"{line}\n" for line in _class_lines(export.classes)), "utf-8")
            index.write(csv_line([*COLUMNS, *columns.values()]))
            for image in read_images(export):
                images += 1
                for frame in range(image.frames):
                    name = image.named(".png", frame=frame)
                    painted += _write_mask(folder / name, image, frame=frame, classes=export.classes)
                    files += 1
                    index.write(csv_line([name, image.image_uri, image.image_version, frame, image.width_px,
                                          image.height_px, *(image.meta.get(key) for key in columns)]))
        return ExportCount(images=images, candidates=painted, files=files + 2)

    def decode(self, path: Path) -> pa.Table:
        """One row for each 8-connected region of a class. Raises ConfigError where `path` is no such export."""
        rows: list[dict[str, Any]] = []
        entries = read_index(path / INDEX_NAME, needs=COLUMNS)
        with reading(path):
            lines = (path / CLASSES_NAME).read_text("utf-8").split("\n")[:-1]
            names = [json.loads(line) if line.startswith('"') else line for line in lines]
            for entry in entries:
                rows += _regions(path, entry, names)
        return kept_table(rows, self.keeps)


def _pixel_value(number: int) -> int:
    return number + 1 if number + 1 < IGNORED else number + 2


def _class_lines(classes: Sequence[str]) -> list[str]:
    lines = [BACKGROUND]
    for number, name in enumerate(classes):
        lines += ["ignored"] * (_pixel_value(number) - len(lines))
        plain = name.splitlines() == [name] and name == name.strip() and not name.startswith('"')
        lines.append(name if plain else json.dumps(name))
    return lines


def _write_mask(path: Path, image: ImageRow, *, frame: int, classes: Sequence[str]) -> int:
    dtype = np.uint8 if _pixel_value(len(classes) - 1) < IGNORED else np.uint16
    masked = [row for row in image.of_frame(frame) if row.mask_rle is not None]
    with path.open("wb") as file:
        stream = PngStream(file, width_px=image.width_px, height_px=image.height_px, colour=Colour.GREY,
                           row_filter=RowFilter.NONE, dtype=dtype)
        for band in _bands(image, masked, classes=classes, dtype=dtype):
            stream.write_rows(band[:, :, None])
        stream.finish()
    return len(masked)


def _bands(image: ImageRow, masked: Sequence[CandidateRow], *, classes: Sequence[str],
           dtype: type[np.uint8] | type[np.uint16]) -> Iterator[IndexArray]:
    """(rows, width_px) of pixel values, from top to bottom."""
    numbers = {row.class_name: class_number(classes, row.class_name) for row in masked}
    painting = sorted(masked, key=lambda row: (row.score, -numbers[row.class_name]))  # who is painted last, wins
    step = max(1, BAND_BYTES // (image.width_px * np.dtype(dtype).itemsize))
    touching: list[list[int]] = [[] for _ in range(-(-image.height_px // step))]
    for place, row in enumerate(painting):
        for number in range(row.box.y0 // step, -(-row.box.y1 // step)):
            touching[number].append(place)
    for y0, places in zip(range(0, image.height_px, step), touching, strict=True):
        band = Box(0, y0, image.width_px, min(y0 + step, image.height_px))
        yield masks.compose(((painting[place].mask_rle or b"", painting[place].box,
                              _pixel_value(numbers[painting[place].class_name])) for place in places),
                            window=band, dtype=dtype)


def _regions(path: Path, entry: dict[str, str], names: Sequence[str]) -> list[dict[str, Any]]:
    import cv2

    pixels = cv2.imread(str(path / Path(entry["file"]).name), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ConfigError(f"expected the index mask {entry['file']} in {path}, got none that can be read")
    rows = []
    for value in np.unique(pixels):
        if value == 0:
            continue
        _, labels, stats, _ = cv2.connectedComponentsWithStats((pixels == value).astype(np.uint8), connectivity=8)
        for label, (x0, y0, width, height, area) in enumerate(stats.tolist()):
            if label == 0:
                continue
            rows.append({"image_id": entry["file"][:32], "image_uri": entry["image_uri"], "frame": int(entry["frame"]),
                         "image_version": entry["image_version"], "class_name": names[value], "x0": x0, "y0": y0,
                         "x1": x0 + width, "y1": y0 + height, "area_px": area,
                         "mask_rle": masks.encode(labels[y0:y0 + height, x0:x0 + width] == label).decode("ascii")})
    return sorted(rows, key=lambda row: (row["class_name"], row["x0"], row["y0"], row["x1"], row["y1"]))


PLUGIN = PngWriter()
