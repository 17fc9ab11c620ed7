"""`/v1/review`: the queue of a run, for the page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from review_ui.answers import problems
from review_ui.problems import ProblemType
from review_ui.schemas import (
    MOST_LISTED,
    DecisionAnswer,
    DecisionsAnswer,
    ItemAnswer,
    LeaseAnswer,
    LeaseBody,
    MeAnswer,
    ProgressAnswer,
    ReleaseBody,
    ReviewedRunAnswer,
    ReviewedRunsAnswer,
    RunAnswer,
)
from review_ui.service import Parts, Service, Who
from segsvc.ledger import decisions, queue, runs
from segsvc.ledger.progress import progress
from segsvc.ledger.records import Reader

router = APIRouter(prefix="/v1", tags=["review"], responses=problems(ProblemType.SIGN_IN))
RunId = Annotated[str, Path(max_length=200)]


@router.get("/me")
def me(service: Parts, reader: Who) -> MeAnswer:
    """Who is asking."""
    return MeAnswer(name=reader.name, role=reader.role, loopback=service.needs_no_users())


@router.get("/review/runs")
def list_runs(service: Parts, reader: Who) -> ReviewedRunsAnswer:
    """All runs in the ledger and how far their review is."""
    return ReviewedRunsAnswer(next_cursor=None, items=[
        ReviewedRunAnswer(run=RunAnswer.of(run, reader), progress=_progress(service, reader, run.run_id))
        for run in runs.all_runs(service.ledger)])


@router.post("/review/runs/{run_id}/lease", responses=problems(ProblemType.UNKNOWN, ProblemType.INVALID))
def lease(service: Parts, reader: Who, run_id: RunId, body: LeaseBody) -> LeaseAnswer:
    """The next candidates for this reader; nobody else gets them until the lease ends."""
    items = queue.lease(service.ledger, reader, run_id, order=body.order, class_name=body.class_name, n=body.n,
                        holding=body.holding)
    return LeaseAnswer(items=[ItemAnswer.of(item) for item in items], progress=_progress(service, reader, run_id))


@router.post("/review/runs/{run_id}/release", status_code=204,
             responses=problems(ProblemType.UNKNOWN, ProblemType.INVALID))
def release(service: Parts, reader: Who, run_id: RunId, body: ReleaseBody) -> None:
    """Gives candidates back."""
    runs.find(service.ledger, run_id)
    queue.release(service.ledger, reader, body.candidate_ids)


@router.get("/review/runs/{run_id}/progress", responses=problems(ProblemType.UNKNOWN))
def show_progress(service: Parts, reader: Who, run_id: RunId) -> ProgressAnswer:
    """How far the review of the run is."""
    return _progress(service, reader, run_id)


@router.get("/review/runs/{run_id}/mine", responses=problems(ProblemType.UNKNOWN, ProblemType.INVALID))
def mine(service: Parts, reader: Who, run_id: RunId,
         limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50) -> DecisionsAnswer:
    """This reader's own decisions, the latest first: what can be undone."""
    runs.find(service.ledger, run_id)
    return DecisionsAnswer(next_cursor=None, items=[
        DecisionAnswer.model_validate(each) for each in decisions.mine(service.ledger, reader, run_id, limit=limit)])


def _progress(service: Service, reader: Reader, run_id: str) -> ProgressAnswer:
    return ProgressAnswer.model_validate(progress(service.ledger, run_id, reader))
