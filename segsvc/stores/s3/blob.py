"""Opens one object as the version that was planned: a small one whole by one request, a large one by ranges."""

from __future__ import annotations

import re

from segsvc.errors import ImageError, ImageErrorKind
from segsvc.stores.s3.buckets import Buckets
from segsvc.stores.s3.client import BucketClient
from segsvc.stores.s3.errors import Answer, AttemptsExhaustedError
from segsvc.types import Blob

WHOLE_BYTES = 8 * 1024 * 1024  # up to this size an object comes whole, and beyond it in ranges of this size
HEAD_BYTES = 64 * 1024  # what of a larger one is fetched when it is opened, and the least that is fetched later
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class WholeBlob:
    """An object whose bytes are here."""

    def __init__(self, data: bytes) -> None:
        self._data: bytes | None = data
        self._size_bytes = len(data)

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read(self, start: int, stop: int) -> bytes:
        return self.read_all()[max(0, start) : max(0, stop)]

    def read_all(self) -> bytes:
        if self._data is None:
            raise _closed()
        return self._data

    def close(self) -> None:
        self._data = None


class RangedBlob:
    """An object that is fetched by ranges, long ones in pieces at the same time; threads may share it.

    Short reads are served from the beginning of the object and from the range that was fetched last.
    """

    def __init__(self, buckets: Buckets, bucket: str, key: str, *, etag: str, version_id: str, size_bytes: int,
                 head: bytes) -> None:
        self._buckets = buckets
        self._bucket, self._key = bucket, key
        self._etag, self._version_id = etag, version_id
        self._size_bytes = size_bytes
        self._kept: tuple[tuple[int, bytes], ...] = ((0, head),)
        self._is_open = True

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read(self, start: int, stop: int) -> bytes:
        if not self._is_open:
            raise _closed()
        start, stop = max(0, start), min(stop, self._size_bytes)
        if stop <= start:
            return b""
        for first, data in self._kept:
            if first <= start and stop <= first + len(data):
                return data[start - first : stop - first]
        if stop - start >= HEAD_BYTES:
            return self._fetched(start, stop)
        data = self._fetched(start, min(start + HEAD_BYTES, self._size_bytes))
        self._kept = (self._kept[0], (start, data))
        return data[: stop - start]

    def read_all(self) -> bytes:
        return self.read(0, self._size_bytes)

    def close(self) -> None:
        self._is_open = False
        self._kept = ()

    def _fetched(self, start: int, stop: int) -> bytes:
        if stop - start <= WHOLE_BYTES:
            return self._range(start, stop)
        pieces = [self._buckets.pieces.submit(self._range, first, min(first + WHOLE_BYTES, stop))
                  for first in range(start, stop, WHOLE_BYTES)]
        try:
            return b"".join([piece.result() for piece in pieces])
        finally:
            for piece in pieces:
                piece.cancel()

    def _range(self, start: int, stop: int) -> bytes:
        answer = get(self._buckets.of(self._bucket), self._key, etag=self._etag, version_id=self._version_id, start=start,
                     stop=stop, size_bytes=self._size_bytes)
        if answer.status == 403 and self._version_id:  # versions want a right of their own; the ETag tells as well
            self._version_id = ""
            return self._range(start, stop)
        if answer.status >= 300:
            raise image_error(answer, self._etag)
        return answer.body


def open_object(buckets: Buckets, bucket: str, key: str, *, version: str, size_bytes: int) -> Blob:
    """The object, if it still is that version ("" for any). size_bytes: 0 where it is not known.

    Raises ImageError where this object cannot be read, StoreError where none can.
    """
    size_bytes = size_bytes if version else 0
    stop = WHOLE_BYTES if not size_bytes else HEAD_BYTES if size_bytes > WHOLE_BYTES else 0  # 0: whole, without a range
    answer = get(buckets.of(bucket), key, etag=version, start=0, stop=stop, size_bytes=size_bytes)
    if answer.status == 416:
        return WholeBlob(b"")
    if answer.status >= 300:
        raise image_error(answer, version)
    total = _total_bytes(answer)
    if total <= len(answer.body):
        return WholeBlob(answer.body)
    version_id = answer.headers.get("x-amz-version-id", "")
    return RangedBlob(buckets, bucket, key, etag=answer.etag, version_id="" if version_id == "null" else version_id,
                      size_bytes=total, head=answer.body)


