"""What is heard of objects in buckets: what goes into the ledger and comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

MOST_STRAY_CHARACTERS = 32_768  # of a message that nobody could read, what is kept


@dataclass(frozen=True, slots=True)
class Heard:
    """One object as an event or a listing has it; rule: its place among the rules that came with it.

    etag: "" where a deletion does not say which version it was of. sequencer: S3's, lower-case hex of 64 digits, else "".
    at_ns: when it was put or deleted, since 1970 by its store's clock. one_version: a deletion of the version `version_id`
    alone, which may be an old one.
    """

    uri: str
    etag: str
    size_bytes: int
    gone: bool
    at_ns: int
    rule: int
    sequencer: str = ""
    version_id: str = ""
    one_version: bool = False


@dataclass(frozen=True, slots=True)
class TakingRule:
    """A rule as it takes objects: its JSON, the digest of its model, and when what it took becomes a run."""

    rule: str
    model_digest: str
    seconds: float
    images: int


@dataclass(frozen=True, slots=True)
class Stray:
    """A message that nobody could read: why, and its beginning."""

    reason: str
    body: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StrayRecord:
    """A message that is kept aside, and how often it came."""

    stray: Stray
    times: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """Objects that are one run together. run_id: None until that run is queued; error: why it could not be."""

    number: int
    name: str
    rule: str
    images: int
    cut_at: datetime
    run_id: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class BatchImage:
    """One image of a batch."""

    uri: str
    etag: str
    size_bytes: int
