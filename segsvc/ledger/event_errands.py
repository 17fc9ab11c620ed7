"""What triggers have a ledger do that a server may have open: objects heard of, and the end of a listing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from segsvc.card import Document
from segsvc.event_documents import GoneDocument, TakenDocument
from segsvc.ledger import events
from segsvc.ledger.event_records import Heard, Stray, TakingRule
from segsvc.ledger.opening import Ledger

Say = Callable[[str], None]


class HearObjects(Document):
    """Take in what was heard of objects, all or nothing of it. listing: see `segsvc.ledger.events.take_in`."""

    does: Literal["hear-objects"] = "hear-objects"
    rules: tuple[TakingRule, ...]
    heard: tuple[Heard, ...]
    strays: tuple[Stray, ...] = ()
    unmatched: int = 0
    ignored: int = 0
    listing: int | None = None
    at_once: bool = False

    def run(self, ledger: Ledger, say: Say) -> TakenDocument:
        taken = events.take_in(ledger, self.rules, self.heard, strays=self.strays, listing=self.listing,
                               at_once=self.at_once)
        return taken.model_copy(update={"unmatched": self.unmatched, "ignored": self.ignored})


class EndListing(Document):
    """Mark as gone what a listing did not show."""

    does: Literal["end-listing"] = "end-listing"
    prefix: str
    listing: int

    def run(self, ledger: Ledger, say: Say) -> GoneDocument:
        return GoneDocument(gone=events.end_listing(ledger, self.prefix, self.listing))
