"""How many images INPUT names, counted by listing alone, as far as a few seconds and a number allow."""

from __future__ import annotations

from dataclasses import dataclass
from threading import BoundedSemaphore, Event, Thread

from review_ui.problems import Problem, ProblemType
from segsvc.errors import SegsvcError
from segsvc.plan import InputKind, listing, read_input
from segsvc.reach import Reach
from segsvc.stores import Skip

MOST_COUNTED = 1_000_000
PATIENCE_S = 5.0
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class InputCount:
    """input: as a URI, or as it was written where even that was not found out in time. whole: there are no more images.

    skipped: of what was listed, so much is no image.
    """

    input: str
    images: int
    skipped: int
    whole: bool


class InputCounts:
    """Some listings at once. One that takes too long is told as far as it got; it ends with what it waits for, and has its
    place until then, so that a store which does not answer takes no more threads than there are places."""

    def __init__(self, *, most: int = MOST_COUNTED, patience_s: float = PATIENCE_S) -> None:
        self._most, self._patience_s = most, patience_s
        self._places = BoundedSemaphore(_AT_ONCE)

    def of(self, text: str, reach: Reach | None = None) -> InputCount:
        """The count; no image is opened. Raises ConfigError where there is no such INPUT within `reach`, Problem(BUSY)."""
        if reach is not None:
            reach.check(text, "input")
        if not self._places.acquire(blocking=False):
            raise Problem(ProblemType.BUSY, f"expected at most {_AT_ONCE} listings at once, got one more: try again")
        work = _Listing(text, self._most, reach)
        Thread(target=self._run, args=(work,), name="count", daemon=True).start()
        work.ended.wait(self._patience_s)
        work.is_wanted = False
        if work.error is not None:
            raise work.error
        return InputCount(work.uri, work.images, work.skipped, work.whole)

    def _run(self, work: _Listing) -> None:
        try:
            work.run()
        except SegsvcError as error:
            work.error = error
        finally:
            self._places.release()
            work.ended.set()


class _Listing:
    """One listing, as far as it is; written by its thread alone, but for `is_wanted`."""

    def __init__(self, text: str, most: int, reach: Reach | None) -> None:
        self.uri, self._most, self._reach = text, most, reach
        self.images = self.skipped = 0
        self.whole, self.is_wanted = False, True
        self.error: SegsvcError | None = None
        self.ended = Event()

    def run(self) -> None:
        source = read_input(self.uri)
        self.uri = source.uri
        for entry in listing(source):
            if not self.is_wanted or self.images == self._most:
                return
            if isinstance(entry.found, Skip):
                self.skipped += 1
                continue
            if self._reach is not None and source.kind is not InputKind.LISTING:  # which leaves its folder by no link
                self._reach.check(entry.found.uri, "input: an image in it")
            self.images += 1
        self.whole = True
