"""How long a run still takes."""

from __future__ import annotations

import time


class Pace:
    """Seconds left, from the pace of this attempt since its first image ended: starting up says nothing of it."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def eta_s(self, ended: int, planned: int) -> float | None:
        now = time.monotonic()
        if self._first is None and ended > 0:
            self._first = now, ended
        if self._first is None or ended == self._first[1]:
            return None
        since, already = self._first
        return max(0.0, (planned - ended) * (now - since) / (ended - already))
