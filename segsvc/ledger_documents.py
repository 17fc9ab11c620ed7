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
