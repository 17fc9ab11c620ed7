"""S3 Inventory: what its files say of a bucket, in their order, checked and counted."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from segsvc.errors import ConfigError
from segsvc.plan import Input, InputKind, listing, read_input, shards
from segsvc.types import ImageRef
from tests.listings import assert_resumes_anywhere, bucket_in_memory, entries, planned, skipped

FORMATS = ["CSV", "Parquet", "ORC"]
MANIFEST = "bucket://reports/inventory/in/daily/2026-11-01T01-00Z/manifest.json"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with bucket_in_memory(monkeypatch) as store:
        yield store


@dataclass(frozen=True)
class Item:
    """A row of an inventory."""

    key: str
    size: int | None = 7
    etag: str | None = "0123456789abcdef0123456789abcdef"
    is_latest: bool = True
    is_delete_marker: bool = False


COLUMNS = {"Bucket": "bucket", "Key": "key", "VersionId": "version_id", "IsLatest": "is_latest",
           "IsDeleteMarker": "is_delete_marker", "Size": "size", "ETag": "e_tag", "StorageClass": "storage_class"}


def data_file(style: str, items: list[Item], left_out: tuple[str, ...] = ()) -> bytes:
    """A file of an inventory as S3 writes it."""
    rows = [{"Bucket": "in", "Key": item.key, "VersionId": "v", "IsLatest": item.is_latest,
             "IsDeleteMarker": item.is_delete_marker, "Size": item.size, "ETag": item.etag, "StorageClass": "STANDARD"}
            for item in items]
    kept = [name for name in COLUMNS if name not in left_out]
    sink = io.BytesIO()
    if style == "CSV":
        text = io.StringIO(newline="")
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for row in rows:
            values = {**row, "Key": quote_plus(row["Key"], safe="/"), "IsLatest": str(row["IsLatest"]).lower(),
                      "IsDeleteMarker": str(row["IsDeleteMarker"]).lower()}
            writer.writerow([values[name] if values[name] is not None else "" for name in kept])
        return gzip.compress(text.getvalue().encode(), mtime=0)
    types = {"IsLatest": pa.bool_(), "IsDeleteMarker": pa.bool_(), "Size": pa.int64()}
    schema = pa.schema([(COLUMNS[name], types.get(name, pa.string())) for name in kept])
    table = pa.Table.from_pylist([{COLUMNS[name]: row[name] for name in kept} for row in rows], schema=schema)
    if style == "Parquet":
        pq.write_table(table, sink, row_group_size=3)
    else:
        with pyarrow.orc.ORCWriter(sink) as writer:
            writer.write(table)
    return sink.getvalue()


def inventory(store: Any, style: str, contents: list[list[Item]], left_out: tuple[str, ...] = (), **changed: Any) -> Input:
    """An inventory in the store, read as INPUT."""
    names = []
    for number, items in enumerate(contents):
        data = data_file(style, items, left_out)
        key = f"inventory/in/daily/data/file {number}.{style.lower()}"
        store.put(f"bucket://reports/{key}", data)
        names.append({"key": key, "size": len(data), "MD5checksum": hashlib.md5(data, usedforsecurity=False).hexdigest()})
    schema = ", ".join(name for name in COLUMNS if name not in left_out) if style == "CSV" else "a schema in its own words"
    document = {"sourceBucket": "in", "destinationBucket": "arn:aws:s3:::reports", "version": "2016-11-30",
                "creationTimestamp": "1793498400000", "fileFormat": style, "fileSchema": schema, "files": names, **changed}
    store.put(MANIFEST, json.dumps({name: value for name, value in document.items() if value is not None}).encode())
    return read_input(MANIFEST)


ITEMS = [Item("b/2 +%41é.jpg"), Item("a/1.jpg", size=0), Item("a/old.jpg", is_latest=False),
         Item("a/gone.jpg", size=None, etag=None, is_delete_marker=True), Item("a/"), Item("a/.x/y.jpg"), Item(".z.jpg"),
         Item("a/notes.txt"), Item("c/3\n.jpg", size=1 << 40), Item("d/4.jpg"), Item("d//5"), Item("e/./6.jpg")]
EXPECTED = [("b/2 +%41é.jpg", 7), ("a/1.jpg", 0), ("c/3\n.jpg", 1 << 40), ("d/4.jpg", 7), ("d//5", 7), ("e/./6.jpg", 7)]


@pytest.mark.parametrize("style", FORMATS)
def test_an_inventory_gives_what_its_files_say_in_their_order_without_asking_the_bucket(bucket: Any, style: str) -> None:
    source = inventory(bucket, style, [ITEMS[:4], [], ITEMS[4:]])
    assert source == Input(InputKind.INVENTORY, MANIFEST)
    bucket.found.clear()
    assert entries(source) == [ImageRef(f"bucket://in/{key}", "0123456789abcdef0123456789abcdef", size)
                               for key, size in EXPECTED]
    assert {uri.split("/")[2] for uri in bucket.found} == {"reports"}
    assert skipped(source) == {"old_version_or_delete_marker": 2, "not_a_regular_file": 1, "hidden": 2,
                               "not_an_image_by_its_ending": 1}
    for size in (1, 2, 4):
        assert_resumes_anywhere(source, size=size)


@pytest.mark.parametrize("style", FORMATS)
def test_a_long_inventory_goes_on_anywhere(bucket: Any, style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segsvc.inventory._BATCH_ROWS", 4)
    source = inventory(bucket, style, [[Item(f"{file}/{number}.jpg") for number in range(11)] for file in range(2)])
    assert len(entries(source)) == 22
    assert_resumes_anywhere(source, size=1)


@pytest.mark.parametrize("style", FORMATS)
def test_what_an_inventory_lacks_is_asked_of_the_bucket(bucket: Any, style: str) -> None:
    bucket.put("bucket://in/a.jpg", b"four")
    items = [Item("a.jpg"), Item("b.jpg")]
    for lacking in (("Size",), ("ETag",), tuple(name for name in COLUMNS if name != "Key")):
        found = entries(inventory(bucket, style, [items], lacking))
        assert found == [bucket.find("bucket://in/a.jpg"), ImageRef("bucket://in/b.jpg", "missing", 0)]
    partly = [replace(items[0], etag=None), items[1]]
    assert [each.size_bytes for each in entries(inventory(bucket, style, [partly]))] == [4, 7]


def test_the_runs_own_output_in_an_inventory_is_passed_over_without_a_count(bucket: Any) -> None:
    source = inventory(bucket, "CSV", [[Item("out/x.jpg"), Item("out2/y.jpg"), Item("out/z.jpg")]])
    assert [each.uri for each in entries(source, exclude="bucket://in/out")] == ["bucket://in/out2/y.jpg"]
    assert len(entries(source, exclude="bucket://in/")) == 3
    assert_resumes_anywhere(inventory(bucket, "CSV", [ITEMS]), size=1, exclude="bucket://in/d")


@pytest.mark.parametrize("style", FORMATS)
@pytest.mark.parametrize("lacking", ["Key", "IsLatest"])
def test_an_inventory_without_a_column_that_is_needed_is_refused(bucket: Any, style: str, lacking: str) -> None:
    source = inventory(bucket, style, [ITEMS], (lacking,))
    with pytest.raises(ConfigError, match=rf"inventory manifest\.json, file .*: expected the column {lacking}, got \w+, "):
        planned(source)


@pytest.mark.parametrize(("changed", "said"), [
    ({"files": None}, "files: field required"), ({"destinationBucket": None}, "destinationBucket: field required"),
    ({"fileFormat": None}, "fileFormat: field required"), ({"files": "none"}, "files: "),
    ({"fileFormat": "Avro"}, "expected the format CSV, Parquet or ORC, got 'Avro'"),
    ({"fileFormat": "Parquet"}, "expected a file in Parquet, got: "),
    ({"fileFormat": "ORC"}, "expected a file in ORC, got: "),
    ({"fileSchema": "Bucket, Key"}, "line 1: expected 2 fields, got 8")])
def test_an_inventory_that_contradicts_itself_is_refused(bucket: Any, changed: dict[str, Any], said: str) -> None:
    source = inventory(bucket, "CSV", [ITEMS], **changed)
    with pytest.raises(ConfigError) as caught:
        planned(source)
    assert str(caught.value).startswith("inventory manifest.json")
    assert said.lower() in str(caught.value).lower()
    assert "\n" not in str(caught.value)


def test_a_size_that_is_no_number_is_refused(bucket: Any) -> None:
    source = inventory(bucket, "CSV", [[replace(Item("a.jpg"), size="large")]])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"file 0\.csv: expected the size of 'a\.jpg' in bytes, got 'large'"):
        planned(source)


@pytest.mark.parametrize(("data", "said"), [
    (None, "there is nothing"), (b"", r"expected \d+ bytes, got 0: it is not the file"),
    ("last", "expected MD5 .*, got .*: it is")])
def test_a_data_file_that_is_missing_or_another_than_the_manifest_says_is_refused_by_name(
        bucket: Any, data: bytes | str | None, said: str) -> None:
    source = inventory(bucket, "CSV", [ITEMS[:1], ITEMS[1:]])
    uri = "bucket://reports/inventory/in/daily/data/file 1.csv"
    if data is None:
        del bucket.objects[uri]
    else:
        bucket.put(uri, data if isinstance(data, bytes) else bucket.objects[uri][:-1] + b"x")
    found = listing(source)
    assert next(found).found == ImageRef("bucket://in/b/2 +%41é.jpg", ITEMS[0].etag or "", 7)
    with pytest.raises(ConfigError, match=rf"inventory manifest\.json, file inventory/in/daily/data/file 1\.csv: .*{said}"):
        next(found)


def test_an_inventory_that_was_changed_since_the_run_was_planned_or_is_gone_is_refused(bucket: Any) -> None:
    source = inventory(bucket, "CSV", [ITEMS])
    first = planned(source)[0]
    inventory(bucket, "CSV", [ITEMS, ITEMS])
    with pytest.raises(ConfigError, match=r"inventory manifest\.json: expected version .*, got .*: it was changed"):
        list(shards(source, shard_size=2, limit=None, exclude=None, after=first))
    bucket.objects.clear()
    with pytest.raises(ConfigError, match=r"inventory manifest\.json: expected it at .*, there is nothing"):
        planned(source)


def test_a_local_copy_of_a_manifest_is_known_by_its_fields_whatever_its_name(tmp_path: Path) -> None:
    fields = {"sourceBucket": "in", "destinationBucket": "arn:aws:s3:::reports", "fileFormat": "CSV",
              "fileSchema": "Bucket, Key"}
    for name, document, kind in (("november.json", {**fields, "files": []}, InputKind.INVENTORY),
                                 ("manifest.json", {"files": [], "version": "1"}, InputKind.LISTING),
                                 ("list.json", ["sourceBucket", "fileSchema"], InputKind.LISTING)):
        (tmp_path / name).write_text(json.dumps(document))
        assert read_input(str(tmp_path / name)).kind is kind
    (tmp_path / "manifest.json").write_text("{")
    assert read_input(str(tmp_path / "manifest.json")).kind is InputKind.LISTING
    assert planned(read_input(str(tmp_path / "november.json"))) == []
