"""What the audit of a run says of the objects that rules rejected."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Path
from pydantic import ConfigDict

from review_ui.answers import problems
from review_ui.labelled_misses import labelled_misses
from review_ui.problems import ProblemType
from review_ui.schemas import Answer
from review_ui.service import Parts, Who
from segsvc.ledger.missed import missed
from segsvc.quality.missed import MissedBound

router = APIRouter(prefix="/v1", tags=["review"], responses=problems(ProblemType.SIGN_IN))


class BoundAnswer(Answer):
    """At most `at_most` of the rejected candidates of a class are objects; class_name null: of all classes together.

    drawn: in the sample; of those objects, nothing and unsure were read so, and left are still to be read. What is left or
    unsure counts as an object.
    """

    class_name: str | None
    rejected: int
    drawn: int
    objects: int
    nothing: int
    unsure: int
    left: int
    at_most: int

    @classmethod
    def of(cls, bound: MissedBound) -> BoundAnswer:
        audited = bound.audited
        return cls(class_name=audited.class_name or None, rejected=audited.rejected, drawn=audited.drawn,
                   objects=audited.objects, nothing=audited.nothing, unsure=audited.unsure, left=audited.left,
                   at_most=bound.at_most)


class ImagesBoundAnswer(Answer):
    """On at most `at_most` of a run's images an object of the class is not flagged, by a label set that was drawn from it.

    unit: what is counted, images or the groups that were drawn whole; of the run there are `units`. missed: of the labelled
    ones. What is left counts as missed.
    """

    set: str
    unit: str
    class_name: str
    units: int
    drawn: int
    missed: int
    left: int
    at_most: int


class MissedAnswer(Answer):
    """The bounds of a run, by class, which hold together with `confidence`; none where rules rejected nothing. images: those
    of whole images that people labelled, which hold together within each label set."""

    example: ClassVar[dict[str, Any]] = {"confidence": 0.95, "items": [{
        "class_name": "nucleus", "rejected": 48000, "drawn": 470, "objects": 3, "nothing": 467, "unsure": 0, "left": 0,
        "at_most": 785}], "images": [{
            "set": "plates", "unit": "image", "class_name": "nucleus", "units": 2300, "drawn": 100, "missed": 4, "left": 0,
            "at_most": 204}]}
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    confidence: float
    items: list[BoundAnswer]
    images: list[ImagesBoundAnswer]


@router.get("/review/runs/{run_id}/missed", responses=problems(ProblemType.UNKNOWN))
def show_missed(service: Parts, _: Who, run_id: Annotated[str, Path(max_length=200)]) -> MissedAnswer:
    """How many of the candidates that rules rejected are objects, at the most, by the audit as far as it was read."""
    found = missed(service.ledger, run_id)
    return MissedAnswer(
        confidence=found.confidence, items=[BoundAnswer.of(each) for each in found.rows],
        images=[ImagesBoundAnswer(
            set=of_set.set_name, unit=of_set.unit, class_name=each.audited.class_name, units=each.audited.rejected,
            drawn=each.audited.drawn, missed=each.audited.objects, left=each.audited.left, at_most=each.at_most)
            for of_set in labelled_misses.of(service.ledger, run_id) for each in of_set.missed.rows])
