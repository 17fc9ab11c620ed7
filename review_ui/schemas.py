"""The JSON of the routes: what comes in is checked here, what goes out mirrors the ledger's records by name."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field

from segsvc.imaging import masks
from segsvc.ledger import records
from segsvc.ledger.records import Order, Role, Verdict
from segsvc.types import Band, Box, CandidateKind

MOST_VERTICES = 2000  # of an outline as it is sent
MOST_LEASED = 50
MOST_LISTED = 500
MOST_OUTLINED_PX = 64_000_000  # of a mask's box: a larger one is shown by its box
Id = Annotated[str, Field(max_length=64)]
ClassName = Annotated[str, Field(max_length=1000)]

_CANDIDATE = "8d3f1c52a0b94e17c6d2f08a5b7e4913"
_TIME = "2026-11-02T09:30:12.250000Z"


class Answer(BaseModel):
    """What goes out."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class Body(BaseModel):
    """What comes in; a field that is not known is refused, as it would be lost."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MeAnswer(Answer):
    """Who is asking; `loopback`: this machine alone, and nobody needs to sign in."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "ada", "role": "reviewer", "loopback": False}]})

    name: str
    role: Role
    loopback: bool


class BoxDocument(Answer):
    """A rectangle in px of the full image, half-open."""

    x0: Annotated[int, Field(ge=0, lt=2**31)]
    y0: Annotated[int, Field(ge=0, lt=2**31)]
    x1: Annotated[int, Field(ge=0, lt=2**31)]
    y1: Annotated[int, Field(ge=0, lt=2**31)]


class DecisionAnswer(Answer):
    """A decision as it stands in the ledger."""

    example: ClassVar[dict[str, Any]] = {
        "decision_id": "f1b6", "candidate_id": _CANDIDATE, "run_id": "nuclei-20261102", "verdict": "accepted",
        "reader": "ada", "decided_at": _TIME, "shown_at": "2026-11-02T09:30:11Z", "seconds": 1.25, "note": "", "text": None,
        "mask_rle": None, "box": None, "undoes": None, "undone": False}
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

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
    box: BoxDocument | None
    undoes: str | None
    undone: bool


class ItemAnswer(Answer):
    """A candidate as this reader may see it.

    width_px, height_px and frames are the image's. outline: rings in px of the image, holes too (to be filled even-odd);
    none without a mask, or with one that is none. image_name: the last step of its URI, for people.
    """

    example: ClassVar[dict[str, Any]] = {
        "candidate_id": _CANDIDATE, "run_id": "nuclei-20261102", "image_id": "0f3a5a7c2d1e48b6a9c0d4e5f6071829",
        "image_uri": "file:///data/cells/a%20b.tif", "image_version": "1048576-1762000000000000000", "image_name": "a b.tif",
        "width_px": 1024, "height_px": 1024, "frames": 1, "frame": 0, "class_name": "nucleus", "kind": "region", "x0": 10,
        "y0": 20, "x1": 13, "y1": 22, "area_px": 6, "mask_rle": "06", "text": None, "touches_edge": False, "score": 0.71,
        "probability": None, "band": "review", "tag": "c0ffee", "decisions": [], "decided": False, "audit": None,
        "gold": None, "outline": [[[10, 20], [13, 20], [13, 22], [10, 22]]]}
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    candidate_id: str
    run_id: str
    image_id: str
    image_uri: str
    image_version: str
    image_name: str
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
    decisions: list[DecisionAnswer]
    decided: bool
    audit: bool | None
    gold: Verdict | None
    outline: list[list[tuple[int, int]]]

    @classmethod
    def of(cls, item: records.Item) -> ItemAnswer:
        fields = {name: getattr(item, name) for name in records.Item.__dataclass_fields__}
        fields["decisions"] = [DecisionAnswer.model_validate(each) for each in item.decisions]
        return cls(**fields, image_name=name_of(item.image_uri),
                   outline=outline_of(item.mask_rle, item.box))


def name_of(uri: str) -> str:
    """The last step of an image's URI, for people."""
    return unquote(uri.rstrip("/").rsplit("/", 1)[-1])


def outline_of(mask_rle: str | None, box: Box) -> list[list[tuple[int, int]]]:
    """The rings of a mask within its box, to be filled even-odd; none without a mask, or with one that is none."""
    if mask_rle is None or box.area_px > MOST_OUTLINED_PX:
        return []
    try:
        polygons = masks.polygons(mask_rle.encode("utf-8"), box, max_vertices=MOST_VERTICES)
    except ValueError:  # parts that others wrote may hold anything: one such candidate does not stop the review
        return []
    return [[(x, y) for x, y in ring.tolist()] for polygon in polygons for ring in (polygon.outer, *polygon.holes)]


class ProgressAnswer(Answer):
    """How far the review of a run is; median_seconds, gold_right and gold_read are of whoever asks."""

    example: ClassVar[dict[str, Any]] = {
        "total": 1200, "done": 300, "left": 900, "unsure": 4, "waiting_second": 0, "pace_per_hour": 2400.0,
        "median_seconds": 1.2, "hours_left": 0.375, "agreement": None, "gold_right": 5, "gold_read": 5}
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

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


