"""Requests to one bucket: signed, tried again where that helps, followed to the bucket's region.

boto3 takes 3 ms of processor time for a GET of a small object, and its threads wait for each other; this takes a sixth
of it. What boto3 knows of endpoints, profiles, credentials and their renewal is asked of it (`endpoint`).
"""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

from segsvc.errors import StoreError
from segsvc.settings import S3Settings
from segsvc.stores.s3.endpoint import Endpoint, find_credentials, find_endpoint
from segsvc.stores.s3.errors import (
    AGAIN,
    AGAIN_STATUS,
    BUSY,
    EXPIRED,
    Answer,
    AttemptsExhaustedError,
    fatal,
    parsed_error,
    refused,
    unreachable,
)
from segsvc.stores.s3.gate import Gate
from segsvc.stores.s3.http import BrokenExchangeError
from segsvc.stores.s3.signing import Credentials, Signer, canonical_query, quoted_path

_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 20.0
_FIRST_ATTEMPTS = 7  # of a store that never answered this process: some 4 s until a wrong endpoint is said to be one
_MOVES = 3  # how often a bucket's region may be followed
_CLOCK_OFF_S = 60.0  # what is less no store minds
_MOVED = frozenset({"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IncorrectEndpoint",
                    "IllegalLocationConstraintException"})

Check = Callable[[Answer], str | None]


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked; path and query as they are signed, the path without the bucket."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class _Way:
    """Where one attempt goes, and as whom."""

    endpoint: Endpoint
    signer: Signer
    off_s: float  # by which its clock is put right
    credentials: Credentials | None


