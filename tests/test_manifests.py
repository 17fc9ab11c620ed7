"""Manifests: their rows in their order, from a file or a bucket, and what is asked of the store for them."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segsvc import manifests
from segsvc.errors import ConfigError, StoreError
from segsvc.manifests import absolute
from segsvc.plan import InputKind, listing, read_input, shards
from segsvc.stores.file import to_path, to_uri
from tests.listings import assert_resumes_anywhere, bucket_in_memory, entries, make, planned, skipped

ENDINGS = [".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet"]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with bucket_in_memory(monkeypatch) as store:
        yield store


def table(ending: str, rows: list[dict[str, Any]], *, group_rows: int = 2) -> bytes:
    """A manifest of those rows."""
    if ending.endswith(".gz"):
        return gzip.compress(table(ending.removesuffix(".gz"), rows), compresslevel=1, mtime=0)
    if ending == ".csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode("utf-8-sig")
    if ending == ".jsonl":
        return ("\n".join(json.dumps(row) for row in rows) + "\n\n").encode("utf-8-sig")
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=group_rows)
    return sink.getvalue()


def random_text(size_bytes: int, draw: random.Random = random.Random(0)) -> str:  # noqa: B008 - one for all
    """Text that no compression makes shorter than `size_bytes`."""
    return draw.randbytes(size_bytes).hex()


def write_manifest(folder: Path, ending: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"list{ending}"
    path.write_bytes(table(ending, rows))
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_manifest_gives_its_rows_in_its_own_order_with_their_columns_and_group(tmp_path: Path, ending: str) -> None:
    make(tmp_path, "b.png", "sub/a b.png", "c%41.png")
    rows = [{"uri": "sub/a b.png", "group": "p1", "street": 'Oak, "long"\nroad'},
            {"uri": "b.png", "group": "", "street": "Elm"},
            {"uri": to_uri(os.fsencode(tmp_path / "sub" / "a b.png")), "group": "p1", "street": "ümlaut"},
            {"uri": str(tmp_path / "c%41.png"), "group": "p2", "street": ""},
            {"uri": "gone.png", "group": "p2", "street": "x"}, {"uri": "", "group": "p3", "street": "y"}]
    source = read_input(str(write_manifest(tmp_path, ending, rows)))
    assert source.kind is InputKind.MANIFEST
    found = entries(source)
    assert [(each.group, dict(each.meta)) for each in found] == [
        (row["group"] or None, {"street": row["street"]}) for row in rows]
    assert [to_path(each.uri).rsplit(b"/", 1)[1] for each in found[:5]] == [
        b"a b.png", b"b.png", b"a b.png", b"c%41.png", b"gone.png"]
    assert found[0].image_id == found[2].image_id
    assert [each.version == "missing" for each in found] == [False, False, False, False, True, True]
    assert found[5].uri == ""
    assert_resumes_anywhere(source, size=1)
    assert_resumes_anywhere(source, size=4)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_manifest_without_uris_is_refused_with_the_columns_it_has(tmp_path: Path, ending: str) -> None:
    path = write_manifest(tmp_path, ending, [{"url": "a.png", "street": "Elm"}])
    with pytest.raises(ConfigError, match="expected a column 'uri', got url, street"):
        planned(read_input(str(path)))


def test_rows_that_name_documents_are_passed_over_and_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "notes.txt")
    path = write_manifest(tmp_path, ".csv", [{"uri": "notes.txt"}, {"uri": "a.png"}, {"uri": "file:///b.json"}])
    assert skipped(read_input(str(path))) == {"not_an_image_by_its_ending": 2}
    assert_resumes_anywhere(read_input(str(path)), size=1)


def test_a_table_with_a_nameless_column_as_pandas_writes_its_index_is_read(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(",uri,street\n0,a.png,Elm\n1,b.png,Oak\n")
    assert [dict(each.meta) for each in entries(read_input(str(tmp_path / "list.csv")))] == [
        {"": "0", "street": "Elm"}, {"": "1", "street": "Oak"}]


def test_values_of_other_types_are_carried_as_text_and_nothing_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text('{"uri": "a.png", "n": 3, "x": 1.5, "ok": true, "none": null, "tags": ["a", 1]}\n')
    (one,) = entries(read_input(str(tmp_path / "list.jsonl")))
    assert dict(one.meta) == {"n": "3", "x": "1.5", "ok": "true", "tags": '["a", 1]'}


@pytest.mark.parametrize(("name", "content", "said"), [
    ("list.csv", b"", "got no column"), ("list.csv", b"uri\na.png,b\n", "line 2: expected 1 fields, got 2"),
    ("list.csv", b"uri\n\xff.png\n", "expected a .csv table"), ("list.jsonl", b"{\n", "line 1: expected a JSON object, got"),
    ("list.jsonl", b'{"uri": "a"}\n[1]\n', "line 2: expected a JSON object"),
    ("list.jsonl", b'{"uri": "\\ud800"}\n', "line 1"),
    ("list.jsonl", b"[" * 100_000, "line 1"), ("list.parquet", b"PAR1 and no more", "expected a .parquet table"),
    ("list.parquet", b"", "expected a .parquet table")])
def test_a_damaged_manifest_is_refused_with_the_line_that_is_wrong(tmp_path: Path, name: str, content: bytes,
                                                                   said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        planned(read_input(str(tmp_path / name)))
    assert f"manifest {name}" in str(caught.value)
    assert said in str(caught.value)


def test_a_uri_with_a_nul_is_an_image_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text('{"uri": "a\\u0000.png"}\n{"uri": "file:///a%00.png"}\n')
    assert [each.version for each in entries(read_input(str(tmp_path / "list.jsonl")))] == ["missing", "missing"]


# -- in a bucket -----------------------------------------------------------------------------------------------------


ROWS = [{"uri": "b.png", "group": "p1", "street": 'Oak, "long"\nroad'}, {"uri": "sub/a b.png", "group": "", "street": "Elm"},
        {"uri": "./sub//../c+%41.png", "group": "p2", "street": "\u00fcmlaut\r\n\r"},
        {"uri": "notes.txt", "group": "", "street": "x"}, {"uri": "../up.png", "group": "p2", "street": ""},
        {"uri": "bucket://else/./k.png", "group": "p1", "street": "y"},
        {"uri": "gone.png", "group": "", "street": "z"}, {"uri": "", "group": "", "street": "z"}]
NAMED = ["bucket://in/lists/b.png", "bucket://in/lists/sub/a b.png", "bucket://in/lists/sub/c+%41.png", "bucket://in/up.png",
         "bucket://else/./k.png", "bucket://in/lists/gone.png", ""]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_manifest_in_a_bucket_gives_its_rows_like_one_in_a_folder(bucket: Any, ending: str) -> None:
    for uri in NAMED[:-2]:
        bucket.put(uri, uri.encode())
    bucket.put(f"bucket://in/lists/list{ending}", table(ending, ROWS))
    source = read_input(f"bucket://in/lists/list{ending}")
    assert source.kind is InputKind.MANIFEST
    assert [each.uri for each in entries(source)] == NAMED
    assert [(each.group, dict(each.meta)) for each in entries(source)] == [
        (row["group"] or None, {"street": row["street"]}) for row in ROWS if row["uri"] != "notes.txt"]
    assert [each.version == "missing" for each in entries(source)] == [False] * 5 + [True] * 2
    assert [each.size_bytes for each in entries(source)] == [len(uri) for uri in NAMED[:-2]] + [0, 0]
    assert skipped(source) == {"not_an_image_by_its_ending": 1}
    for size in (1, 2, 3):
        assert_resumes_anywhere(source, size=size)
    assert bucket.closed > 0


@pytest.mark.parametrize(("target", "uri"), [
    ("a.png", "s3://b/p/q/a.png"), ("x/./y/../a.png", "s3://b/p/q/x/a.png"), ("../a.png", "s3://b/p/a.png"),
    ("../../../../a.png", "s3://b/a.png"), ("x//a.png", "s3://b/p/q/x//a.png"), ("/a.png", "s3://b/p/q//a.png"),
    ("s3://c/../a.png", "s3://c/../a.png"), ("file:///a.png", "file:///a.png")])
def test_a_path_in_a_bucket_is_below_the_manifests_own_prefix(target: str, uri: str) -> None:
    assert absolute(target, "s3://b/p/q/") == uri


def test_a_path_beside_a_manifest_at_the_top_of_a_bucket_is_at_the_top() -> None:
    assert absolute("a/b.png", "s3://b/") == "s3://b/a/b.png"


@pytest.mark.parametrize("ending", ENDINGS)
def test_going_on_reads_a_manifest_from_where_the_last_row_ended(bucket: Any, ending: str) -> None:
    rows = [{"uri": f"{number}.png", "etag": "e", "text": random_text(50_000)} for number in range(200)]
    bucket.put(f"bucket://in/list{ending}", table(ending, rows))
    whole = bucket.objects[f"bucket://in/list{ending}"]
    source = read_input(f"bucket://in/list{ending}")
    shard = next(itertools.islice(shards(source, shard_size=1, limit=None, exclude=None), 189, None))
    bucket.reads.clear()
    (rest,) = list(shards(source, shard_size=20, limit=None, exclude=None, after=shard))
    assert [unit.ref.uri for unit in rest.units] == [f"bucket://in/{number}.png" for number in range(190, 200)]
    read = sum(stop - start for start, stop in bucket.reads)
    if ending.endswith(".gz"):
        assert read == len(whole)
    elif ending == ".parquet":
        assert read < len(whole) / 4
    else:  # in a .csv after its first line, which names the columns
        assert all(start >= len(whole) * 0.94 for start, _ in bucket.reads[1 if ending == ".csv" else 0:])
    assert max(stop - start for start, stop in bucket.reads) <= 8 << 20


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("place", ["bucket", "folder"])
def test_a_manifest_that_was_changed_since_the_run_was_planned_is_refused(bucket: Any, tmp_path: Path, place: str,
                                                                          ending: str) -> None:
    def write(count: int) -> str:
        data = table(ending, [{"uri": f"{number}.png", "street": "Elm"} for number in range(count)])
        if place == "folder":
            (tmp_path / f"list{ending}").write_bytes(data)
            return str(tmp_path / f"list{ending}")
        bucket.put(f"bucket://in/list{ending}", data)
        return f"bucket://in/list{ending}"

    source = read_input(write(5))
    first = planned(source)[0]
    write(6)
    with pytest.raises(ConfigError, match=f"manifest list{ending}: expected version .*, got .*: it was changed. Put"):
        list(shards(source, shard_size=2, limit=None, exclude=None, after=first))


def test_a_prefix_that_has_become_a_manifest_since_the_run_was_planned_is_refused(bucket: Any) -> None:
    for name in ("1.png", "2.png"):
        bucket.put(f"bucket://in/list.csv/{name}", b"x")
    first = planned(read_input("bucket://in/list.csv"), size=1)[0]
    bucket.put("bucket://in/list.csv", b"uri\na.png\n")
    with pytest.raises(ConfigError, match="expected version of a manifest"):
        list(shards(read_input("bucket://in/list.csv"), shard_size=1, limit=None, exclude=None, after=first))


def test_a_manifest_that_is_gone_is_refused(bucket: Any, tmp_path: Path) -> None:
    bucket.put("bucket://in/list.csv", b"uri\na.png\n")
    (tmp_path / "list.csv").write_text("uri\na.png\n")
    sources = [read_input("bucket://in/list.csv"), read_input(str(tmp_path / "list.csv"))]
    bucket.objects.clear()
    (tmp_path / "list.csv").unlink()
    for source in sources:
        with pytest.raises(ConfigError, match=r"manifest list\.csv: expected it at .*list\.csv, there is nothing"):
            planned(source)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_store_that_fails_while_a_manifest_is_read_is_an_error_that_names_the_manifest(bucket: Any, ending: str) -> None:
    rows = [{"uri": f"{number}.png", "text": random_text(5000)} for number in range(500)]
    bucket.put(f"bucket://in/list{ending}", table(ending, rows, group_rows=100))
    source = read_input(f"bucket://in/list{ending}")
    bucket.fails_from = 1_000_000
    with pytest.raises(ConfigError, match=f"manifest list{ending}: expected an answer, the connection was reset"):
        planned(source)


def test_a_store_that_fails_as_a_whole_is_told_so_from_a_parquet_too(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("bucket://in/list.parquet", table(".parquet", ROWS))
    source = read_input("bucket://in/list.parquet")
    blob = type(bucket.open(bucket.find("bucket://in/list.parquet")))

    def fail(*_: Any) -> bytes:
        raise StoreError("the credentials have expired")

    monkeypatch.setattr(blob, "read", fail)
    with pytest.raises(StoreError, match=r"^the credentials have expired$"):
        planned(source)


# -- what the store is asked -----------------------------------------------------------------------------------------


def test_rows_without_a_version_are_looked_up_by_as_many_threads_as_the_store_has_use_for(bucket: Any) -> None:
    names = [f"{number:03d}.png" for number in range(64)]
    for name in names:
        bucket.put(f"bucket://in/{name}", name.encode())
    bucket.put("bucket://in/list.csv", ("uri\n" + "\n".join(names)).encode())
    source = read_input("bucket://in/list.csv")
    rows = listing(source)
    bucket.meeting = threading.Barrier(bucket.in_flight)  # nobody goes on until so many are there at once
    assert [entry.found.uri for entry in rows] == [f"bucket://in/{name}" for name in names]
    assert bucket.most_asking == bucket.in_flight


def test_no_more_rows_are_looked_up_ahead_than_twice_as_many_as_are_in_flight(bucket: Any) -> None:
    bucket.put("bucket://in/list.csv", ("uri\n" + "\n".join(f"{number}.png" for number in range(1000))).encode())
    rows = listing(read_input("bucket://in/list.csv"))
    bucket.found.clear()
    for taken in range(1, 100):
        next(rows)
        assert len(bucket.found) <= taken + 1 + 2 * bucket.in_flight
    rows.close()
    assert len(bucket.found) < 200


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_row_that_brings_its_version_and_size_is_not_looked_up(bucket: Any, ending: str) -> None:
    rows = [{"uri": "a.png", "etag": '"e1"', "version": "v1", "size": "7", "street": "Elm"},
            {"uri": "b.png", "etag": "", "version": "v2", "size": "8.0", "street": "Oak"},
            {"uri": "c.png", "etag": "e3", "version": "", "size": "", "street": "Ash"},
            {"uri": "d.png", "etag": "", "version": "", "size": "9", "street": "Fir"}]
    bucket.put(f"bucket://in/list{ending}", table(ending, rows))
    bucket.put("bucket://in/d.png", b"four")
    source = read_input(f"bucket://in/list{ending}")
    bucket.found.clear()
    found = entries(source)
    assert bucket.found == [f"bucket://in/list{ending}", "bucket://in/d.png"]
    assert [(each.version, each.size_bytes) for each in found[:3]] == [("e1", 7), ("v2", 8), ("e3", 0)]
    assert (found[3].version, found[3].size_bytes) == (bucket.find("bucket://in/d.png").version, 4)
    assert [dict(each.meta) for each in found] == [
        {"version": "v1", "street": "Elm"}, {"etag": "", "street": "Oak"}, {"version": "", "street": "Ash"},
        {"etag": "", "version": "", "size": "9", "street": "Fir"}]


def test_a_file_is_looked_at_whatever_its_row_says_and_its_columns_are_carried(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    (tmp_path / "list.csv").write_text("uri,version,size\na.png,2,large\n")
    (one,) = entries(read_input(str(tmp_path / "list.csv")))
    assert one.version == f"5-{(tmp_path / 'a.png').stat().st_mtime_ns}"
    assert dict(one.meta) == {"version": "2", "size": "large"}


@pytest.mark.parametrize("size", ["-1", "large", "1e999", "nan", "."])
def test_a_size_that_is_none_is_refused_with_its_line(bucket: Any, size: str) -> None:
    bucket.put("bucket://in/list.csv", f"uri,etag,size\na.png,e,{size}\n".encode())
    with pytest.raises(ConfigError, match=f"manifest list.csv, line 2: expected a size in bytes, got '{size}'"):
        planned(read_input("bucket://in/list.csv"))


def test_a_uri_of_an_unknown_scheme_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("uri\na.png\ngopher://host/b.png\n")
    with pytest.raises(ConfigError, match=r"manifest list\.csv, line 3: expected a path or a URI of .* got 'gopher:"):
        planned(read_input(str(tmp_path / "list.csv")))


# -- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_any_usual_way_and_the_last_one_need_not(tmp_path: Path, end: str) -> None:
    (tmp_path / "list.csv").write_bytes(end.join(["uri,street", 'a.png,"x\ny"', "", "b.png,", "c.png"]).encode())
    source = read_input(str(tmp_path / "list.csv"))
    assert [dict(each.meta) for each in entries(source)] == [{"street": "x\ny"}, {"street": ""}, {"street": ""}]
    assert_resumes_anywhere(source, size=1)


def test_lines_are_found_wherever_reading_stops_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    data = "\ufeffuri,text\r\n1.png,\u20ac\n\n\r2.png,\r\r\n\r\n3.png,\u2028\x0b\x85\n4.png".encode()
    expected = list(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""))
    for chunk in range(1, 12):
        monkeypatch.setattr(manifests, "_CHUNK_BYTES", chunk)
        lines = manifests.Lines(io.BytesIO(data), "manifest")
        ends = [(line, lines.offset) for line in lines]
        assert [line for line, _ in ends] == expected
        assert [data[start:end].decode().removeprefix("\ufeff") for start, end in
                itertools.pairwise([0, *(end for _, end in ends)])] == expected
        assert lines.number == len(expected)


@pytest.mark.parametrize(("name", "content", "said"), [
    ("list.csv", b'uri\na.png\n"b.png\nc.png\n', "line 4: expected a .csv table, got: unexpected end of data"),
    ("list.csv", b"uri\n" + b"x" * (17 << 20), "line 2: expected lines of text, got one of more than 16 MiB"),
    ("list.csv.gz", b"uri\na.png\n", "expected a .csv.gz table with a column 'uri', got: Not a gzipped file"),
    ("list.jsonl.gz", gzip.compress(b'{"uri": "a.png"}\n', mtime=0)[:-9], "expected a .jsonl.gz table with a column 'uri'"),
    ("list.csv.gz", gzip.compress(b"uri\na.png\n", mtime=0)[:10] + b"\xff" * 20, "expected a .csv.gz table with a column"),
    ("list.parquet", b"PAR1" + bytes(2000) + b"PAR1", "expected a .parquet table with a column 'uri', got: ")])
def test_a_manifest_that_is_damaged_further_down_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        planned(read_input(str(tmp_path / name)))
    assert str(caught.value).startswith(f"manifest {name}")
    assert said in str(caught.value)
