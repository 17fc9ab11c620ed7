"""Objects in buckets: `s3://bucket/key`, the key as it is. Amazon's S3, and the stores that speak its language.

How buckets are reached is said by AWS_* variables and profiles and by the settings `s3` and `s3_buckets`.
"""

from __future__ import annotations

from collections.abc import Iterator

from segsvc.errors import ImageError, ImageErrorKind, StoreError
from segsvc.settings import settings
from segsvc.stores import MISSING, Listed, Skip, is_hidden, is_no_image
from segsvc.stores.s3.blob import open_object
from segsvc.stores.s3.buckets import BUCKETS, SCHEME, split_uri, uri_of
from segsvc.stores.s3.client import BucketClient
from segsvc.stores.s3.errors import AttemptsExhaustedError
from segsvc.stores.s3.folder import S3Folder
from segsvc.stores.s3.listing import Entry, list_below, list_page
from segsvc.types import Blob, ImageRef


class S3Store:
    """The store of `s3://`."""

    scheme = "s3"

    @property
    def in_flight(self) -> int:
        return settings().s3.in_flight

    def list(self, uri: str, *, after: str | None = None, exclude: str | None = None) -> Iterator[Listed]:
        """The object of exactly that key; else those below `key/`; else those whose keys begin so. In the bucket's order.

        after: the cursor (the key) of the last entry that was seen. exclude: a prefix that is passed over without a count,
        the run's own output. Raises StoreError, at the first step where nothing can be listed.
        """
        bucket, key = split_uri(uri)
        prefix, entries = _found(BUCKETS.of(bucket), key, after or "")
        own = _own_prefix(bucket, exclude, prefix)
        for entry in entries:
            if own is None or not entry.key.startswith(own):
                yield Listed(entry.key, _judged(bucket, entry, prefix))

    def find(self, uri: str) -> ImageRef:
        """The version of the object that is there now (`missing` where there is none, or none that is ours to see)."""
        bucket, key = _place(uri)
        if not key:
            return ImageRef(uri, MISSING, 0)
        client = BUCKETS.of(bucket)
        try:
            answer = client.head(key)
        except AttemptsExhaustedError as error:
            raise client.unreachable(error) from error
        if answer.status >= 300:
            return ImageRef(uri, MISSING, 0)
        return ImageRef(uri, answer.etag, int(answer.headers.get("content-length", 0)))

    def open(self, ref: ImageRef) -> Blob:
        """The object, if it still is the version that was planned. Raises ImageError, StoreError where none can be read."""
        bucket, key = _place(ref.uri)
        if not key:
            raise ImageError(ImageErrorKind.MISSING, f"expected s3://bucket/key, got {ref.uri!r:.200}")
        return open_object(BUCKETS, bucket, key, version=ref.version, size_bytes=ref.size_bytes)

    def folder(self, uri: str) -> S3Folder:
        return S3Folder(uri)


def _place(uri: str) -> tuple[str, str]:
    """Bucket and key; an empty key where the URI names no object: one wrong row of a manifest is one failed image."""
    try:
        return split_uri(uri)
    except StoreError:
        return "", ""


def _own_prefix(bucket: str, exclude: str | None, prefix: str) -> str | None:
    """What the keys of the run's own output begin with; None where that is not in this bucket, or all around INPUT."""
    if exclude is None or not exclude.startswith(SCHEME):
        return None
    own_bucket, own = split_uri(exclude)
    own = own.rstrip("/") + "/"
    return None if own_bucket != bucket or own == "/" or prefix.startswith(own) else own


def _found(client: BucketClient, key: str, after: str) -> tuple[str, Iterator[Entry]]:
    """What a URI means: the prefix, and its objects after the key `after`. The prefix of a single object is its key."""
    if key and not key.endswith("/"):
        begins = list_page(client, key, most=1)
        if begins.entries and begins.entries[0].key == key:
            return key, iter([] if after else begins.entries[:1])
        below = list_page(client, key + "/", delimiter="/")
        if below.entries or below.prefixes:
            return key + "/", list_below(client, key + "/", below, after=after)
    return key, list_below(client, key, list_page(client, key, delimiter="/"), after=after)


def _judged(bucket: str, entry: Entry, prefix: str) -> ImageRef | Skip:
    base = prefix.rfind("/") + 1
    if entry.key != prefix and _is_hidden(entry.key[base:], begins_so=prefix[base:].startswith(".")):
        return Skip.HIDDEN
    if entry.key.endswith("/"):
        return Skip.SPECIAL
    if is_no_image(entry.key):
        return Skip.ENDING
    return ImageRef(uri_of(bucket, entry.key), entry.etag, entry.size_bytes)


def _is_hidden(relative: str, *, begins_so: bool) -> bool:
    """Whether a segment begins with a dot. begins_so: the first one was asked for as it is."""
    if "." not in relative:
        return False
    segments = relative.split("/")[1 if begins_so else 0:]
    return any(map(is_hidden, segments))


PLUGIN = S3Store()
