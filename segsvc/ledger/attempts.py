"""Failed logins: who fails often has to wait, so that passwords cannot be tried out."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from segsvc.ledger.errors import Throttled

_FREE = 5
_LONGEST_WAIT_S = 900.0
_REMEMBERED = 10_000  # names whose attempts are counted


class Attempts:
    """Failed logins by name: after five, each next one waits twice as long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()  # name -> how many, and until when to wait

    def check(self, name: str) -> None:
        """Raises Throttled where the name has to wait."""
        with self._lock:
            left = self._failed.get(name, (0, 0.0))[1] - time.monotonic()
        if left > 0:
            seconds = int(left) + 1
            raise Throttled(f"login: too many failed attempts; try again in {seconds} s", retry_after_s=seconds)

    def failed(self, name: str) -> None:
        """Counts a failed attempt."""
        with self._lock:
            count = self._failed.pop(name, (0, 0.0))[0] + 1
            over = count - _FREE
            wait = min(_LONGEST_WAIT_S, 2.0 ** min(over, 20)) if over >= 0 else 0.0
            self._failed[name] = (count, time.monotonic() + wait)
            if len(self._failed) > _REMEMBERED:
                self._failed.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """Forgets the failed ones."""
        with self._lock:
            self._failed.pop(name, None)
