"""The pages with a slider over recall: of a run, and of a model on images that are still to be run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from review_ui.cost_routes import MOST_IMAGES
from review_ui.pages import render
from review_ui.problems import Problem, ProblemType
from review_ui.service import Parts, Who
from segsvc.errors import ConfigError
from segsvc.ledger import runs
from segsvc.ledger.records import Role
from segsvc.models.library import find_model, model_names

router = APIRouter(include_in_schema=False)


@router.get("/review/{run_id}/cost")
def show_run_cost(service: Parts, reader: Who, run_id: Annotated[str, Path(max_length=200)]) -> Response:
    """What each recall would cost in a run."""
    run = runs.find(service.ledger, run_id)
    return render("cost.html", reader=reader, loopback=service.needs_no_users(), run=run, model=None, images=None,
                  models=[run.model] if run.model in model_names() else [], counts=False)


@router.get("/cost")
def show_model_cost(service: Parts, reader: Who, model: Annotated[str | None, Query(max_length=200)] = None,
                    images: Annotated[int, Query(ge=1, le=MOST_IMAGES)] = 1000) -> Response:
    """What each recall is expected to cost with a model on so many images; without `model`, the first that is calibrated."""
    calibrated = [name for name in model_names() if _is_calibrated(name)]
    if model is not None and model not in model_names():
        raise Problem(ProblemType.UNKNOWN, f"model: expected one of {', '.join(model_names())}, got {model!r}")
    chosen = model if model is not None else next(iter(calibrated), None)
    shown = sorted({*calibrated, chosen}) if chosen is not None else calibrated
    return render("cost.html", reader=reader, loopback=service.needs_no_users(), run=None, model=chosen, models=shown,
                  images=images, counts=reader.role is Role.ADMIN)


def _is_calibrated(name: str) -> bool:
    try:
        point = find_model(name).operating_point
    except ConfigError:  # the list of models says what is wrong with it
        return False
    return point is not None and point.promise is not None
