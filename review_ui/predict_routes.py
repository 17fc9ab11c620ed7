"""`POST /v1/predict`: an image in, candidates out at once."""

from __future__ import annotations

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import UploadFile

from jobs.asking import model_of
from jobs.predict_answers import PredictAnswer
from jobs.predicting import Busy
from review_ui.answers import problems
from review_ui.problems import Problem, ProblemType
from review_ui.service import Parts, Service, Who
from segsvc.errors import ConfigError, ImageError, RunError, StoreError

_ANY_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {
    "multipart/form-data": {"schema": {
        "type": "object", "required": ["image", "model"],
        "properties": {"image": {"type": "string", "format": "binary", "description": "a file of any format that runs read"},
                       "model": {"type": "string", "description": "a model's name"}}}},
    "image/*": _ANY_IMAGE, "application/octet-stream": _ANY_IMAGE}}}

router = APIRouter(prefix="/v1", tags=["models"], responses=problems(ProblemType.SIGN_IN))


@router.post("/predict", response_model=PredictAnswer, openapi_extra=_BODY, responses=problems(
    ProblemType.NO_LENGTH, ProblemType.TOO_LARGE, ProblemType.INVALID, ProblemType.IMAGE_REFUSED, ProblemType.STORE,
    ProblemType.BUSY, ProblemType.ENDED))
async def predict(service: Parts, _: Who, request: Request,
                  model: Annotated[str | None, Query(max_length=4096)] = None) -> Response:
    """What the model finds in one image: a form with `image` and `model`, or the image alone as the body with `?model=`.

    Nothing is kept. The model stays loaded; where many ask at once, some are answered with 503 and `Retry-After`.
    """
    try:
        with service.predictors.place():
            image, name = await _asked(request, model)
            answer = await to_thread.run_sync(_answer, service, name, image, limiter=service.predicting,
                                              abandon_on_cancel=True)
    except Busy as error:
        async for _chunk in request.stream():  # else whoever sends it may not get to read the answer
            pass
        raise Problem(ProblemType.BUSY, str(error), headers={"Retry-After": "1"}) from error
    return Response(answer, media_type="application/json")


def _answer(service: Service, name: str, image: bytes) -> bytes:
    try:
        return service.predictors.ask(model_of(name, service.reach()), image)
    except ImageError as error:
        raise Problem(ProblemType.IMAGE_REFUSED, f"image: {error}", members={"error_kind": error.kind.value}) from error
    except RunError as error:
        raise Problem(ProblemType.ENDED, str(error), headers={"Retry-After": "1"}) from error
    except StoreError:
        raise
    except ConfigError as error:
        raise Problem(ProblemType.INVALID, str(error)) from error


async def _asked(request: Request, model: str | None) -> tuple[bytes, str]:
    """The image and the model's name. Raises Problem(INVALID)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=2) as form:
            image, named = form.get("image"), form.get("model", model)
            if not isinstance(image, UploadFile) or not isinstance(named, str):
                raise Problem(ProblemType.INVALID, "expected a form with a file `image` and a text `model`, got one with "
                                                   f"{sorted(form.keys())}")
            return await image.read(), named
    if not kind.startswith("image/") and kind != "application/octet-stream":
        raise Problem(ProblemType.INVALID, "expected `Content-Type: image/...`, application/octet-stream or "
                                           f"multipart/form-data, got {kind[:60]!r}")
    if model is None:
        raise Problem(ProblemType.INVALID, "expected the model's name as `?model=`, got none")
    return await request.body(), model
