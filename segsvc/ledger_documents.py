"""The JSON documents that the commands of the ledger print."""

from __future__ import annotations

from datetime import datetime

from segsvc.card import Document


class PolicyDocument(Document):
    """How a run is reviewed (`segsvc.ledger.records.ReviewPolicy`)."""

    readers: int
    blind: bool
    audit_share: float
    gold_share: float
    seed: int
    lease_s: int


class ReviewImportDocument(Document):
    """What `segsvc review import --json` prints.

    review, audit: candidates in the ledger, because they lie in the review band and because they were drawn. accepted,
    rejected: how many rules decided.
    """

    run_id: str
    out: str
    ledger: str
    review: int
    audit: int
    accepted: int
    rejected: int
    policy: PolicyDocument


class GoldDocument(Document):
    """What `segsvc review gold --json` prints: how many known answers were noted."""

    run_id: str
    ledger: str
    answers: int


class FaultDocument(Document):
    """One thing that is wrong with the record of decisions. kind: changed, missing, inserted, swapped, cut or anchor."""

    kind: str
    where: str
    says: str


class AuditDocument(Document):
    """What `segsvc audit verify --json` prints. head: the hash that stands for all decisions and their order."""

    ok: bool
    ledger: str
    anchors_in: str
    decisions: int
    batches: int
    anchors: int
    head: str
    faults: list[FaultDocument]


class SampleDocument(Document):
    """What `segsvc sample --json` prints.

    frame: the file that lists what was drawn from, which holds frame_images images in frame_units units; frame_sha256 is of
    its images and units in their order. drawn: images in the set by now, of drawn_units units; new_images were drawn by this
    command, and unreadable are those that cannot be opened. skipped: what was passed over in the listing, by reason.
    """

    name: str
    dataset: str
    ledger: str
    task: str
    classes: list[str]
    input: str
    grouped_by: str | None
    seed: int
    frame: str
    frame_sha256: str
    frame_images: int
    frame_units: int
    framed_at: datetime
    drawn_units: int
    drawn: int
    new_images: int
    labelled: int
    left: int
    unreadable: int
    skipped: dict[str, int]


class UserDocument(Document):
    """A user, as `segsvc users add` and `disable` print it with --json."""

    name: str
    role: str
    created_at: datetime
    disabled_at: datetime | None


class UsersDocument(Document):
    """What `segsvc users list --json` prints."""

    items: list[UserDocument]


class TokenDocument(Document):
    """What `segsvc users token --json` prints; the token is shown this once."""

    name: str
    token: str


class LedgerFileDocument(Document):
    """What `segsvc ledger backup` and `restore` print with --json."""

    ledger: str
    file: str
    size_bytes: int
