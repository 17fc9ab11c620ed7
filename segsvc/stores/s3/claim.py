"""Who works on a run in a bucket: an object that its holder renews, and that others take over once the holder is gone.

Every change of it is conditional on the version that was seen, so that of several that try one succeeds. A claim only
keeps two runs from doing the same work: what is published is published by conditional puts of its own.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol

from segsvc.errors import StoreError
from segsvc.stores.s3.errors import Answer

CLAIM = ".segsvc-claim"
RENEW_S = 5.0
STALE_S = 30.0  # without a renewal, by the server's clock
_ATTEMPTS = 2  # of one renewal; the next one comes soon

log = logging.getLogger("segsvc.stores.s3")


class Place(Protocol):
    """Where the claim is kept; what it needs of a folder."""

    @property
    def uri(self) -> str: ...
    def look(self, name: str) -> Answer | None: ...
    def tag(self, name: str) -> str | None: ...
    def put(self, name: str, data: bytes, *, if_absent: bool = False, if_tag: str | None = None,
            attempts: int | None = None) -> bool: ...
    def delete(self, name: str) -> None: ...


class Claim:
    """One process's claim on a place; a forked child holds none of its parent's."""

    def __init__(self, place: Place, *, renew_s: float = RENEW_S, stale_s: float = STALE_S) -> None:
        self._place = place
        self._renew_s, self._stale_s = renew_s, stale_s
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._holder = secrets.token_hex(8)
        self._count = 0
        self._tag: str | None = None  # the version that is ours; None where we hold nothing
        self._ended = threading.Event()

    def take(self) -> bool:
        """Whether this process holds the claim now; asked of its holder without a request."""
        if self._pid != os.getpid():
            self._forget()
        if self._tag is not None:
            return True
        with self._lock:
            there = self._place.look(CLAIM)
            if there is not None and not self._is_over(there):
                return False
            if not self._put(there.etag if there is not None else None):
                return False
            self._ended = threading.Event()
            threading.Thread(target=self._renew, args=(self._ended,), name="s3-claim", daemon=True).start()
            return True

    def give_back(self) -> None:
        """Ends the claim, if it is ours. What cannot be removed now is stale soon."""
        if self._pid != os.getpid():
            return
        self._ended.set()
        with self._lock:
            if self._tag is None:
                return
            try:
                if self._place.tag(CLAIM) == self._tag:
                    self._place.delete(CLAIM)
            except StoreError as error:
                log.warning("claim not removed", extra={"out": self._place.uri, "reason": str(error)})
            self._tag = None

    def _put(self, over: str | None) -> bool:
        """Writes the claim in place of that version, or where there is none; keeps what tells it from others."""
        self._count += 1
        data = json.dumps({"holder": self._holder, "renewals": self._count, **_this_process()}).encode()
        if not self._place.put(CLAIM, data, if_absent=over is None, if_tag=over,
                               attempts=_ATTEMPTS if self._tag is not None else None):
            return False
        there = self._place.look(CLAIM)
        if there is None or there.body != data:  # a store that knows no conditions, and another was quicker
            return False
        self._tag = there.etag
        return True

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(self._renew_s):
            with self._lock:
                if ended.is_set() or self._tag is None:
                    return
                try:
                    if not self._put(self._tag) and not self._found_again():
                        self._tag = None
                        log.warning("claim lost to another run", extra={"out": self._place.uri})
                        return
                except StoreError as error:
                    log.warning("claim not renewed", extra={"out": self._place.uri, "reason": str(error)})

    def _found_again(self) -> bool:
        """Whether the claim is ours although a renewal was refused: its answer was lost, or someone removed it."""
        there = self._place.look(CLAIM)
        if there is None:
            return self._put(None)
        if _fields(there.body).get("holder") != self._holder:
            return False
        self._tag = there.etag
        return True

    def _is_over(self, there: Answer) -> bool:
        """Whether the holder is gone: a process of this machine that ended, or one that renewed nothing for long."""
        fields = _fields(there.body)
        if fields.get("holder") == self._holder:  # we put it, and the look at it afterwards failed
            return True
        here = _this_process()
        if all(fields.get(name) == here[name] for name in ("host", "boot", "pid_space")) and here["boot"] is not None:
            pid = fields.get("pid")
            if isinstance(pid, int) and _started_at(pid) != fields.get("started"):
                return True
        return _age_s(there) > self._stale_s


def _this_process() -> dict[str, str | int | None]:
    pid = os.getpid()
    try:
        boot: str | None = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space: int | None = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        boot = space = None
    return {"host": socket.gethostname(), "boot": boot, "pid_space": space, "pid": pid, "started": _started_at(pid)}


def _started_at(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None where it is gone, or only not yet reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def _fields(body: bytes) -> dict[str, object]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _age_s(there: Answer) -> float:
    """Seconds since the object was put, by the server's own clock where it tells it."""
    try:
        changed = parsedate_to_datetime(there.headers["last-modified"]).timestamp()
        now = parsedate_to_datetime(there.headers["date"]).timestamp() if "date" in there.headers else time.time()
    except (KeyError, ValueError):
        return 0.0
    return now - changed
