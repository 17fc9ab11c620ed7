"""A prefix of a bucket as the place of a run's parts: each put whole by one request, conditions judged by the server."""

from __future__ import annotations

from collections.abc import Mapping

from segsvc.errors import StoreError
from segsvc.stores import PROBE
from segsvc.stores.s3.blob import complaint
from segsvc.stores.s3.buckets import BUCKETS, Buckets, split_uri, uri_of
from segsvc.stores.s3.claim import CLAIM, Claim
from segsvc.stores.s3.client import BucketClient, Check
from segsvc.stores.s3.errors import Answer, AttemptsExhaustedError
from segsvc.stores.s3.listing import list_page

_IN_FLIGHT = 16
_READ = "s3:GetObject (and s3:ListBucket, to tell what is not there)"
_TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json", ".jsonl": "application/jsonl"}


class S3Folder:
    """The objects below `s3://bucket/prefix/`. Raises StoreError where the store or the right to use it is missing."""

    def __init__(self, uri: str, buckets: Buckets = BUCKETS) -> None:
        self._bucket, key = split_uri(uri)
        self._below = key.rstrip("/") + "/" if key.rstrip("/") else ""
        self._buckets = buckets
        self._claim = Claim(self)

    @property
    def uri(self) -> str:
        return uri_of(self._bucket, self._below).rstrip("/")

    @property
    def in_flight(self) -> int:
        return min(_IN_FLIGHT, self._client.options.in_flight)

    @property
    def _client(self) -> BucketClient:
        return self._buckets.of(self._bucket)

    def read(self, name: str) -> bytes | None:
        answer = self.look(name)
        return answer.body if answer is not None else None

    def look(self, name: str) -> Answer | None:
        """The file with what the server says of it; None where there is none.

        It is asked for as a range, whose answer says twice how long it is.
        """
        found = self._asked("GET", name, right=_READ, headers={"range": "bytes=0-"},
                            check=lambda answer: complaint(answer, start=0, stop=0, size_bytes=0))
        # a file without bytes has no range
        return self._asked("GET", name, right=_READ) if found is not None and found.status == 416 else found

    def tag(self, name: str) -> str | None:
        try:
            answer = self._client.head(self._below + name)
        except AttemptsExhaustedError as error:
            raise self._client.unreachable(error) from error
        if answer.status < 300:
            return answer.etag
        if self._is_missing(answer):
            return None
        raise self._refused(answer, name, _READ)

    def put(self, name: str, data: bytes, *, if_absent: bool = False, if_tag: str | None = None,
            attempts: int | None = None) -> bool:
        """attempts: instead of the setting.

        An answer that was lost may have been a good one: where the condition then no longer holds because these very bytes
        are there, they count as put.
        """
        condition = {"if-none-match": "*"} if if_absent else {"if-match": f'"{if_tag}"'} if if_tag is not None else {}
        if condition and not self._client.puts_conditionally:
            there = self.tag(name)
            if (there is not None) if if_absent else there != if_tag:
                return False
            condition = {}
        kind = _TYPES.get(name[name.rfind("."):], "application/octet-stream")
        headers = {**self._encryption(), **condition, "content-type": kind}
        try:
            answer = self._client.call("PUT", self._below + name, headers=headers, body=data, attempts=attempts)
        except AttemptsExhaustedError as error:
            raise self._client.unreachable(error) from error
        if answer.status < 300:
            return True
        if condition and answer.status == 501:
            self._client.puts_conditionally = False
            return self.put(name, data, if_absent=if_absent, if_tag=if_tag, attempts=attempts)
        if condition and (answer.status == 412 or (answer.status == 404 and answer.code == "NoSuchKey")):
            return answer.attempts > 1 and self.read(name) == data
        raise self._refused(answer, name, "s3:PutObject")

    def names(self, prefix: str) -> list[str]:
        below = f"{self._below}{prefix}/"
        found: list[str] = []
        token, more = "", True
        while more:
            page = list_page(self._client, below, delimiter="/", token=token)
            found += [entry.key for entry in page.entries]
            token, more = page.token, page.token != ""
        names = (key.removeprefix(below) for key in found)
        return sorted(f"{prefix}/{name}" for name in names if name and not name.startswith("."))

    def delete(self, name: str) -> None:
        self._asked("DELETE", name, right="s3:DeleteObject")

    def probe(self) -> None:
        self.put(PROBE, b"")
        self.delete(PROBE)

    def is_empty(self) -> bool:
        """A claim, and an object that stands for the folder itself, do not count."""
        page = list_page(self._client, self._below, most=3)
        return all(entry.key in (self._below, self._below + CLAIM) for entry in page.entries)

    def claim(self) -> bool:
        return self._claim.take()

    def release(self) -> None:
        self._claim.give_back()

    def sweep(self) -> None:
        """There is nothing to remove: a put that did not end has left nothing."""

    def _asked(self, method: str, name: str, *, right: str, headers: Mapping[str, str] | None = None,
               check: Check | None = None) -> Answer | None:
        """The answer, which may be that the range is not there; None where there is no such file."""
        try:
            answer = self._client.call(method, self._below + name, headers=headers, check=check)
        except AttemptsExhaustedError as error:
            raise self._client.unreachable(error) from error
        if answer.status < 300 or answer.status == 416:
            return answer
        if self._is_missing(answer):
            return None
        raise self._refused(answer, name, right)

    @staticmethod
    def _is_missing(answer: Answer) -> bool:
        """Whether the answer says that there is no such object; a 404 without S3's word for it is of something else."""
        return answer.status == 404 and answer.code in ("NoSuchKey", "NoSuchVersion", "404")

    def _refused(self, answer: Answer, name: str, right: str) -> StoreError:
        return self._client.refused(answer, right, key=self._below + name)

    def _encryption(self) -> Mapping[str, str]:
        options = self._client.options
        found = {"x-amz-server-side-encryption": options.sse.value if options.sse is not None else None,
                 "x-amz-server-side-encryption-aws-kms-key-id": options.sse_kms_key_id}
        return {name: value for name, value in found.items() if value is not None}
