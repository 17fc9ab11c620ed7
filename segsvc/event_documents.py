"""The JSON documents of triggers: what was heard of objects in buckets, and what came of it."""

from __future__ import annotations

from segsvc.card import Document


class TakenDocument(Document):
    """What became of events. queued: versions of objects that are to be put into a run; known: those that were before, or
    wait; gone: deletions; stale: older than what is known; unmatched: no rule takes them; ignored: of no object, as a test
    message or a folder; kept_aside: messages that nobody could read, which the ledger keeps with the reason.
    """

    events: int
    queued: int
    known: int
    gone: int
    stale: int
    unmatched: int = 0
    ignored: int = 0
    kept_aside: int = 0

    def __add__(self, other: TakenDocument) -> TakenDocument:
        return TakenDocument(**{name: value + getattr(other, name) for name, value in self})


NOTHING_TAKEN = TakenDocument(events=0, queued=0, known=0, gone=0, stale=0)


class GoneDocument(Document):
    """How many objects are gone that a listing did not show."""

    gone: int


class ExplainedDocument(Document):
    """What the rules say of one event: the rule that takes it, or null and why none does. gone: it tells of a deletion."""

    uri: str
    gone: bool
    rule: str | None
    why: str


class TriggeredRunDocument(Document):
    """A run that events have started. run_id: null where it could not be queued yet, for the reason in `error`."""

    name: str
    rule: str
    images: int
    out: str
    run_id: str | None
    state: str | None
    failed_images: int
    error: str | None


class TriggerDocument(Document):
    """What `segsvc trigger --once --json` prints. explained: with --dry-run, which takes nothing, each event; else null."""

    queue: str
    messages: int
    taken: TakenDocument
    runs: list[TriggeredRunDocument]
    explained: list[ExplainedDocument] | None


class ReconcileDocument(Document):
    """What `segsvc reconcile --json` prints. listed: images that the rules take; unmatched: others in the listing; skipped:
    no images, by reason; queued: not put into a run before; known: they were, or wait; gone: known and not there any more.

    With --dry-run nothing is queued, and that is what would be.
    """

    prefix: str
    dry_run: bool
    listed: int
    unmatched: int
    skipped: dict[str, int]
    queued: int
    known: int
    gone: int
