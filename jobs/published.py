"""How far a run is that others work on: by the parts that they publish."""

from __future__ import annotations

import time

from segsvc.results import RunFolder, without_gap

_EVERY_S = 1.0
_SHARE = 0.05  # of the time at most goes into looking: listing a million parts takes a while, and costs


class PublishedParts:
    """What is planned and published in a run's folder, as it was looked at last."""

    def __init__(self, folder: RunFolder, *, shard_size: int) -> None:
        self._folder = folder
        self._shard_size = shard_size
        self._published: frozenset[int] = frozenset()
        self._next_look = 0.0  # monotonic
        self.planned = 0  # shards
        self.all_planned = False
        self.images_planned = 0
        self.images_published = 0

    def look(self) -> bool:
        """Looks, where it is time to; whether it did. Raises OSError or SegsvcError where the folder cannot be read."""
        began = time.monotonic()
        if began < self._next_look:
            return False
        self._published = frozenset(self._folder.numbers("images"))
        whole = without_gap(self._folder.numbers("plan"))
        last = self._folder.planned(whole - 1) if whole else None
        self._next_look = time.monotonic() + max(_EVERY_S, (time.monotonic() - began) / _SHARE)
        if last is None:
            return False
        self.planned, self.all_planned = whole, last.is_last
        self.images_planned = last.number * self._shard_size + len(last.units)
        short = self._shard_size - len(last.units) if last.number in self._published else 0
        self.images_published = len(self._published) * self._shard_size - short
        return True

    def has_all(self, first: int, beyond: int) -> bool:
        """Whether the shards from `first` on, up to but without `beyond`, are published."""
        return all(number in self._published for number in range(first, beyond))
