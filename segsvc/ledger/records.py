"""What goes into the ledger and comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from segsvc.errors import ConfigError
from segsvc.ledger.errors import Refused
from segsvc.types import Band, Box, CandidateKind

LONGEST_NOTE = 4000
LONGEST_TEXT = 20_000
LONGEST_MASK = 4_000_000
LONGEST_REQUEST_ID = 100
MOST_SECONDS = 30 * 24 * 3600.0


class Role(StrEnum):
    """What a person may do."""

    REVIEWER = "reviewer"  # decides
    ADMIN = "admin"  # decides, and sees what is hidden from those who decide


class Verdict(StrEnum):
    """What is decided of a candidate."""

    ACCEPTED = "accepted"  # it is what its class says
    REJECTED = "rejected"  # it is not
    EDITED = "edited"  # it is, with another mask or text
    UNSURE = "unsure"  # read, and left to somebody else
    WITHDRAWN = "withdrawn"  # an earlier decision of the same person holds no more


class Order(StrEnum):
    """In which order candidates are given out."""

    UNCERTAIN = "uncertain"  # nearest to the middle of the review band first
    RANDOM = "random"  # by a hash of candidate and seed: a simple random sample at any time
    CLASS = "class"  # class after class, in each the uncertain ones first


class Decider(StrEnum):
    """Who decided."""

    PERSON = "person"
    RULE = "rule"  # an operating point, for all candidates of a run and band at once


@dataclass(frozen=True, slots=True)
class ReviewPolicy:
    """How a run is reviewed; kept with the run.

    readers: how many people read each candidate; where two differ, a third. blind: scores and the verdicts of others are
    hidden until one has decided. audit_share: of what rules decided, so much is reviewed too. gold_share: of what is given
    out, so much has a known answer, where there are such candidates. lease_s: after so long without a sign of life,
    candidates that were given out are given to others. seed: of the audit sample and of the order at random; who knows it
    can tell who is in the sample, so that `segsvc.ledger.runs.chosen_policy` draws one where none was chosen.
    """

    readers: int = 1
    blind: bool = False
    audit_share: float = 0.01
    gold_share: float = 0.02
    seed: int = 0
    lease_s: int = 300

    def __post_init__(self) -> None:
        if self.readers not in (1, 2):
            raise ConfigError(f"readers: expected 1 or 2, got {self.readers}")
        for name, share, most in (("audit_share", self.audit_share, 1.0), ("gold_share", self.gold_share, 0.5)):
            if not 0.0 <= share <= most:
                raise ConfigError(f"{name}: expected a share from 0 to {most:g}, got {share}")
        if not 10 <= self.lease_s <= 86_400:
            raise ConfigError(f"lease_s: expected 10 to 86400 seconds, got {self.lease_s}")
        if not -2**63 <= self.seed < 2**63:
            raise ConfigError(f"seed: expected a whole number of 64 bits, got {self.seed}")


@dataclass(frozen=True, slots=True)
class Reader:
    """A person who reads candidates. On loopback without users it is `LOCAL`."""

    user_id: int
    name: str
    role: Role


LOCAL = Reader(0, "local", Role.ADMIN)


@dataclass(frozen=True, slots=True)
class User:
    """A person who may log in. `disabled_at`: since when no more."""

    user_id: int
    name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None

    @property
    def reader(self) -> Reader:
        return Reader(self.user_id, self.name, self.role)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run in the ledger. review, audit: how many of its candidates are here, and why; accepted, rejected: by rule."""

    run_id: str
    out: str
    input: str
    model: str
    model_digest: str
    point_digest: str | None
    point_wording: str
    class_names: tuple[str, ...]
    policy: ReviewPolicy
    imported_at: datetime
    review: int
    audit: int
    accepted: int
    rejected: int


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image with candidates in the ledger."""

    image_id: str
    uri: str
    version: str
    width_px: int
    height_px: int
    frames: int


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision as it stands in the ledger. `undone`: a later one of the same person withdrew it.

    seconds: those that count as work: from shown to decided, capped where the reader was idle, none counted twice. box:
    where `mask_rle` lies if not in the candidate's own box.
    """

    decision_id: str
    candidate_id: str
    run_id: str
    verdict: Verdict
    reader: str
    decided_at: datetime
    shown_at: datetime | None
    seconds: float | None
    note: str
    text: str | None
    mask_rle: str | None
    box: Box | None
    undoes: str | None
    undone: bool = False


