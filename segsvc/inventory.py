"""S3 Inventory -> entries of a listing: what a bucket held, by the files that a `manifest.json` names.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html

A data file is copied to a temporary file and held to its MD5 before the first of its rows is used. The order is the
manifest's own; a cursor is the number of a file and of a row in it, and the manifest's version.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Annotated, Any
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segsvc.card import describe
from segsvc.errors import ConfigError
from segsvc.manifests import READ_AHEAD_BYTES, Lines, going_on, name_of, opened, with_versions
from segsvc.stores import MISSING, Listed, Skip, is_hidden, is_no_image, store_of
from segsvc.types import ImageRef

_MANIFEST_LIMIT_BYTES = 64 << 20  # a larger .json is no such manifest
_BATCH_ROWS = 8192
_WANTED = ("key", "size", "etag", "islatest", "isdeletemarker")  # as `_plain` writes them
_Columns = Mapping[str, Sequence[Any]]  # of some rows, by plain name: all of the same length


class _DataFile(BaseModel):
    """A file of the inventory, in the destination bucket."""

    key: Annotated[str, Field(min_length=1)]
    size: int | None = None
    md5: Annotated[str | None, Field(alias="MD5checksum")] = None


class _Manifest(BaseModel):
    """`manifest.json`."""

    model_config = ConfigDict(extra="ignore")

    source: Annotated[str, Field(alias="sourceBucket", min_length=1)]
    destination: Annotated[str, Field(alias="destinationBucket", min_length=1)]
    format: Annotated[str, Field(alias="fileFormat")]
    columns: Annotated[str, Field(alias="fileSchema")]
    files: list[_DataFile]


@dataclass(frozen=True, slots=True)
class _Place:
    """A file by its number, and how many of its rows were seen."""

    file: int = 0
    rows: int = 0


def is_inventory(ref: ImageRef) -> bool:
    """Whether a .json is the manifest of an inventory, by its fields. Raises ConfigError where it cannot be read."""
    document = _document(ref)
    return isinstance(document, dict) and {"sourceBucket", "fileSchema"} <= document.keys()


def _document(ref: ImageRef) -> Any:
    """The JSON, None where it is none or too large to be a manifest."""
    if ref.version == MISSING or ref.size_bytes > _MANIFEST_LIMIT_BYTES:
        return None
    with opened(ref, name_of(ref.uri)) as file:
        try:
            return json.loads(file.read())
        except (ValueError, RecursionError):
            return None


def entries(uri: str, *, after: str | None, exclude: str | None) -> Iterator[Listed]:
    """What the bucket held, in the manifest's order, after the row with the cursor `after`.

    Passed over and counted: what a listing passes over, old versions and delete markers. Keys below `exclude`, the run's
    own output, are passed over without a count. An object whose ETag or size the inventory lacks is looked up.

    Raises ConfigError where the manifest is gone, damaged or another than the one of the cursor, or a file of it is.
    """
    ref = store_of(uri).find(uri)
    what = f"inventory {name_of(uri)}"
    if ref.version == MISSING:
        raise ConfigError(f"{what}: expected it at {uri}, there is nothing")
    try:
        manifest = _Manifest.model_validate(_document(ref))
    except ValidationError as error:
        raise ConfigError(f"{what}: {describe(error)}") from error
    place = _Place(*going_on(after, ref.version, what)) if after is not None else _Place()
    scheme = "s3" if uri.startswith("file://") else uri.partition("://")[0]
    own = exclude.rstrip("/") + "/" if exclude is not None else None
    if own is not None and own.count("/") == 3:  # a whole bucket, INPUT too: nothing of it would be left
        own = None
    yield from with_versions(_listed(manifest, place, what=what, scheme=scheme, version=ref.version, own=own))


def _listed(manifest: _Manifest, place: _Place, *, what: str, scheme: str, version: str,
            own: str | None) -> Iterator[Listed]:
    root = f"{scheme}://{_bucket(manifest.source)}/"
    for number, file in enumerate(manifest.files[place.file:], place.file):
        where = f"{what}, file {file.key}"
        row = place.rows if number == place.file else 0
        with _fetched(file, f"{scheme}://{_bucket(manifest.destination)}/{file.key}", where) as copy:
            for columns in _batches(manifest, copy, where, skip=row):
                for found in _entries(columns, root, where):
                    row += 1
                    if own is None or isinstance(found, Skip) or not found.uri.startswith(own):
                        yield Listed(f"{number}:{row}@{version}", found)


def _bucket(name: str) -> str:
    """A bucket's name out of its ARN, or as it is."""
    return name.rsplit(":", 1)[-1]


@contextmanager
def _fetched(file: _DataFile, uri: str, where: str) -> Iterator[IO[bytes]]:
    """A copy of a data file that is what the manifest says. Raises ConfigError where it is not."""
    ref = store_of(uri).find(uri)
    digest, size_bytes = hashlib.md5(usedforsecurity=False), 0
    with tempfile.TemporaryFile(prefix="segsvc-inventory-") as copy:
        with opened(ref, where) as blob:
            while piece := blob.read(READ_AHEAD_BYTES):
                digest.update(piece)
                size_bytes += len(piece)
                try:
                    copy.write(piece)
                except OSError as error:
                    raise ConfigError(f"{where}: expected room for a copy of it in {tempfile.gettempdir()}, got: "
                                      f"{error.strerror}. Make room, or set TMPDIR.") from error
        if file.size is not None and size_bytes != file.size:
            raise ConfigError(f"{where}: expected {file.size} bytes, got {size_bytes}: it is not the file that the "
                              "manifest was made with")
        if file.md5 is not None and digest.hexdigest() != file.md5.lower():
            raise ConfigError(f"{where}: expected MD5 {file.md5}, got {digest.hexdigest()}: it is damaged or was replaced")
        copy.flush()
        copy.seek(0)
        yield copy


