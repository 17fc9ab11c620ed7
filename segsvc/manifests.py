"""Manifests -> entries of a listing: tables (.csv, .jsonl, both also .gz, and .parquet) with a column `uri`, from any store.

Rows are read as a stream. The cursor of a row is the place of the one after it (a byte offset; in Parquet a row group
and a row in it) and the manifest's version, so that going on neither reads what was read nor mixes two manifests.
Only in a .gz what lies before must be inflated again.

Beside `uri` and `group`, a row may bring `etag` (or `version`) and `size` of an object in a bucket: then nobody asks the
store for them. All other columns are carried along; so are these three in rows where they are of no use: those that
name files, and `size` without a version.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segsvc.errors import ConfigError, ImageError
from segsvc.stores import MISSING, Listed, Skip, is_no_image, store_of
from segsvc.types import Blob, ImageRef

ENDINGS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")
READ_AHEAD_BYTES = 8 << 20  # what a store fetches at once
_COLUMN_BUFFER_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 18
_LINE_LIMIT_BYTES = 16 << 20
_BATCH_ROWS = 4096
_UNTIL_FOUND = 2  # rows that wait for their version, per question in flight


@dataclass(frozen=True, slots=True)
class Row:
    """A row, the place after it, and where it stands for a person: `line 7`, `row 7`."""

    place: str
    where: str
    columns: dict[str, str]


# -- a table in a store --------------------------------------------------------------------------------------------------


class BlobFile(io.RawIOBase):
    """A blob as a file that is read. Raises ConfigError where its store cannot read on."""

    def __init__(self, blob: Blob, name: str) -> None:
        self._blob, self._name, self._at = blob, name, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._blob.size_bytes}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._blob.read(self._at, self._at + len(buffer))
        except ImageError as error:
            raise ConfigError(f"{self._name}: {error}") from error
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def name_of(uri: str) -> str:
    """The last part of a path or key, as messages name it."""
    from segsvc.stores.file import to_path

    return (os.fsdecode(to_path(uri)) if uri.startswith("file://") else uri).rsplit("/", 1)[1]


@contextmanager
def opened(ref: ImageRef, what: str) -> Iterator[BlobFile]:
    """That version of an object, to be read as a file. Raises ConfigError, which begins with `what`, where it is gone."""
    if ref.version == MISSING:
        raise ConfigError(f"{what}: expected it at {ref.uri}, there is nothing")
    try:
        blob = store_of(ref.uri).open(ref)
    except ImageError as error:
        raise ConfigError(f"{what}: {error}") from error
    try:
        yield BlobFile(blob, what)
    finally:
        blob.close()


def going_on(after: str, version: str, what: str) -> tuple[int, int]:
    """The place in the cursor of the last row that was seen. Raises ConfigError where the manifest is another now."""
    place, _, before = after.partition("@")
    if before != version:
        raise ConfigError(f"{what}: expected version {before or 'of a manifest'}, from which this run was planned, "
                          f"got {version}: it was changed. Put the former one back, or run it on a new OUT.")
    first, second = place.split(":")
    return int(first), int(second)


# -- rows ----------------------------------------------------------------------------------------------------------------


class Lines(Iterator[str]):
    r"""The lines of UTF-8 text with their ends (\n, \r\n or \r); `offset` and `number` are the last one's end and number.

    Raises ConfigError for a line of more than 16 MiB: the file is no text.
    """

    def __init__(self, file: io.BufferedIOBase, what: str, *, offset: int = 0, number: int = 0) -> None:
        self.offset, self.number = offset, number
        self._what = what
        self._raw = self._pieces(file)

    def __next__(self) -> str:
        line = next(self._raw)
        text = line.decode()
        self.offset += len(line)
        self.number += 1
        return text.removeprefix("\ufeff") if self.number == 1 else text

    def _pieces(self, file: io.BufferedIOBase) -> Iterator[bytes]:
        rest = b""
        while chunk := file.read(_CHUNK_BYTES):
            pieces = (rest + chunk).splitlines(keepends=True)
            rest = pieces.pop()  # it may go on, if only by the \n of an \r\n
            yield from pieces
            if len(rest) > _LINE_LIMIT_BYTES:
                raise ConfigError(f"{self._what}, line {self.number + 1}: expected lines of text, got one of more than "
                                  f"{_LINE_LIMIT_BYTES >> 20} MiB")
        if rest:
            yield rest


def _rows(file: BlobFile, ending: str, what: str, place: tuple[int, int] | None) -> Iterator[Row]:
    """Rows as strings, from that place on. Raises ConfigError where the file is no such table or has no column `uri`."""
    try:
        if ending == ".parquet":
            yield from _parquet_rows(file, what, place)
            return
        plain: io.BufferedIOBase = io.BufferedReader(file, READ_AHEAD_BYTES)
        if ending.endswith(".gz"):
            plain = gzip.GzipFile(fileobj=plain)
        yield from (_csv_rows if ending.startswith(".csv") else _jsonl_rows)(plain, what, place)
    except (pa.ArrowException, UnicodeDecodeError, csv.Error, OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{what}: expected a {ending} table with a column 'uri', got: {error}") from error


def _need_uri(what: str, columns: list[str]) -> None:
    if "uri" not in columns:
        came = ", ".join(columns) or "no column"
        raise ConfigError(f"{what}: expected a column 'uri', got {came}")


def _csv_rows(file: io.BufferedIOBase, what: str, place: tuple[int, int] | None) -> Iterator[Row]:
    lines = Lines(file, what)
    reader = csv.reader(lines, strict=True)  # strict: a quote that is never closed would swallow the rows behind it
    columns = next(reader, [])
    _need_uri(what, columns)
    if place is not None:
        file.seek(place[0])
        lines = Lines(file, what, offset=place[0], number=place[1])
        reader = csv.reader(lines, strict=True)
    try:
        for row in reader:
            if len(row) > len(columns):
                raise ConfigError(f"{what}, line {lines.number}: expected {len(columns)} fields, got {len(row)}")
            if row:
                fields = row + [""] * (len(columns) - len(row))
                yield Row(f"{lines.offset}:{lines.number}", f"line {lines.number}", dict(zip(columns, fields, strict=True)))
    except csv.Error as error:
        raise ConfigError(f"{what}, line {lines.number}: expected a .csv table, got: {error}") from error


def _jsonl_rows(file: io.BufferedIOBase, what: str, place: tuple[int, int] | None) -> Iterator[Row]:
    offset, number = place or (0, 0)
    file.seek(offset)
    lines = Lines(file, what, offset=offset, number=number)
    for line in lines:
        if not line.strip():
            continue
        where = f"line {lines.number}"
        try:
            row = json.loads(line)
            if "\\u" in line:
                json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no text
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{what}, {where}: expected a JSON object, got {line[:60]!r}") from error
        if not isinstance(row, dict):
            raise ConfigError(f"{what}, {where}: expected a JSON object, got {line[:60]!r}")
        _need_uri(what, list(row))
        yield Row(f"{lines.offset}:{lines.number}", where,
                  {str(key): _text(value) for key, value in row.items() if value is not None})


def _parquet_rows(file: BlobFile, what: str, place: tuple[int, int] | None) -> Iterator[Row]:
    with pq.ParquetFile(pa.PythonFile(file, mode="r"), buffer_size=_COLUMN_BUFFER_BYTES, pre_buffer=False) as table:
        _need_uri(what, table.schema_arrow.names)
        first, seen = place or (0, 0)
        before = sum(table.metadata.row_group(group).num_rows for group in range(first))
        for group in range(first, table.num_row_groups):
            at = 0
            for batch in table.iter_batches(_BATCH_ROWS, row_groups=[group], use_threads=False):
                start = min(max(0, seen - at), batch.num_rows)
                rows = batch.slice(start).to_pylist()
                for number, row in enumerate(rows, at + start + 1):
                    yield Row(f"{group}:{number}", f"row {before + number}",
                              {key: _text(value) for key, value in row.items() if value is not None})
                at += batch.num_rows
            before, seen = before + at, 0


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (bool, dict, list)) else str(value)


# -- entries -------------------------------------------------------------------------------------------------------------


def entries(uri: str, *, after: str | None) -> Iterator[Listed]:
    """What the rows of a manifest name, in their order, after the row with the cursor `after`.

    Raises ConfigError where the manifest is gone, is no such table, or is another than the one of the cursor.
    """
    what = f"manifest {name_of(uri)}"
    ref = store_of(uri).find(uri)
    ending = next(known for known in sorted(ENDINGS, key=len, reverse=True) if uri.lower().endswith(known))
    with opened(ref, what) as file:
        place = going_on(after, ref.version, what) if after is not None else None
        base = uri.rsplit("/", 1)[0] + "/"
        listed = (Listed(f"{row.place}@{ref.version}", _entry(row, base, what))
                  for row in _rows(file, ending, what, place))
        yield from with_versions(listed)


def _entry(row: Row, base: str, what: str) -> ImageRef | Skip:
    """What a row names; with an empty version where the store is to be asked."""
    columns = row.columns
    target = columns.pop("uri", "")
    group = columns.pop("group", None) or None
    if not target:
        return ImageRef("", MISSING, 0, group, columns)
    if is_no_image(target):
        return Skip.ENDING
    uri = absolute(target, base)
    try:
        store_of(uri)
    except ConfigError as error:
        raise ConfigError(f"{what}, {row.where}: {error}") from error
    version, size_bytes = ("", 0) if uri.startswith("file://") else _known(columns, f"{what}, {row.where}")
    return ImageRef(uri, version, size_bytes, group, columns)


def absolute(target: str, base: str) -> str:
    """The URI of what a manifest in the folder or prefix `base` names.

    A path is below `base`, in a bucket too; there `.` and `..` are steps, and an absolute URI names a key that has them.
    """
    from segsvc.stores.file import to_path, to_uri

    if "://" in target:
        return target
    if base.startswith("file://"):
        return to_uri(os.path.join(to_path(base), os.fsencode(target)))  # noqa: PTH118 - paths are bytes here
    root, _, prefix = base.partition("://")[2].partition("/")
    steps = prefix.split("/")[:-1]
    *folders, name = target.split("/")
    for step in folders:
        if step == "..":
            del steps[-1:]
        elif step != ".":
            steps.append(step)
    return f"{base.partition('://')[0]}://{root}/" + "/".join([*steps, name])


def _known(columns: dict[str, str], where: str) -> tuple[str, int]:
    """The version and size that a row brings, taken out of its columns; size 0 where it is not known."""
    name = next((name for name in ("etag", "version") if columns.get(name)), None)
    if name is None:
        return "", 0
    version = columns.pop(name).strip('"')
    size = columns.pop("size", "")
    try:
        size_bytes = int(float(size)) if "." in size else int(size or 0)  # in a table with gaps 7 becomes 7.0
    except (ValueError, OverflowError):
        size_bytes = -1
    if size_bytes < 0:
        raise ConfigError(f"{where}: expected a size in bytes, got {size!r}")
    return version, size_bytes


def with_versions(listed: Iterator[Listed]) -> Iterator[Listed]:
    """The entries in their order, those without a version looked up; as many at once as the store has use for."""
    waiting: deque[tuple[Listed, Future[ImageRef] | None]] = deque()
    pool: ThreadPoolExecutor | None = None
    most = 0
    try:
        for given in listed:
            entry, ref, asked = given, given.found, None
            if isinstance(ref, ImageRef) and not ref.version:
                store = store_of(ref.uri)
                if store.in_flight == 1:
                    entry = _found(entry, store.find(ref.uri))
                else:
                    pool = pool or ThreadPoolExecutor(store.in_flight, thread_name_prefix="find")
                    asked, most = pool.submit(store.find, ref.uri), max(most, _UNTIL_FOUND * store.in_flight)
            waiting.append((entry, asked))
            while waiting and (len(waiting) > most or waiting[0][1] is None or waiting[0][1].done()):
                yield _answered(*waiting.popleft())
        while waiting:
            yield _answered(*waiting.popleft())
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _answered(entry: Listed, asked: Future[ImageRef] | None) -> Listed:
    return _found(entry, asked.result()) if asked is not None else entry


def _found(entry: Listed, found: ImageRef) -> Listed:
    if isinstance(entry.found, Skip):
        return entry
    return Listed(entry.cursor, ImageRef(found.uri, found.version, found.size_bytes, entry.found.group, entry.found.meta))
