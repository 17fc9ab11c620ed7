"""For whoever watches the server: is it there, does it work, what did it do."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.responses import PlainTextResponse

from review_ui.service import Parts, Who

router = APIRouter(tags=["health"])


@router.get("/healthz")
def health() -> dict[str, str]:
    """The server answers."""
    return {"status": "ok"}


@router.get("/readyz")
def readiness(service: Parts) -> dict[str, str]:
    """The ledger answers too. queue: whether the queue that the server follows answers, `ok` or `away`, if one is set."""
    service.needs_no_users()
    queue = service.triggers.queue_state if service.triggers is not None else None
    return {"status": "ready"} | ({"queue": queue} if queue is not None else {})


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(service: Parts, _: Who) -> Response:
    """Counters in Prometheus' text format."""
    content, media_type = service.metrics.text(service.ledger)
    return Response(content, media_type=media_type)