class PolicyAnswer(Answer):
    """How a run is reviewed. seed: null for reviewers, who could tell by it what is of the audit sample."""

    readers: int
    blind: bool
    audit_share: float
    gold_share: float
    seed: int | None
    lease_s: int


class RunAnswer(Answer):
    """A run in the ledger: how many of its candidates are here (review, audit), and how many rules decided."""

    run_id: str
    out: str
    input: str
    model: str
    model_digest: str
    point_digest: str | None
    point_wording: str
    class_names: list[str]
    policy: PolicyAnswer
    imported_at: datetime
    review: int
    audit: int
    accepted: int
    rejected: int

    @classmethod
    def of(cls, run: records.RunRecord, reader: records.Reader) -> RunAnswer:
        found = cls.model_validate(run)
        if reader.role is Role.ADMIN:
            return found
        return found.model_copy(update={"policy": found.policy.model_copy(update={"seed": None})})


class ReviewedRunAnswer(Answer):
    """A run and how far its review is."""

    run: RunAnswer
    progress: ProgressAnswer


class ReviewedRunsAnswer(Answer):
    """All runs in the ledger, the latest first."""

    items: list[ReviewedRunAnswer]
    next_cursor: str | None


class ItemsAnswer(Answer):
    """A page of candidates; the next begins at `next_cursor`, null where it was the last."""

    items: list[ItemAnswer]
    next_cursor: str | None


class DecisionsAnswer(Answer):
    """A page of decisions."""

    items: list[DecisionAnswer]
    next_cursor: str | None


class LeaseAnswer(Answer):
    """Candidates that are this reader's alone for a while, the first to be shown first, and how far the run is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [ItemAnswer.example],
                                                               "progress": ProgressAnswer.example}]})

    items: list[ItemAnswer]
    progress: ProgressAnswer


class LeaseBody(Body):
    """Asks for `n` candidates. holding: those that are still on the page; they stay this reader's."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"order": "uncertain", "class_name": None, "n": 4,
                                                               "holding": []}]})

    order: Order = Order.UNCERTAIN
    class_name: ClassName | None = None
    n: Annotated[int, Field(ge=0, le=MOST_LEASED)] = 5
    holding: Annotated[list[Id], Field(max_length=10 * MOST_LEASED)] = []


class ReleaseBody(Body):
    """Gives candidates back, so that others get them at once."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"candidate_ids": [_CANDIDATE]}]})

    candidate_ids: Annotated[list[Id], Field(max_length=10 * MOST_LEASED)]


class DecisionBody(Body):
    """A verdict. request_id: made by the sender; the same one sent again stores nothing more and gets the same answer.

    seconds: from shown to decided. mask_rle: COCO's compressed RLE within `box`, or within the candidate's box without one.
    undoes: with `withdrawn`, the decision that holds no more.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"verdict": "accepted", "shown_at": "2026-11-02T09:30:11Z", "seconds": 1.25,
         "request_id": "0b9c2f5e-8f0a-4c7e-9d0e-1f2a3b4c5d6e"},
        {"verdict": "edited", "mask_rle": "06", "box": {"x0": 10, "y0": 20, "x1": 13, "y1": 22}, "note": "cut in two"},
        {"verdict": "withdrawn", "undoes": "f1b6"}]})

    verdict: Verdict
    shown_at: datetime | None = None
    seconds: float | None = None
    note: str | None = None
    text: str | None = None
    mask_rle: str | None = None
    box: BoxDocument | None = None
    undoes: str | None = None
    request_id: str | None = None

    def decision(self) -> records.NewDecision:
        """As the ledger takes it. Raises Refused, and ValueError for a box whose corners are not in order."""
        box = Box(self.box.x0, self.box.y0, self.box.x1, self.box.y1) if self.box is not None else None
        return records.NewDecision(self.verdict, shown_at=self.shown_at, seconds=self.seconds, note=self.note or "",
                                   text=self.text, mask_rle=self.mask_rle, box=box, undoes=self.undoes,
                                   request_id=self.request_id)


class ModelAnswer(Answer):
    """A model. basis: what its thresholds rest on, null without any. error: why it cannot be used; then it has no more."""

    name: str
    task: str | None = None
    classes: list[str] = []
    digest: str | None = None
    licence: str | None = None
    basis: str | None = None
    error: str | None = None


class ModelsAnswer(Answer):
    """All models that are here."""

    items: list[ModelAnswer]
    next_cursor: str | None


class ProblemAnswer(Answer):
    """What went wrong (RFC 9457). `type` stays; `detail` says what was expected and what came."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{
        "type": "urn:segsvc:problem:no-if-match", "title": "The tag of what was seen is to be sent along", "status": 428,
        "detail": "expected `If-Match` with the candidate's tag, got none"}]})

    type: str
    title: str
    status: int
    detail: str
