"""The application: the routes, what goes wrong with them, and the guard around all of it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from jobs import api as jobs_api
from jobs.asking import Desk
from jobs.hands import place
from review_ui import (
    candidate_routes,
    cost_pages,
    cost_routes,
    errand_routes,
    event_routes,
    health_routes,
    image_routes,
    label_pages,
    label_routes,
    missed_routes,
    model_routes,
    pages,
    predict_routes,
    review_routes,
)
from review_ui.answers import problems, problems_by_status
from review_ui.guard import Guard
from review_ui.metrics import Meter
from review_ui.problems import ProblemType, problem_of
from review_ui.service import Service, Who, current_admin, current_reader
from review_ui.static_files import OwnFiles
from segsvc.errors import SegsvcError

_FOR_PROGRAMS = ("/v1/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/static/")


def create_app(service: Service, *, hosts: Iterable[str] = ()) -> ASGIApp:
    """The application. hosts: names that the server is called by, beside localhost and addresses in numbers."""
    app = described()
    app.state.service = service
    app.state.jobs = jobs_api.Jobs(service.ledger, lambda: Desk(service.ledger, service.reach(), place()), service.wake,
                                   service.ending)
    app.state.access = jobs_api.Access(current_reader, current_admin)
    return Guard(Meter(app, service.metrics), hosts=hosts)


def described() -> FastAPI:
    """The routes, and `/openapi.json` that describes them; no page of it, as those load scripts from elsewhere."""
    app = FastAPI(title="segsvc", version=version("segsvc"), openapi_url=None, docs_url=None, redoc_url=None,
                  description="Candidates that a model found, and what people decide of them.")
    for module in (review_routes, candidate_routes, image_routes, label_routes, cost_routes, missed_routes, model_routes,
                   health_routes, predict_routes, errand_routes, event_routes, pages, label_pages, cost_pages):
        app.include_router(module.router, responses=problems(ProblemType.INVALID) if module is not health_routes else {})
    app.include_router(jobs_api.routes(problems_by_status), responses=problems(ProblemType.INVALID))

    @app.get("/openapi.json", include_in_schema=False)
    def openapi(_: Who) -> dict[str, object]:
        return app.openapi()

    app.mount("/static", OwnFiles())
    for kind in (SegsvcError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _answer)
    return app


async def _answer(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if request.url.path.startswith(_FOR_PROGRAMS):
        return problem.response()
    return await run_in_threadpool(pages.page_problem, request, problem)
