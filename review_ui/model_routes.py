"""`/v1/models`: what can be used here."""

from __future__ import annotations

from fastapi import APIRouter

from review_ui.answers import problems
from review_ui.problems import ProblemType
from review_ui.schemas import ModelAnswer, ModelsAnswer
from review_ui.service import Who
from segsvc.errors import ConfigError
from segsvc.models.library import find_model, model_names

router = APIRouter(prefix="/v1", tags=["models"], responses=problems(ProblemType.SIGN_IN))


@router.get("/models")
def list_models(_: Who) -> ModelsAnswer:
    """Models by name, the user's own and those that came along; damaged ones with what is wrong with them."""
    return ModelsAnswer(items=[_model(name) for name in model_names()], next_cursor=None)


def _model(name: str) -> ModelAnswer:
    try:
        model = find_model(name)
    except ConfigError as error:
        return ModelAnswer(name=name, error=str(error))
    card, point = model.card, model.operating_point
    return ModelAnswer(name=name, task=card.task.value, classes=list(card.class_names), digest=model.digest,
                       licence=card.licence, basis=point.basis.value if point is not None else None)