def get(client: BucketClient, key: str, *, etag: str, start: int, stop: int, size_bytes: int,
        version_id: str = "") -> Answer:
    """A GET of an object (stop 0), or of its bytes from `start` to `stop`: a good answer with just those, or an error.

    size_bytes: of the object, 0 where it is not known. Raises ImageError where the object was changed, or where there is no
    good answer for it while the store does answer; StoreError where the store does not.
    """
    headers = {"if-match": f'"{etag}"'} if etag else {}
    if stop:
        headers["range"] = f"bytes={start}-{stop - 1}"

    def check(answer: Answer) -> str | None:
        if etag and answer.etag != etag:
            raise changed(etag, answer.etag)
        return complaint(answer, start=start, stop=stop, size_bytes=size_bytes)

    try:
        return client.call("GET", key, query=[("versionId", version_id)] if version_id else (), headers=headers,
                           limit_bytes=stop - start if stop else max(size_bytes, WHOLE_BYTES), check=check)
    except AttemptsExhaustedError as error:
        if client.is_there():
            raise ImageError(ImageErrorKind.IO, f"expected the object's bytes, got: {error}") from error
        raise client.unreachable(error) from error


def complaint(answer: Answer, *, start: int, stop: int, size_bytes: int) -> str | None:
    """What is wrong with the bytes that came; None where nothing is. stop: 0 for the end; size_bytes: 0 where unknown."""
    came = len(answer.body)
    if answer.status != 206:
        if size_bytes and came != size_bytes:
            return f"a body of {came} bytes where the object has {size_bytes}"
        return None if not start else "the whole object where a range was asked for"
    told = _RANGE.fullmatch(answer.headers.get("content-range", ""))
    if told is None:
        return "a range without its place"
    first, last, total = (int(number) for number in told.groups())
    if first != start or came != last + 1 - first or came != min(stop or total, total) - start:
        return f"{came} bytes from {first} on where {start} to {stop} was asked for"
    if size_bytes and total != size_bytes:
        return f"a range of {total} bytes where the object has {size_bytes}"
    return None


def _total_bytes(answer: Answer) -> int:
    told = _RANGE.fullmatch(answer.headers.get("content-range", ""))
    return int(told.group(3)) if answer.status == 206 and told is not None else len(answer.body)


def changed(expected: str, came: str) -> ImageError:
    """The error of an object that is another version now."""
    return ImageError(ImageErrorKind.CHANGED, f"expected version {expected} of the object, got {came or 'another'}: it was "
                      "changed after it was listed. Run it again on a new OUT.")


def image_error(answer: Answer, version: str) -> ImageError:
    """What an answer means for one image that should have been a good one."""
    if answer.status == 412:
        return changed(version, answer.etag)
    if answer.code == "InvalidObjectState":
        return ImageError(ImageErrorKind.PERMISSION, "expected a readable object, got an archived one. Restore it first.")
    if answer.status in (404, 405, 410):  # 405: the newest version is a mark that it was deleted
        return ImageError(ImageErrorKind.MISSING, f"expected an object, there is none ({answer.names})")
    if answer.status in (401, 403):
        return ImageError(ImageErrorKind.PERMISSION, f"expected the right s3:GetObject, access is denied ({answer.names}); "
                          "without the right s3:ListBucket that is also said of what is not there")
    return ImageError(ImageErrorKind.IO, f"expected the object's bytes, got the error {answer.names}")


def _closed() -> ImageError:
    return ImageError(ImageErrorKind.IO, "expected an open object, got one that was closed")


