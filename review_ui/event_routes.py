"""Objects of buckets, as stores and their messengers post them."""

from __future__ import annotations

import json
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request

from review_ui.answers import problems
from review_ui.problems import Problem, ProblemType
from review_ui.service import Admin, Parts, Service
from segsvc.errors import ConfigError
from segsvc.event_documents import TakenDocument

router = APIRouter(tags=["runs"])
_EXAMPLE: dict[str, Any] = {"Records": [{
    "eventVersion": "2.1", "eventSource": "aws:s3", "eventTime": "2026-11-02T09:30:12.250Z",
    "eventName": "ObjectCreated:Put",
    "s3": {"bucket": {"name": "photos"}, "object": {"key": "2026/a+b.jpg", "size": 81402, "sequencer": "0055AED6DCD90281E5",
                                                    "eTag": "d41d8cd98f00b204e9800998ecf8427e"}}}]}
_BODY = {"required": True, "content": {"application/json": {"schema": {"type": "object"}, "example": _EXAMPLE}}}


@router.post("/v1/s3-events", status_code=202, openapi_extra={"requestBody": _BODY}, responses=problems(
    ProblemType.SIGN_IN, ProblemType.NOT_PERMITTED, ProblemType.CONFLICT, ProblemType.INVALID, ProblemType.STORE,
    ProblemType.FULL))
async def take_events(request: Request, service: Parts, _: Admin) -> TakenDocument:
    """Takes in an envelope of S3, SNS, EventBridge or SeaweedFS' filer; it is stored when this is answered.

    The server's rules (`serve.rules`) say which objects become runs. A document of another shape is kept aside and counted.
    """
    body = await request.body()
    taken = await to_thread.run_sync(_taken, service, body, limiter=service.taking_events)
    if taken is None:
        raise Problem(ProblemType.CONFLICT, "expected rules that say which objects become runs, this server has none. Set "
                                            "serve.rules, or SEGSVC_SERVE__RULES.")
    return taken


def _taken(service: Service, body: bytes) -> TakenDocument | None:
    try:
        json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(ProblemType.INVALID, f"expected JSON, got {len(body)} bytes of something else") from error
    if service.triggers is None:
        return None
    try:
        return service.triggers.post(body)
    except ConfigError as error:
        raise Problem(ProblemType.STORE, str(error)) from error
