"""How many objects may be fetched at once: halved when the store asks to slow down, grown again while it answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Lets at most `most` through at a time, shared by the threads of a process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._within = 0
        self._cut_at = -1.0
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """How many are let through at once just now."""
        return int(self._limit)

    @contextmanager
    def passed(self) -> Iterator[float]:
        """Waits to be let through; gives the time at which it was (monotonic seconds)."""
        with self._changed:
            while self._within >= int(self._limit):
                self._changed.wait()
            self._within += 1
        try:
            yield time.monotonic()
        finally:
            with self._changed:
                self._within -= 1
                self._changed.notify()

    def slow_down(self, begun: float) -> None:
        """The store was too busy for a request that was let through at `begun`.

        Requests that were under way when the limit was last cut say nothing new.
        """
        with self._changed:
            if begun > self._cut_at:
                self._limit = max(1.0, self._limit / 2)
                self._cut_at = time.monotonic()

    def went_well(self) -> None:
        """One more answer: a full round of them lets one more through."""
        if self._limit < self._most:
            with self._changed:
                self._limit = min(float(self._most), self._limit + 1 / self._limit)
                self._changed.notify()