class BucketClient:
    """One bucket, for any number of threads of this process."""

    def __init__(self, bucket: str, options: S3Settings) -> None:
        self.bucket = bucket
        self.options = options
        self.gate = Gate(options.in_flight)
        self._lock = threading.Lock()
        self._place: tuple[Endpoint, Signer] | None = None
        self._credentials: Callable[[], Credentials] | None = None
        self._moves = 0
        self._answered = False
        self.puts_conditionally = True  # until the server says that it cannot

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def endpoint(self) -> str:
        """For messages."""
        return self._way().endpoint.url

    # -- requests ----------------------------------------------------------------------------------------------------

    def call(self, method: str, key: str = "", *, query: Sequence[tuple[str, str]] = (),
             headers: Mapping[str, str] | None = None, body: bytes = b"", limit_bytes: int = 1 << 62,
             check: Check | None = None, attempts: int | None = None) -> Answer:
        """The answer: good, or an error that is the caller's to judge (403, 404, 412 ...).

        limit_bytes: a longer body is not read, the answer counts as broken. check: says what is wrong with a good answer
        that must be asked for again, None where nothing is. attempts: instead of the setting. Raises StoreError where the
        store cannot be used at all, AttemptsExhaustedError where no good answer came.
        """
        attempt = 0
        path = f"/{quoted_path(key)}" if key else ""
        asked = _Request(method, path, canonical_query(query), headers or {}, body, limit_bytes)
        while True:
            attempt += 1
            reached = True
            way = self._way()
            try:
                with self.gate.passed() if method == "GET" and key else nullcontext(time.monotonic()) as begun:
                    answer = self._once(asked, way)
                self._answered = True
                reason = self._judged(answer, way, check, begun)
                if reason is None:
                    return answer if attempt == 1 else replace(answer, attempts=attempt)
            except BrokenExchangeError as broken:
                reason, reached = str(broken), broken.reached
            if reason == "":  # moved, or the credentials are renewed: at once, and not counted
                attempt -= 1
                continue
            most = attempts or self.options.attempts
            if attempt >= (most if self._answered or reached else min(most, _FIRST_ATTEMPTS)):
                raise AttemptsExhaustedError(reason, attempts=attempt, reached=reached)
            time.sleep(_pause_s(attempt))

    def head(self, key: str) -> Answer:
        """What a GET of the object would say, without its bytes. An error comes with its code, which HEAD does not tell."""
        answer = self.call("HEAD", key)
        if answer.status < 300:
            return answer
        told = self.call("GET", key, headers={"range": "bytes=0-0"})
        came = told.status < 300 or told.status == 416  # 416: it came meanwhile, and has no first byte
        return self.call("HEAD", key) if came else told

    def is_there(self) -> bool:
        """Whether the endpoint answers anything at all just now: tells a fault of one object from one of the store."""
        try:
            self._once(_Request("HEAD", "", "", {}, b"", 1 << 16), self._way())
        except BrokenExchangeError:
            return False
        return True

    def refused(self, answer: Answer, right: str, *, key: str = "") -> StoreError:
        """What an answer means for the store as a whole that should have been a good one."""
        return refused(answer, uri=f"{self.uri}/{key}".rstrip("/"), endpoint=self.endpoint, right=right)

    def unreachable(self, error: AttemptsExhaustedError) -> StoreError:
        """The error of a store that gave no good answer."""
        return unreachable(error, uri=self.uri, endpoint=self.endpoint)

    # -- one attempt -------------------------------------------------------------------------------------------------

    def _way(self) -> _Way:
        """Where requests go now, and what signs them."""
        place = self._place
        if place is None:
            with self._lock:
                if (place := self._place) is None:
                    self._credentials = find_credentials(self.bucket, self.options)
                    place = self._settle(None)
        credentials = self._credentials
        return _Way(*place, place[1].off_s, credentials() if credentials is not None else None)

    def _settle(self, region: str | None) -> tuple[Endpoint, Signer]:
        endpoint = find_endpoint(self.bucket, self.options, region=region)
        self._place = endpoint, Signer(host=endpoint.host, region=endpoint.region)
        return self._place

    def _once(self, asked: _Request, way: _Way) -> Answer:
        endpoint = way.endpoint
        sent = {**asked.headers, "x-amz-request-payer": "requester"} if self.options.requester_pays else dict(asked.headers)
        path = endpoint.base_path + asked.path or "/"
        if way.credentials is not None:
            sent = way.signer.signed(asked.method, path, asked.query, sent, asked.body, way.credentials)
        sent |= {"host": endpoint.host, "accept-encoding": "identity", "user-agent": "segsvc"}
        target = f"{path}?{asked.query}" if asked.query else path
        try:
            status, headers, content = endpoint.connections.exchange(
                asked.method, target, sent, asked.body, limit_bytes=asked.limit_bytes)
        except ssl.SSLCertVerificationError as error:
            raise StoreError(f"{self.uri}: expected a certificate of a known authority from {endpoint.url}, got another "
                             f"({error.verify_message}). Set AWS_CA_BUNDLE to the file of your authority's certificates."
                             ) from error
        return Answer(status, headers, content, parsed_error(content).get("Code", "") if status >= 300 else "")

    def _judged(self, answer: Answer, way: _Way, check: Check | None, begun: float) -> str | None:
        """None for an answer to give back; else why it is asked for again, "" for at once. Raises StoreError."""
        if answer.status < 300:
            complaint = check(answer) if check is not None else None
            if complaint is None:
                self.gate.went_well()
            return complaint
        if answer.status in (429, 503) or answer.code in BUSY:
            self.gate.slow_down(begun)
        if answer.status in AGAIN_STATUS or answer.code in AGAIN:
            return f"the answer {answer.names}"
        region = answer.headers.get("x-amz-bucket-region") or parsed_error(answer.body).get("Region", "")
        if self._moved(answer, region, way) or self._put_right(answer, way) or (
                answer.code in EXPIRED and self._renewed(way)):
            return ""
        error = fatal(answer, uri=self.uri, endpoint=way.endpoint.url, region=region or way.endpoint.region)
        if error is not None:
            raise error
        cut = answer.body.strip().startswith(b"<") and not answer.body.strip().endswith(b">")
        return "an error that broke off" if cut and not answer.code else None

    def _moved(self, answer: Answer, region: str, way: _Way) -> bool:
        """Whether the bucket turned out to be in another region, where it is asked from now on."""
        bare = answer.status == 400 and not answer.body  # to a HEAD
        if not region or not (answer.status in (301, 307) or answer.code in _MOVED or bare):
            return False
        with self._lock:
            if self._place is not None and self._place[0] is not way.endpoint:
                return True  # another thread has followed meanwhile
            if region == way.endpoint.region or self._moves >= _MOVES:
                return False
            self._moves += 1
            self._settle(region)
            return True

    def _put_right(self, answer: Answer, way: _Way) -> bool:
        """Whether the store refused the time of a request and told its own, which requests are signed by from now on."""
        if answer.code != "RequestTimeTooSkewed":
            return False
        try:
            off_s = parsedate_to_datetime(answer.headers.get("date", "")).timestamp() - time.time()
        except ValueError:
            return False
        way.signer.off_s = off_s
        return abs(off_s - way.off_s) > _CLOCK_OFF_S

    def _renewed(self, way: _Way) -> bool:
        """Whether the chain gives other credentials now: a file or a service that was renewed meanwhile."""
        with self._lock:
            found = find_credentials(self.bucket, self.options)
            if found is None or found() == way.credentials:
                return False
            self._credentials = found
            return True


def _pause_s(attempt: int) -> float:
    """How long to wait after that attempt: twice as long each time, spread so that threads do not come back together.

    The long ones have a least length: ten attempts then outlast a restart of the store, 22 s, whatever is drawn.
    """
    longest = min(_LONGEST_PAUSE_S, _PAUSE_S * 2 ** (attempt - 1))
    return random.uniform(longest / 2 if longest > 1 else 0, longest)