def _plain(name: str) -> str:
    """`IsLatest` and `is_latest` are the same column."""
    return name.strip().replace("_", "").lower()


def _checked(names: Sequence[str], where: str) -> None:
    plain = {_plain(name) for name in names}
    needed = {"key": "Key", **({"islatest": "IsLatest"} if "versionid" in plain else {})}
    missing = [name for key, name in needed.items() if key not in plain]
    if missing:
        raise ConfigError(f"{where}: expected the column {missing[0]}, got {', '.join(names)}")


def _batches(manifest: _Manifest, copy: IO[bytes], where: str, *, skip: int) -> Iterator[_Columns]:
    """The columns of some rows after another, the first `skip` rows left out."""
    readers = {"csv": _csv_batches, "parquet": _parquet_batches, "orc": _orc_batches}
    read = readers.get(manifest.format.lower())
    if read is None:
        raise ConfigError(f"{where}: expected the format CSV, Parquet or ORC, got {manifest.format!r}")
    try:
        yield from read(manifest, copy, where, skip)
    except (pa.ArrowException, UnicodeDecodeError, csv.Error, OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{where}: expected a file in {manifest.format}, got: {error}") from error


def _csv_batches(manifest: _Manifest, copy: IO[bytes], where: str, skip: int) -> Iterator[_Columns]:
    names = manifest.columns.split(",")
    _checked(names, where)
    plain = [_plain(name) for name in names]
    lines = Lines(gzip.GzipFile(fileobj=copy), where)
    rows: list[list[str]] = []
    for row in csv.reader(lines, strict=True):
        if len(row) != len(names):
            raise ConfigError(f"{where}, line {lines.number}: expected {len(names)} fields, got {len(row)}")
        if skip:
            skip -= 1
            continue
        rows.append(row)
        if len(rows) == _BATCH_ROWS:
            yield _unquoted(plain, rows)
            rows = []
    if rows:
        yield _unquoted(plain, rows)


def _unquoted(plain: list[str], rows: list[list[str]]) -> _Columns:
    """Keys are written as in a query: `+` is a space."""
    columns = dict(zip(plain, zip(*rows, strict=True), strict=True))
    return {**columns, "key": [unquote_plus(key) for key in columns["key"]]}


def _parquet_batches(manifest: _Manifest, copy: IO[bytes], where: str, skip: int) -> Iterator[_Columns]:
    with pq.ParquetFile(copy, pre_buffer=False, buffer_size=1 << 20) as table:
        names = table.schema_arrow.names
        _checked(names, where)
        wanted = [name for name in names if _plain(name) in _WANTED]
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if skip >= rows:
                skip -= rows
                continue
            for batch in table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=wanted, use_threads=False):
                yield _columns(batch.slice(min(skip, batch.num_rows)))
                skip = max(0, skip - batch.num_rows)


def _orc_batches(manifest: _Manifest, copy: IO[bytes], where: str, skip: int) -> Iterator[_Columns]:
    from pyarrow import orc

    table = orc.ORCFile(copy)
    names = table.schema.names
    _checked(names, where)
    wanted = [name for name in names if _plain(name) in _WANTED]
    for stripe in range(table.nstripes):
        batch = table.read_stripe(stripe, columns=wanted)
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            part = batch.slice(start, _BATCH_ROWS)
            yield _columns(part.slice(min(skip, part.num_rows)))
            skip = max(0, skip - part.num_rows)


def _columns(batch: pa.RecordBatch) -> _Columns:
    return {_plain(name): column.to_pylist() for name, column in zip(batch.schema.names, batch.columns, strict=True)}


def _entries(columns: _Columns, root: str, where: str) -> Iterator[ImageRef | Skip]:
    """What each row is; an object without ETag or size has no version yet."""
    keys = columns["key"]
    nothing = [None] * len(keys)
    for key, size, etag, latest, deleted in zip(
            keys, *(columns.get(name, nothing) for name in ("size", "etag", "islatest", "isdeletemarker")), strict=True):
        skip = _skip(key, latest, deleted)
        if skip is not None:
            yield skip
        elif size in (None, "") or not etag:
            yield ImageRef(root + key, "", 0)
        else:
            try:
                yield ImageRef(root + key, etag.strip('"'), int(size))
            except ValueError as error:
                raise ConfigError(f"{where}: expected the size of {key!r} in bytes, got {size!r}") from error


def _skip(key: str, latest: bool | str | None, deleted: bool | str | None) -> Skip | None:
    if str(latest).lower() == "false" or str(deleted).lower() == "true":
        return Skip.OLD
    if key.endswith("/"):
        return Skip.SPECIAL
    if (key[:1] == "." or "/." in key) and any(map(is_hidden, key.split("/"))):
        return Skip.HIDDEN
    return Skip.ENDING if is_no_image(key) else None