@dataclass(frozen=True, slots=True)
class NewDecision:
    """What a reader sends. Raises Refused where it is no decision.

    request_id: made by the sender, so that the same decision sent twice is stored once. mask_rle: COCO's compressed RLE
    within `box`, or within the candidate's box without one.
    """

    verdict: Verdict
    shown_at: datetime | None = None
    seconds: float | None = None
    note: str = ""
    text: str | None = None
    mask_rle: str | None = None
    box: Box | None = None
    undoes: str | None = None
    request_id: str | None = None

    def __post_init__(self) -> None:
        for name, value, most in (("note", self.note, LONGEST_NOTE), ("text", self.text, LONGEST_TEXT),
                                  ("mask_rle", self.mask_rle, LONGEST_MASK), ("undoes", self.undoes, LONGEST_REQUEST_ID),
                                  ("request_id", self.request_id, LONGEST_REQUEST_ID)):
            if value is not None:
                check_text(name, value, most)
        check_work(self.shown_at, self.seconds)
        if (self.undoes is not None) != (self.verdict is Verdict.WITHDRAWN):
            raise Refused("undoes: expected the decision that is withdrawn, with the verdict 'withdrawn' and no other, got "
                          f"{self.undoes!r} with {self.verdict.value!r}")
        changed = self.mask_rle is not None or self.text is not None
        if changed != (self.verdict is Verdict.EDITED):
            raise Refused("mask_rle, text: expected one of them with the verdict 'edited' and none with any other, got "
                          f"{'one' if changed else 'none'} with {self.verdict.value!r}")
        if self.box is not None and self.mask_rle is None:
            raise Refused("box: expected only beside a mask_rle, got one without")


def check_work(shown_at: datetime | None, seconds: float | None) -> None:
    """Raises Refused for a time without a zone, or of a year that UTC might not have, and for seconds that are none."""
    if shown_at is not None and shown_at.tzinfo is None:
        raise Refused(f"shown_at: expected a time with its zone, got {shown_at.isoformat()}")
    if shown_at is not None and not 1 < shown_at.year < 9999:
        raise Refused(f"shown_at: expected a time of the years 2 to 9998, got {shown_at.isoformat()}")
    if seconds is not None and not 0.0 <= seconds <= MOST_SECONDS:
        raise Refused(f"seconds: expected 0 to {MOST_SECONDS:.0f}, got {seconds}")


def check_text(name: str, value: str, most: int) -> None:
    """Raises Refused for a text that is longer than `most` characters, or that a database cannot hold."""
    if len(value) > most:
        raise Refused(f"{name}: expected at most {most} characters, got {len(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{name}: expected text that is valid Unicode, got a lone surrogate") from error
    if "\0" in value:
        raise Refused(f"{name}: expected text without the character 0, got one")


@dataclass(frozen=True, slots=True)
class Item:
    """A candidate as one reader may see it now.

    score, probability, band: None while they are hidden from this reader. tag: of what this reader may see; it is sent
    back with a decision. decisions: those this reader may see, oldest first. decided: this reader has a decision of it
    that holds. audit, gold: None until then.
    """

    candidate_id: str
    run_id: str
    image_id: str
    image_uri: str
    image_version: str
    width_px: int
    height_px: int
    frames: int
    frame: int
    class_name: str
    kind: CandidateKind
    x0: int
    y0: int
    x1: int
    y1: int
    area_px: int
    mask_rle: str | None
    text: str | None
    touches_edge: bool
    score: float | None
    probability: float | None
    band: Band | None
    tag: str
    decisions: tuple[Decision, ...]
    decided: bool
    audit: bool | None = None
    gold: Verdict | None = None

    @property
    def box(self) -> Box:
        return Box(self.x0, self.y0, self.x1, self.y1)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; the next begins at `next_cursor`, None where it was the last."""

    items: tuple[Item, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class EffectiveVerdict:
    """What holds of a candidate: the outcome of all that people decided of it, and who decided last for it."""

    candidate_id: str
    verdict: Verdict
    decider: str
    decided_at: datetime
    mask_rle: str | None
    box: Box | None
    text: str | None


@dataclass(frozen=True, slots=True)
class DecidedBy:
    """How often somebody, or a rule, said what. hours: of work, None for rules. Withdrawals stand beside what they undid."""

    name: str
    is_rule: bool
    accepted: int
    rejected: int
    edited: int = 0
    unsure: int = 0
    withdrawn: int = 0
    hours: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the review of a run is.

    total = done + left; unsure and waiting_second are among those left. pace_per_hour: decisions in an hour of one person's
    work, by the latest; hours_left: of one person's work. median_seconds, gold_right and gold_read are this reader's,
    agreement: of the candidates that two have read, the share in which they agree. None where nothing is known yet.
    """

    total: int
    done: int
    left: int
    unsure: int
    waiting_second: int
    pace_per_hour: float | None
    median_seconds: float | None
    hours_left: float | None
    agreement: float | None
    gold_right: int
    gold_read: int


class FaultKind(StrEnum):
    """What is wrong with the record of decisions."""

    CHANGED = "changed"  # a row says something else than when it was written
    MISSING = "missing"  # a row or batch is gone
    INSERTED = "inserted"  # a row or batch that was not written by the ledger
    SWAPPED = "swapped"  # rows or batches stand in another order
    CUT = "cut"  # the end is gone
    ANCHOR = "anchor"  # the anchors themselves are damaged or do not fit


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with the record of decisions: what, where (`decision 17`, `batch 3`), and in words."""

    kind: FaultKind
    where: str
    says: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What looking at the whole chain found: how much was looked at, its head, and the faults, none where it is whole."""

    decisions: int
    batches: int
    anchors: int
    head: str
    faults: tuple[Fault, ...]
