"""The frame of a sample: the list of all that it is drawn from, as it was then, and the order of drawing."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segsvc.errors import ConfigError
from segsvc.ledger.label_records import Frame
from segsvc.types import ImageRef

_AT_ONCE = 20_000  # rows
_SCHEMA = pa.schema([
    pa.field("image_uri", pa.string(), nullable=False), pa.field("image_version", pa.string(), nullable=False),
    pa.field("size_bytes", pa.int64(), nullable=False), pa.field("unit", pa.string(), nullable=False),
    pa.field("group", pa.string()), pa.field("meta", pa.map_(pa.string(), pa.string()), nullable=False)])


def write_frame(place: Path, refs: Iterable[ImageRef], *, grouped_by: str | None, n: int,
                say: Callable[[str], None] = lambda text: None) -> Frame:
    """Writes down what is drawn from. n: how many units will be drawn of it, at the least.

    Raises ConfigError where it holds too few units, or an image has none.
    """
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    digest, images, units = hashlib.sha256(), 0, set[bytes]()
    listed_at = datetime.now(UTC)
    try:
        with pq.ParquetWriter(part, _SCHEMA) as writer:
            for rows in _chunks(refs):
                found = [(ref, _unit(ref, grouped_by)) for ref in rows]
                for ref, unit in found:
                    digest.update(f"{ref.image_id}\n{unit}\n".encode("utf-8", "surrogateescape"))
                    units.add(hashlib.blake2b(unit.encode("utf-8", "surrogateescape"), digest_size=8).digest())
                images += len(found)
                writer.write_table(pa.Table.from_pylist([
                    {"image_uri": ref.uri, "image_version": ref.version, "size_bytes": ref.size_bytes, "unit": unit,
                     "group": ref.group, "meta": list(ref.meta.items())} for ref, unit in found], schema=_SCHEMA))
                if images % (5 * _AT_ONCE) == 0:
                    say(f"{images} images are listed")
        if not images:
            raise ConfigError("INPUT: expected images, got none")
        frame = Frame(str(place), digest.hexdigest(), images, len(units), listed_at)
        _check_enough(frame, n, 0, grouped_by)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
    return frame


def _unit(ref: ImageRef, grouped_by: str | None) -> str:
    """What is drawn as one: the image, or all images with the same value in a column."""
    if grouped_by is None:
        return ref.uri
    value = ref.group if grouped_by == "group" else ref.meta.get(grouped_by)
    if not value:
        known = ", ".join(sorted({*ref.meta, *(("group",) if ref.group is not None else ())})) or "none"
        raise ConfigError(f"--group {grouped_by}: expected a value in that column for every image, got none for {ref.uri} "
                          f"(its columns: {known})")
    return value


def _check_enough(frame: Frame, n: int, before: int, grouped_by: str | None) -> None:
    if before + n > frame.units:
        what = "groups" if grouped_by is not None else "images"
        raise ConfigError(f"--n: expected at most {frame.units - before} {what}, as the frame has {frame.units}"
                          + (f" and {before} are drawn" if before else "") + f", got {n}")


def _chunks(refs: Iterable[ImageRef]) -> Iterator[list[ImageRef]]:
    some: list[ImageRef] = []
    for ref in refs:
        some.append(ref)
        if len(some) == _AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def draw_number(seed: int, unit: str) -> int:
    """Where a unit stands in the order of drawing, 64 bits: BLAKE2b over seed and unit. The smallest is drawn first."""
    data = f"{seed}\n{unit}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def drawn(frame: Frame, seed: int, before: int, n: int) -> list[tuple[ImageRef, str]]:
    """The images of the units that are drawn after the first `before`, `n` of them, each image once, with its unit."""
    _check_enough(frame, n, before, None)
    numbers, last = array("Q"), None
    for batch in _batches(frame, ["unit"]):
        for unit in batch.column(0).to_pylist():
            if unit != last:  # groups mostly stand together
                numbers.append(draw_number(seed, unit))
            last = unit
    ordered = np.unique(np.frombuffer(numbers, np.uint64))
    low, high = int(ordered[before]), int(ordered[before + n - 1])
    found: dict[str, tuple[int, str, ImageRef]] = {}
    for batch in _batches(frame):
        of_rows = [draw_number(seed, unit) for unit in batch.column("unit").to_pylist()]
        wanted = [place for place, number in enumerate(of_rows) if low <= number <= high]
        for place, row in zip(wanted, batch.take(pa.array(wanted, pa.int64())).to_pylist(), strict=True):
            ref = ImageRef(row["image_uri"], row["image_version"], row["size_bytes"], row["group"], dict(row["meta"]))
            found.setdefault(ref.image_id, (of_rows[place], row["unit"], ref))
    return [(ref, unit) for _, unit, ref in sorted(found.values(), key=lambda each: each[:2])]


def _file(frame: Frame) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(frame.place)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigError(f"frame: expected the list of what the set was drawn from in {frame.place}, got: {error}. Without "
                          "it no more can be drawn: make a set of another name.") from error


def _batches(frame: Frame, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    yield from _file(frame).iter_batches(_AT_ONCE, columns=columns)
