"""Lists what a run is to work on, and freezes it in shards as it goes.

A plan part is written once it is known whether anything follows it, so that the last one says so: a resume knows
whether the listing was finished, and goes on after the last entry that a part covers.
"""

from __future__ import annotations

import csv
import glob
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pyarrow as pa
import pyarrow.parquet as pq

from segsvc.errors import ConfigError
from segsvc.stores import Listed, Skip, is_no_image, store_of
from segsvc.types import ImageRef, Unit

MANIFEST_ENDINGS = (".csv", ".jsonl", ".parquet")


class InputKind(StrEnum):
    """What INPUT is."""

    LISTING = "listing"  # a file, a folder or a prefix
    GLOB = "glob"
    MANIFEST = "manifest"


@dataclass(frozen=True, slots=True)
class Input:
    """INPUT, made absolute: the same words in another folder are another input. A glob is written like a URI too."""

    kind: InputKind
    uri: str


@dataclass(frozen=True, slots=True)
class Shard:
    """A frozen piece of the plan: its units, the cursor of the last entry it covers, what was skipped up to there."""

    number: int
    units: tuple[Unit, ...]
    cursor: str
    skipped: Mapping[str, int] = field(default_factory=dict)
    is_last: bool = False


def read_input(text: str) -> Input:
    """What a user means by INPUT. Raises ConfigError where there is no such thing."""
    if "://" in text and not text.startswith("file://"):
        store_of(text)
        return Input(InputKind.LISTING, text)
    path = os.fsdecode(_file_path(text)) if text.startswith("file://") else text
    if not os.path.exists(path):
        if glob.has_magic(text) and not text.startswith("file://"):
            pattern = os.path.normpath(os.path.join(glob.escape(os.getcwd()), path))
            return Input(InputKind.GLOB, "file://" + quote_from_bytes(os.fsencode(pattern), safe="/*?[]!"))
        raise ConfigError(f"INPUT: expected a file, folder, glob or manifest; there is no {text!r}")
    if os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
        raise ConfigError(f"INPUT: expected a folder that can be read, got {text!r} without permission")
    uri = store_of("file://").find(path).uri
    if os.path.isfile(path) and path.lower().endswith(MANIFEST_ENDINGS):
        return Input(InputKind.MANIFEST, uri)
    return Input(InputKind.LISTING, uri)


def listing(source: Input, *, after: str | None = None, exclude: str | None = None) -> Iterator[Listed]:
    """Everything that INPUT names, in its order, after the entry with the cursor `after`."""
    if source.kind is InputKind.GLOB:
        return _glob(source.uri, after=after, exclude=exclude)
    if source.kind is InputKind.MANIFEST:
        return _manifest(source.uri, after=after)
    return store_of(source.uri).list(source.uri, after=after, exclude=exclude)


def _glob(pattern: str, *, after: str | None, exclude: str | None) -> Iterator[Listed]:
    """The run's own output is passed over without a count, which would grow as the run goes."""
    store = store_of("file://")
    passed = _file_path(after) if after is not None else None
    own = _file_path(exclude).rstrip(b"/") + b"/" if exclude is not None else None
    for path in sorted(map(os.fsencode, glob.iglob(os.fsdecode(_file_path(pattern)), recursive=True))):
        if os.path.isdir(path) or (passed is not None and path <= passed) or (own is not None and path.startswith(own)):
            continue
        cursor = store.find(os.fsdecode(path)).uri
        for entry in store.list(cursor):
            yield Listed(cursor, entry.found)


def _manifest(uri: str, *, after: str | None) -> Iterator[Listed]:
    path = Path(os.fsdecode(_file_path(uri)))
    first = int(after) + 1 if after is not None else 0
    for number, row in enumerate(_manifest_rows(path)):
        if number < first:
            continue
        target = row.pop("uri", "")
        group = row.pop("group", None) or None
        yield Listed(str(number), _manifest_entry(target, path.parent, group=group, meta=row))


def _manifest_entry(target: str, folder: Path, *, group: str | None, meta: dict[str, str]) -> ImageRef | Skip:
    if target and is_no_image(target):
        return Skip.ENDING
    if "://" in target:
        found = store_of(target).find(target)
    elif target:
        found = store_of("file://").find(str(folder / target))
    else:
        found = ImageRef("", "missing", 0)
    return ImageRef(found.uri, found.version, found.size_bytes, group, meta)


def _file_path(uri: str) -> bytes:
    from segsvc.stores.file import to_path

    return to_path(uri)


def _manifest_rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows as strings, as a stream. Raises ConfigError where the file is no such table or has no column `uri`."""
    try:
        if path.suffix.lower() == ".csv":
            yield from _csv_rows(path)
        elif path.suffix.lower() == ".jsonl":
            yield from _jsonl_rows(path)
        else:
            yield from _parquet_rows(path)
    except (pa.ArrowInvalid, UnicodeDecodeError, csv.Error, OSError) as error:
        raise ConfigError(f"manifest {path.name}: expected a {path.suffix} table with a column 'uri', got: {error}"
                          ) from error


def _need_uri(path: Path, columns: list[str]) -> None:
    if "uri" not in columns:
        came = ", ".join(columns) or "no column"
        raise ConfigError(f"manifest {path.name}: expected a column 'uri', got {came}")


def _csv_rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restval="")
        _need_uri(path, list(reader.fieldnames or []))
        for row in reader:
            if None in row:  # where the csv module puts the fields beyond the last column
                raise ConfigError(f"manifest {path.name}, line {reader.line_num}: expected "
                                  f"{len(reader.fieldnames or [])} fields, got more")
            yield dict(row)


def _jsonl_rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no text
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"manifest {path.name}, line {number}: expected a JSON object, got {line[:60]!r}"
                                  ) from error
            if not isinstance(row, dict):
                raise ConfigError(f"manifest {path.name}, line {number}: expected a JSON object, got {line[:60]!r}")
            _need_uri(path, list(row))
            yield {str(key): _text(value) for key, value in row.items() if value is not None}


def _parquet_rows(path: Path) -> Iterator[dict[str, str]]:
    table = pq.ParquetFile(path)
    _need_uri(path, table.schema_arrow.names)
    for batch in table.iter_batches(batch_size=4096):
        for row in batch.to_pylist():
            yield {key: _text(value) for key, value in row.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (bool, dict, list)) else str(value)


def shards(source: Input, *, shard_size: int, limit: int | None, exclude: str | None,
           after: Shard | None = None) -> Iterator[Shard]:
    """The plan, shard by shard, each known to be the last or not; goes on after the shard `after`.

    Yields nothing where INPUT holds no image at all.
    """
    number = after.number + 1 if after is not None else 0
    ordinal = after.units[-1].ordinal + 1 if after is not None and after.units else 0
    skipped = Counter(after.skipped) if after is not None else Counter[str]()
    units: list[Unit] = []
    cursor = after.cursor if after is not None else ""
    before = Counter(skipped)
    for entry in listing(source, after=after.cursor if after is not None else None, exclude=exclude):
        if isinstance(entry.found, Skip):
            skipped[entry.found.value] += 1
            continue
        if limit is not None and ordinal >= limit:
            break
        if len(units) == shard_size:
            yield Shard(number, tuple(units), cursor, dict(before))
            number, units = number + 1, []
        units.append(Unit(ordinal, entry.found))
        ordinal += 1
        cursor, before = entry.cursor, Counter(skipped)
    if units:
        yield Shard(number, tuple(units), cursor, dict(skipped), is_last=True)
    elif after is not None or skipped:
        yield Shard(number, (), cursor, dict(skipped), is_last=True)
