"""The JSON of what a recall costs."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from review_ui.schemas import Answer, Body
from segsvc.quality.cost import Cost, PaceBasis


class CountBody(Body):
    """What is to be counted: INPUT, as `segsvc run` takes it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"input": "s3://bucket/street/2026/"}]})

    input: Annotated[str, Field(min_length=1, max_length=4000, pattern=r"^[^\x00-\x1f\x7f]+$")]


class CountAnswer(Answer):
    """How many images INPUT names, at the least. whole: there are no more; else there was no time to list them all.

    skipped: of what was listed, so much is no image. says: all that in a sentence.
    """

    example: ClassVar[dict[str, Any]] = {
        "input": "s3://bucket/street/2026/", "images": 48200, "skipped": 12, "whole": True,
        "says": "48,200 images; 12 others are passed over"}
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    input: str
    images: int
    skipped: int
    whole: bool
    says: str


class PaceAnswer(Answer):
    """Seconds of a decision, and what they were measured on."""

    basis: PaceBasis
    decisions: int
    median_s: float
    mean_s: float
    says: str


class CostRowAnswer(Answer):
    """A recall that is shown: candidates for review, of the audit sample and accepted by rule; hours of one person.

    recall_measured: of the calibration's objects, so many are flagged. rejected: null where that was not counted. command:
    what puts it in force.
    """

    recall: float
    recall_measured: float
    review: float
    audit: float
    accepted: float
    rejected: float | None
    hours: float
    command: str


class BeyondAnswer(Answer):
    """A recall that is not shown: about so many units, or images, would show it, labelled; null: no number would."""

    recall: float
    more_units: int | None
    more_images: int | None


class CostAnswer(Answer):
    """What each recall costs, by rising recall, over so many images. Without a calibration there are no rows.

    counted: on candidates that are there; else expected, as the calibration counted. says: in a sentence what is in force,
    or why there is nothing. wording: what may be said of the calibration here. without_promise: classes of which all is for
    review.
    """

    example: ClassVar[dict[str, Any]] = {
        "model": "nuclei", "run_id": "nuclei-20261102", "images": 2300, "counted": True, "unit": "image", "confidence": 0.95,
        "precision": 0.95, "readers": 1, "in_force": 0.95, "wording": "guaranteed as calibrated",
        "says": "at recall 0.95 you will review 412 candidates of 2,300 images, 14 minutes", "without_promise": [],
        "pace": {"basis": "run", "decisions": 300, "median_s": 1.2, "mean_s": 2.0,
                 "says": "2.0 s a decision (median 1.2), by the latest 300 in this run"},
        "rows": [{"recall": 0.95, "recall_measured": 0.97, "review": 412, "audit": 8.1, "accepted": 1000, "rejected": 90,
                  "hours": 0.233, "command": "segsvc band OUT --recall 0.95"}],
        "beyond": [{"recall": 0.98, "more_units": 60, "more_images": 60}]}
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    model: str
    run_id: str | None
    images: int
    counted: bool
    unit: Literal["image", "group"] | None
    confidence: float | None
    precision: float | None
    readers: int
    in_force: float | None
    wording: str
    says: str
    without_promise: list[str]
    pace: PaceAnswer
    rows: list[CostRowAnswer]
    beyond: list[BeyondAnswer]


def rows_of(found: Cost, command: str) -> list[CostRowAnswer]:
    """The rows; `command` is what puts a recall in force, without the recall."""
    return [CostRowAnswer(recall=row.recall, recall_measured=row.recall_measured, review=row.load.review, audit=row.audit,
                          accepted=row.load.accepted, rejected=row.load.rejected, hours=row.hours,
                          command=f"{command} --recall {row.recall:g}") for row in found.rows]
