"""Finds by listing what no event told: a prefix is listed, and what is known of it is brought to what is there."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from jobs.rules import Rules
from segsvc.errors import ConfigError, RunError
from segsvc.event_documents import NOTHING_TAKEN, ReconcileDocument, TakenDocument
from segsvc.ledger import events
from segsvc.ledger.event_errands import EndListing, HearObjects
from segsvc.ledger.event_records import Heard
from segsvc.ledger.opening import Ledger
from segsvc.stores import store_of
from segsvc.stores.s3.buckets import split_uri
from segsvc.types import ImageRef

_PIECE = 500  # objects that are stored by one transaction
_SET_BACK_S = 0.5  # less a clock drifts, or is slewed


@dataclass(slots=True)
class Listing:
    """The objects below a prefix that the rules take, and counts of the others."""

    prefix: str
    rules: Rules
    began: int = field(default_factory=events.begin_listing)
    _began_s: float = field(default_factory=time.monotonic)
    listed: int = 0
    unmatched: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def pieces(self) -> Iterator[tuple[Heard, ...]]:
        """The objects as the listing goes, some at a time. Raises StoreError where the prefix cannot be listed."""
        piece: list[Heard] = []
        for entry in store_of(self.prefix).list(self.prefix):
            found = entry.found
            if not isinstance(found, ImageRef):
                self.skipped[found.value] += 1
                continue
            place = self.rules.place_of(found.uri)
            if place is None:
                self.unmatched += 1
                continue
            self.listed += 1
            piece.append(Heard(found.uri, found.version, found.size_bytes, gone=False, at_ns=self.began * 1000, rule=place))
            if len(piece) == _PIECE:
                yield tuple(piece)
                piece = []
        if piece:
            yield tuple(piece)

    def check_clock(self) -> None:
        """Raises RunError where the clock was set back: then what came since cannot be told from what is gone."""
        behind_s = time.monotonic() - self._began_s - (events.begin_listing() - self.began) / 1e6
        if behind_s > _SET_BACK_S:
            raise RunError(f"reconcile: expected a clock that goes on while {self.prefix} is listed, it was set back by "
                           f"{behind_s:.0f} s. What was found is queued, nothing was marked as gone; give the same command "
                           "again.")

    def document(self, *, dry_run: bool, queued: int, known: int, gone: int) -> ReconcileDocument:
        """The listing in numbers."""
        return ReconcileDocument(
            prefix=self.prefix, dry_run=dry_run, listed=self.listed, unmatched=self.unmatched,
            skipped=dict(sorted(self.skipped.items())), queued=queued, known=known, gone=gone)


def reconcile(prefix: str, rules: Rules, take: Callable[[HearObjects], TakenDocument], end: Callable[[EndListing], int]
              ) -> ReconcileDocument:
    """Lists the prefix, queues what was not put into a run yet, and marks what is gone. take, end: who stores it.

    Raises ConfigError, StoreError where it cannot be listed, RunError where the clock was set back meanwhile: what was
    queued until then stays so, and nothing is gone.
    """
    listing = Listing(_checked(prefix, rules), rules)
    taken = NOTHING_TAKEN
    taking = rules.taking()
    for piece in listing.pieces():
        taken = taken + take(HearObjects(rules=taking, heard=piece, listing=listing.began))
    listing.check_clock()
    gone = end(EndListing(prefix=listing.prefix, listing=listing.began))
    take(HearObjects(rules=taking, heard=(), at_once=True))
    return listing.document(dry_run=False, queued=taken.queued, known=taken.known + taken.stale, gone=gone)


def foreseen(prefix: str, rules: Rules, ledger: Ledger) -> ReconcileDocument:
    """What `reconcile` would do; nothing is stored."""
    listing = Listing(_checked(prefix, rules), rules)
    left = events.there(ledger, listing.prefix)
    taking = rules.taking()
    queued = known = 0
    for piece in listing.pieces():
        new, old = events.compare(ledger, taking, piece)
        queued, known = queued + new, known + old
        for each in piece:
            left.pop(each.uri, None)
    return listing.document(dry_run=True, queued=queued, known=known, gone=len(left))


def _checked(prefix: str, rules: Rules) -> str:
    """The folder that is meant. Raises ConfigError where no rule takes anything of it."""
    split_uri(prefix)
    whole = f"{prefix.rstrip('/')}/"
    if not any(whole.startswith(rule.prefix) or rule.prefix.startswith(whole) for rule in rules.rules):
        raise ConfigError(f"reconcile: expected a folder that a rule takes objects of "
                          f"({', '.join(rule.prefix for rule in rules.rules)}), got {prefix!r}")
    return whole
