"""OUT seen from outside, on a disk or in a bucket, and what sets a run that was killed apart from a clean one."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq

PARTS = ("plan", "candidates", "images")
CLAIM = ".segsvc-claim"


class Out(Protocol):
    """A run's folder: names relative to it, with `/`."""

    def names(self, prefix: str = "") -> list[str]: ...
    def read(self, name: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class FileOut:
    """OUT on a disk; temporary and hidden files are seen too."""

    path: Path

    def names(self, prefix: str = "") -> list[str]:
        return sorted(str(found.relative_to(self.path)) for found in (self.path / prefix).rglob("*") if found.is_file())

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


@dataclass(frozen=True, slots=True)
class S3Out:
    """OUT in a bucket; `client` is boto3's, past any proxy."""

    client: Any
    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def names(self, prefix: str = "") -> list[str]:
        below = f"{self.prefix}/{prefix}"
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=below)
        return sorted(entry["Key"].removeprefix(f"{self.prefix}/") for page in pages for entry in page.get("Contents", []))

    def read(self, name: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}")["Body"].read()
        return body


def numbers(out: Out, kind: str) -> set[int]:
    """The shards that have a part of that kind."""
    return {int(name.rsplit("part-", 1)[1].removesuffix(".parquet"))
            for name in out.names(f"{kind}/") if name.startswith(f"{kind}/part-")}


@dataclass(frozen=True, slots=True)
class Differences:
    """What a run that was killed lost, doubled or made otherwise than a clean one."""

    lost: tuple[str, ...] = ()  # images by name that no part holds
    doubled: tuple[str, ...] = ()  # ids of images or candidates that are there more than once
    unlike: tuple[str, ...] = ()  # parts of plan, candidates and images that are other bytes, missing or too many
    left: tuple[str, ...] = ()  # further files that only one of the two has
    said: tuple[str, ...] = ()  # run.json or failures.jsonl say something else


NONE = Differences()


def differences(out: Out, clean: Out, *, images: Sequence[str]) -> Differences:
    """images: the names (last segments of the URIs) of all images that the run was given."""
    ours, theirs = out.names(), clean.names()
    rows = column(out, ours, "images", "image_uri")
    found = {uri.rsplit("/", 1)[1] for uri in rows}
    ids = [*column(out, ours, "images", "image_id"), *column(out, ours, "candidates", "candidate_id")]
    parts = sorted({name for name in (*ours, *theirs) if name.startswith(tuple(f"{kind}/part-" for kind in PARTS))})
    unlike = [name for name in parts if name not in ours or name not in theirs or out.read(name) != clean.read(name)]
    left = {name for name in set(ours) ^ set(theirs) if name not in parts and name != CLAIM}
    return Differences(
        lost=tuple(name for name in images if name not in found),
        doubled=tuple(sorted(each for each, count in Counter(ids).items() if count > 1)), unlike=tuple(unlike),
        left=tuple(sorted(left)), said=tuple(_said(out, clean)))


def column(out: Out, names: Sequence[str], kind: str, name: str) -> list[str]:
    """All values of a column of the parts of that kind that are among the names."""
    parts = (each for each in names if each.startswith(f"{kind}/part-"))
    tables = (pq.ParquetFile(io.BytesIO(out.read(each))).read([name]) for each in parts)
    return [value for table in tables for value in table[name].to_pylist()]


def _said(out: Out, clean: Out) -> list[str]:
    ours, theirs = (json.loads(each.read("run.json")) for each in (out, clean))
    wrong = [f"run.json: {name}: {ours[name]} instead of {theirs[name]}"
             for name in ("state", "images", "candidates", "skipped", "filtered", "error") if ours[name] != theirs[name]]
    if out.read("failures.jsonl") != clean.read("failures.jsonl"):
        wrong.append("failures.jsonl")
    return wrong
