"""The buckets that this process talks to, and how their URIs are read."""

from __future__ import annotations

import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor

from segsvc.errors import StoreError
from segsvc.settings import Settings, settings
from segsvc.stores.s3.client import BucketClient

SCHEME = "s3://"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_PIECES = 16  # ranges of large objects that are fetched at once


def uri_of(bucket: str, key: str) -> str:
    """The URI of an object: its key as it is."""
    return f"{SCHEME}{bucket}/{key}"


def split_uri(uri: str) -> tuple[str, str]:
    """The bucket and the key (or prefix) of a URI. Raises StoreError where it names no bucket."""
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    if not uri.startswith(SCHEME) or not _NAME.fullmatch(bucket) or ".." in bucket:
        raise StoreError(f"expected s3://bucket/prefix with the name of a bucket, got {uri!r:.200}")
    return bucket, key


class Buckets:
    """A client for each bucket, made when it is first needed and shared by all threads.

    A forked child makes its own: connections of its parent are not its own to use.
    """

    def __init__(self) -> None:
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Makes all clients anew when they are next needed."""
        self._lock = threading.Lock()
        self._clients: dict[str, BucketClient] = {}
        self._settings: Settings | None = None
        self._pieces: ThreadPoolExecutor | None = None

    def of(self, bucket: str) -> BucketClient:
        """The client of a bucket, as the settings in force say."""
        now = settings()
        client = self._clients.get(bucket)
        if client is not None and self._settings is now:
            return client
        with self._lock:
            if self._settings != now:  # threads that read the settings at once have equal ones
                self._clients = {}
            self._settings = now
            if bucket not in self._clients:
                self._clients[bucket] = BucketClient(bucket, now.s3_of(bucket))
            return self._clients[bucket]

    @property
    def pieces(self) -> ThreadPoolExecutor:
        """The threads that fetch ranges of large objects; what they do waits for nothing of theirs."""
        with self._lock:
            if self._pieces is None:
                self._pieces = ThreadPoolExecutor(_PIECES, thread_name_prefix="s3-range")
            return self._pieces


BUCKETS = Buckets()
