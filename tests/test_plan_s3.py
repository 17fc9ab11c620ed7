"""INPUT in a bucket of a real server: globs, manifests and inventories, and that each goes on anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest

from segsvc.errors import ConfigError
from segsvc.plan import InputKind, read_input, shards
from segsvc.settings import settings
from segsvc.stores.s3.buckets import BUCKETS
from tests.listings import assert_resumes_anywhere, entries, planned, skipped
from tests.s3_servers import S3Server, seaweedfs
from tests.test_inventory import Item, data_file
from tests.test_manifests import table

# `x/` is before `x-1` where keys are listed folder by folder, and behind it where they are listed by their bytes
KEYS = ["p/x/0.jpg", "p/x-1.jpg", "p/x-2.jpg", "p/x-3/4.jpg", "p/x.jpg", "p/y.jpg", "p/notes.txt", "q/a b+c%41é.jpg"]


@dataclass(frozen=True)
class Bucket:
    """A bucket of a real server."""

    client: Any

    def put(self, key: str, data: bytes) -> str:
        """Its version."""
        etag: str = self.client.put_object(Bucket="images", Key=key, Body=data)["ETag"]
        return etag.strip('"')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("s3")) as found:
        found.client().create_bucket(Bucket="images")
        for key in KEYS:
            Bucket(found.client()).put(key, key.encode())
        yield found


@pytest.fixture(scope="module")
def bucket(server: S3Server) -> Iterator[Bucket]:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in server.environment.items():
            patched.setenv(name, value)
        settings.cache_clear()
        yield Bucket(server.client())
    BUCKETS.forget()
    settings.cache_clear()


def version_of(data: bytes) -> str:
    return md5(data, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(("pattern", "expected"), [
    ("p/x-*.jpg", {"p/x-1.jpg", "p/x-2.jpg"}), ("p/x-*/*", {"p/x-3/4.jpg"}),
    ("p/x*.jpg", {"p/x-1.jpg", "p/x-2.jpg", "p/x.jpg"}),
    ("**/*.jpg", {key for key in KEYS if key.endswith(".jpg")}), ("q/a b+c%41[é].jpg", {"q/a b+c%41é.jpg"}), ("r/*", set()),
    ("p/x.*", {"p/x.jpg"})])
def test_a_glob_over_a_bucket_finds_what_it_names_whatever_the_order_of_the_store(bucket: Bucket, pattern: str,
                                                                                  expected: set[str]) -> None:
    source = read_input(f"s3://images/{pattern}")
    assert source.kind is InputKind.GLOB
    assert {each.uri.removeprefix("s3://images/") for each in entries(source)} == expected
    assert {each.version for each in entries(source)} == {version_of(key.encode()) for key in expected}
    if expected:
        assert_resumes_anywhere(source, size=1)


@pytest.mark.parametrize("ending", [".csv", ".jsonl.gz", ".parquet"])
def test_a_manifest_in_a_bucket_names_objects_beside_it_by_their_versions(bucket: Bucket, ending: str) -> None:
    names = ["x-1.jpg", "../q/a b+c%41é.jpg", "gone.jpg", "s3://images/p/y.jpg", "notes.txt"]
    bucket.put(f"p/list{ending}", table(ending, [{"uri": name, "group": "g", "street": "Elm"} for name in names]))
    source = read_input(f"s3://images/p/list{ending}")
    assert source.kind is InputKind.MANIFEST
    found = entries(source)
    assert [each.uri for each in found] == ["s3://images/p/x-1.jpg", "s3://images/q/a b+c%41é.jpg", "s3://images/p/gone.jpg",
                                            "s3://images/p/y.jpg"]
    assert [each.version for each in found] == [version_of(b"p/x-1.jpg"), version_of("q/a b+c%41é.jpg".encode()), "missing",
                                                version_of(b"p/y.jpg")]
    assert {(each.group, each.meta["street"]) for each in found} == {("g", "Elm")}
    assert skipped(source) == {"not_an_image_by_its_ending": 1}
    assert_resumes_anywhere(source, size=1)
    first = planned(source, size=1)[0]
    bucket.put(f"p/list{ending}", table(ending, [{"uri": name} for name in names]))
    with pytest.raises(ConfigError, match="it was changed"):
        list(shards(source, shard_size=1, limit=None, exclude=None, after=first))


@pytest.mark.parametrize("style", ["CSV", "Parquet", "ORC"])
def test_an_inventory_and_a_local_copy_of_its_manifest_name_the_same_objects(bucket: Bucket, tmp_path: Path,
                                                                             style: str) -> None:
    version = version_of("q/a b+c%41é.jpg".encode())
    data = data_file(style, [Item("q/a b+c%41é.jpg", 16, version), Item("p/y.jpg", None, None)])
    digest = bucket.put(f"reports/data/{style}", data)
    manifest = json.dumps({
        "sourceBucket": "images", "destinationBucket": "arn:aws:s3:::images", "fileFormat": style,
        "fileSchema": "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag, StorageClass",
        "files": [{"key": f"reports/data/{style}", "size": len(data), "MD5checksum": digest}]})
    bucket.put("reports/manifest.json", manifest.encode())
    (tmp_path / "copy.json").write_text(manifest)
    there, here = read_input("s3://images/reports/manifest.json"), read_input(str(tmp_path / "copy.json"))
    assert there.kind is here.kind is InputKind.INVENTORY
    assert entries(there) == entries(here)
    assert [(each.uri, each.version, each.size_bytes) for each in entries(there)] == [
        ("s3://images/q/a b+c%41é.jpg", version, 16), ("s3://images/p/y.jpg", version_of(b"p/y.jpg"), 7)]
    assert_resumes_anywhere(there, size=1)
    assert_resumes_anywhere(here, size=1)
