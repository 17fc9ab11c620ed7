"""How problems stand in the description of the routes."""

from __future__ import annotations

from typing import Any

from review_ui.problems import MEDIA_TYPE, ProblemType
from review_ui.schemas import ProblemAnswer

_OF_RUNS = (ProblemType.SIGN_IN, ProblemType.NOT_PERMITTED, ProblemType.UNKNOWN, ProblemType.CONFLICT, ProblemType.INVALID,
            ProblemType.STORE, ProblemType.FULL)


def problems_by_status(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route of runs that may answer with these statuses."""
    return problems(*(kind for kind in _OF_RUNS if kind.status in statuses))


def problems(*kinds: ProblemType) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these problems; kinds of the same status stand together."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        example = {"type": kind.uri, "title": kind.title, "status": kind.status, "detail": "expected ..., got ..."}
        answer = found.setdefault(kind.status, {"model": ProblemAnswer, "description": kind.title,
                                                "content": {MEDIA_TYPE: {"examples": {}}}})
        answer["content"][MEDIA_TYPE]["examples"][kind.value[0]] = {"value": example}
        if kind.title not in answer["description"]:
            answer["description"] += f"; {kind.title.lower()}"
    return found
