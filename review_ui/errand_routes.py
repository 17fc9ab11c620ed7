"""What commands of this machine have the server do, as it alone writes into its ledger (`segsvc.ledger.errands`)."""

from __future__ import annotations

import logging
import secrets
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Body, Depends, Request, Response

from review_ui.problems import Problem, ProblemType
from review_ui.service import Parts, service_of, token_of
from segsvc.errors import ConfigError
from segsvc.ledger.errands import AnyErrand

_LOG = logging.getLogger(__name__)


def _has_the_secret(request: Request) -> None:
    """Whoever sends it has read it in the ledger's folder, and so might write into the ledger as well."""
    secret = service_of(request).ledger.secret
    if not secrets.compare_digest((token_of(request) or "").encode(), secret.encode()):
        raise Problem(ProblemType.SIGN_IN, "expected the secret that stands in the ledger's folder, got another",
                      headers={"WWW-Authenticate": "Bearer"})


router = APIRouter(include_in_schema=False, dependencies=[Depends(_has_the_secret)])


@router.post("/v1/errands")
async def do_errand(service: Parts, errand: Annotated[AnyErrand, Body()]) -> Response:
    """Does it, one at a time, and answers with the document that the command prints."""
    try:
        document = await to_thread.run_sync(errand.run, service.ledger, _LOG.info, limiter=service.running_errands)
    except ConfigError as error:
        raise Problem(ProblemType.INVALID, str(error)) from error
    return Response(document.model_dump_json(), media_type="application/json")
