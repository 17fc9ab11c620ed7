"""`/v1/candidates`: what the ledger holds, and what is decided of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response

from review_ui.answers import problems
from review_ui.problems import Problem, ProblemType
from review_ui.schemas import MOST_LISTED, ClassName, DecisionAnswer, DecisionBody, ItemAnswer, ItemsAnswer
from review_ui.service import Parts, Service, Who
from segsvc.imaging import masks
from segsvc.ledger import candidates, decisions
from segsvc.ledger.records import NewDecision, Reader
from segsvc.types import Band, Box

router = APIRouter(prefix="/v1", tags=["candidates"], responses=problems(ProblemType.SIGN_IN))
CandidateId = Annotated[str, Path(max_length=64)]
InRun = Annotated[str | None, Query(max_length=200, description="of which run, where several have found the same")]
MOST_MASK_PX = 1 << 28  # of the box of a corrected mask


@router.get("/candidates", responses=problems(ProblemType.UNKNOWN, ProblemType.INVALID))
def list_candidates(
    service: Parts, reader: Who, run: Annotated[str, Query(max_length=200)], band: Band | None = None,
    class_name: ClassName | None = None, cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50,
) -> ItemsAnswer:
    """Candidates of a run that the ledger holds: the review band and the audit sample."""
    page = candidates.page(service.ledger, reader, run, band=band, class_name=class_name, cursor=cursor, limit=limit)
    return ItemsAnswer(items=[ItemAnswer.of(item) for item in page.items], next_cursor=page.next_cursor)


@router.get("/candidates/{candidate_id}", responses={**problems(ProblemType.UNKNOWN), 304: {"description": "Not changed"}},
            response_model=ItemAnswer)
def show_candidate(service: Parts, reader: Who, request: Request, response: Response, candidate_id: CandidateId,
                   run: InRun = None) -> ItemAnswer | Response:
    """One candidate; its `ETag` is sent back as `If-Match` with a decision."""
    item = candidates.find(service.ledger, reader, candidate_id, run_id=run)
    tag = f'"{item.tag}"'
    if tag in _tags(request.headers.get("if-none-match")):
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "private, no-cache"})
    response.headers["ETag"] = tag
    response.headers["Cache-Control"] = "private, no-cache"
    return ItemAnswer.of(item)


@router.post("/candidates/{candidate_id}/decisions", status_code=201, responses=problems(
    ProblemType.UNKNOWN, ProblemType.STALE, ProblemType.INVALID, ProblemType.NO_IF_MATCH, ProblemType.FULL))
def decide(service: Parts, reader: Who, response: Response, candidate_id: CandidateId, body: DecisionBody, run: InRun = None,
           if_match: Annotated[str | None, Header()] = None) -> DecisionAnswer:
    """Adds a decision. It is answered once it is on the disk; `ETag` is the candidate's new tag."""
    if if_match is None or not if_match.strip():
        raise Problem(ProblemType.NO_IF_MATCH, "expected `If-Match` with the candidate's tag, which GET answers as its "
                                               "`ETag`, got none")
    new = _new_decision(service, reader, candidate_id, body, run)
    decision = decisions.decide(service.ledger, reader, candidate_id, new, if_match=_one_tag(if_match), run_id=run)
    response.headers["ETag"] = f'"{candidates.find(service.ledger, reader, candidate_id, run_id=decision.run_id).tag}"'
    return DecisionAnswer.model_validate(decision)


def _new_decision(service: Service, reader: Reader, candidate_id: str, body: DecisionBody, run_id: str | None
                  ) -> NewDecision:
    try:
        new = body.decision()
    except ValueError as error:
        raise Problem(ProblemType.INVALID, f"box: {error}") from error
    if new.mask_rle is not None:
        item = candidates.find(service.ledger, reader, candidate_id, run_id=run_id)
        check_mask(new.box or item.box, new.mask_rle, width_px=item.width_px, height_px=item.height_px)
    return new


def check_mask(box: Box, mask_rle: str, *, width_px: int, height_px: int) -> None:
    """Raises Problem(INVALID) where a mask that a person drew is none within its box and the image, or has no px."""
    if box.x1 > width_px or box.y1 > height_px or not 0 < box.area_px <= MOST_MASK_PX:
        raise Problem(ProblemType.INVALID, f"box: expected 1 to {MOST_MASK_PX} px within the image, {width_px} x "
                                           f"{height_px} px, got {box.x0}, {box.y0} to {box.x1}, {box.y1}")
    try:
        area_px = masks.area_px(mask_rle.encode("utf-8"), height_px=box.height_px, width_px=box.width_px)
    except ValueError as error:
        raise Problem(ProblemType.INVALID, f"mask_rle: {error}") from error
    if area_px == 0:
        raise Problem(ProblemType.INVALID, "mask_rle: expected a mask with at least one px, got an empty one; "
                                           "reject the candidate instead")


def _tags(header: str | None) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]


def _one_tag(header: str) -> str:
    """What is between the quotes of the header's only tag; `*` is whatever there is."""
    tags = _tags(header)
    if len(tags) != 1:
        raise Problem(ProblemType.NO_IF_MATCH,
                      f"expected `If-Match` with one tag, that of what was seen, got {header[:100]!r}")
    return tags[0].removeprefix('"').removesuffix('"')
