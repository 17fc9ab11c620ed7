"""What a recall costs: of a run by its own candidates, of a model by its calibration."""

from __future__ import annotations

import shlex
from typing import Annotated

from fastapi import APIRouter, Path, Query

from review_ui.answers import problems
from review_ui.cost_schemas import BeyondAnswer, CostAnswer, CountAnswer, CountBody, PaceAnswer, rows_of
from review_ui.input_counts import InputCounts
from review_ui.problems import Problem, ProblemType
from review_ui.run_costs import RunCosts
from review_ui.service import Admin, Parts, Who
from segsvc.errors import ConfigError, RunError
from segsvc.ledger import runs
from segsvc.ledger.pace import pace
from segsvc.models.library import find_model, model_names
from segsvc.quality.cost import Cost, Pace, Reading, cost, expected, says
from segsvc.settings import settings
from segsvc.stores.file import to_path

router = APIRouter(prefix="/v1", tags=["cost"], responses=problems(ProblemType.SIGN_IN))
MOST_IMAGES = 10**9
_NONE = "there is no calibration: `segsvc calibrate MODEL --data LABELLED` makes one, of labelled images that are like these"
_costs, _counts = RunCosts(), InputCounts()


@router.get("/review/runs/{run_id}/cost", responses=problems(ProblemType.UNKNOWN, ProblemType.STORE))
def run_cost(service: Parts, _: Who, run_id: Annotated[str, Path(max_length=200)]) -> CostAnswer:
    """What each recall of its calibration would cost in a run: its stored candidates are counted, at the first time."""
    run = runs.find(service.ledger, run_id)
    measured = pace(service.ledger, run_id=run_id, model_digest=run.model_digest)
    try:
        found = _costs.of(run.out)
    except RunError as error:
        raise Problem(ProblemType.STORE, str(error)) from error
    if found is None:
        return _nothing(run.model, run_id, measured, run.policy.readers)
    costs = found.cost(measured, Reading(run.policy.readers, run.policy.audit_share))
    without = [name for name in run.class_names if found.calibration.thresholds(name) is None]
    return _answer(costs, model=run.model, run_id=run_id, readers=run.policy.readers,
                   in_force=found.in_force, wording=found.wording, without=without,
                   command=f"segsvc band {shlex.quote(_place(run.out))}")


@router.get("/models/{name}/cost", responses=problems(ProblemType.UNKNOWN, ProblemType.INVALID))
def model_cost(service: Parts, _: Who, name: Annotated[str, Path(max_length=200)],
               images: Annotated[int, Query(ge=1, le=MOST_IMAGES)] = 1000) -> CostAnswer:
    """What each recall is expected to cost on so many images that are like those of the model's calibration."""
    if name not in model_names():
        raise Problem(ProblemType.UNKNOWN, f"model: expected one of {', '.join(model_names())}, got {name!r}")
    model, review = find_model(name), settings().review
    measured, point = pace(service.ledger, model_digest=model.digest), model.operating_point
    if point is None or point.promise is None:
        return _nothing(name, None, measured, review.readers)
    costs = cost(point, expected(images), images=images, pace=measured, reading=Reading(review.readers, review.audit_share))
    without = [each for each in model.card.class_names if point.thresholds(each) is None]
    return _answer(costs, model=name, run_id=None, readers=review.readers, in_force=point.promise.recall, wording="",
                   without=without, command=f"segsvc run INPUT --model {shlex.quote(name)} --out OUT")


@router.post("/inputs/count", responses=problems(ProblemType.NOT_PERMITTED, ProblemType.INVALID, ProblemType.BUSY))
def count_input(service: Parts, _: Admin, body: CountBody) -> CountAnswer:
    """How many images a file, folder, glob, manifest or bucket's prefix names: listed for a few seconds, none opened.

    Where users were made, as far as the settings `serve.roots` and `serve.buckets` reach.
    """
    try:
        found = _counts.of(body.input, service.reach())
    except ConfigError as error:
        raise Problem(ProblemType.INVALID, str(error)) from error
    images = f"{found.images:,} image{'' if found.images == 1 else 's'}"
    others = f"; {found.skipped:,} other{' is' if found.skipped == 1 else 's are'} passed over" if found.skipped else ""
    says = f"{images}{others}" if found.whole else f"at least {images}{others}: there was no time to list all"
    return CountAnswer(input=found.input, images=found.images, skipped=found.skipped, whole=found.whole, says=says)


def _place(out: str) -> str:
    """OUT as a user writes it."""
    return to_path(out).decode("utf-8", "replace") if out.startswith("file://") else out


def _answer(found: Cost, *, model: str, run_id: str | None, readers: int, in_force: float | None,
            wording: str, without: list[str], command: str) -> CostAnswer:
    shown = in_force if in_force is not None and found.at(in_force) is not None else found.rows[-1].recall
    return CostAnswer(
        model=model, run_id=run_id, images=found.images, counted=run_id is not None, unit=found.promise.unit,
        confidence=found.promise.confidence, precision=found.promise.precision, readers=readers, in_force=in_force,
        wording=wording, says=says(found, shown), without_promise=without, pace=PaceAnswer.model_validate(found.pace),
        rows=rows_of(found, command), beyond=[BeyondAnswer.model_validate(each) for each in found.beyond])


def _nothing(model: str, run_id: str | None, measured: Pace, readers: int) -> CostAnswer:
    return CostAnswer(
        model=model, run_id=run_id, images=0, counted=False, unit=None, confidence=None, precision=None, readers=readers,
        in_force=None, wording="", says=_NONE, without_promise=[], pace=PaceAnswer.model_validate(measured), rows=[],
        beyond=[])
