"""Signs of life of others, by this process's own steady clock: whose clock stands where is nothing to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class Heartbeats:
    """For how long each of some things has been as it is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[int, tuple[object, float]] = {}  # as it was last, and since when

    def silent_s(self, signs: Mapping[int, object]) -> dict[int, float]:
        """Seconds since the sign of each was first seen as it is now. What is not among them any more is forgotten."""
        now = self._clock()
        before, self._seen = self._seen, {}
        for number, sign in signs.items():
            last, since = before.get(number, (None, now))
            self._seen[number] = (sign, since if last == sign else now)
        return {number: now - since for number, (_, since) in self._seen.items()}
