"""The pages: HTML out of templates that escape everything, and signing in and out."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path as FilePath
from typing import Annotated, Any
from urllib.parse import parse_qs, quote

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse

from review_ui.guard import SESSION_COOKIE
from review_ui.labelled_misses import labelled_misses
from review_ui.problems import Problem, ProblemType
from review_ui.schemas import ClassName, Id
from review_ui.service import Parts, Service, Who, service_of, token_of
from segsvc.ledger import runs, users
from segsvc.ledger.errors import Throttled
from segsvc.ledger.missed import missed
from segsvc.ledger.progress import progress
from segsvc.ledger.records import Order, Reader

router = APIRouter(include_in_schema=False)
SESSION_HOURS = 12
_SEE_OTHER = 303
_VERSION = version("segsvc")
_FIRST_PAGE = "/review"
_templates = Environment(loader=FileSystemLoader(FilePath(__file__).parent / "templates"), autoescape=True,
                         undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(template: str, *, reader: Reader | None, loopback: bool, status: int = 200, **variables: Any) -> HTMLResponse:
    """A page. Everything in it that is not the template's own is escaped."""
    text = _templates.get_template(template).render(reader=reader, loopback=loopback, version=_VERSION, status=status,
                                                    **variables)
    return HTMLResponse(text, status)


@router.get("/")
def root() -> Response:
    return RedirectResponse(_FIRST_PAGE, _SEE_OTHER)


@router.get("/review")
def show_runs(service: Parts, reader: Who) -> Response:
    """All runs and how far they are."""
    found = [{"run": run, "progress": progress(service.ledger, run.run_id, reader),
              "missed": missed(service.ledger, run.run_id)} for run in runs.all_runs(service.ledger)]
    return render("runs.html", reader=reader, loopback=service.needs_no_users(), runs=found)


@router.get("/review/{run_id}")
def show_review(service: Parts, reader: Who, run_id: Annotated[str, Path(max_length=200)], order: Order = Order.UNCERTAIN,
                class_name: ClassName | None = None, candidate: Annotated[Id | None, Query()] = None) -> Response:
    """The review of one run; with `candidate`, that one is shown first."""
    return render("review.html", reader=reader, loopback=service.needs_no_users(), run=runs.find(service.ledger, run_id),
                  order=order.value, class_name=class_name, candidate=candidate, missed=missed(service.ledger, run_id),
                  missed_images=labelled_misses.of(service.ledger, run_id))


def page_problem(request: Request, problem: Problem) -> Response:
    """A page that says what went wrong; whoever is not signed in is sent to do so."""
    if problem.kind is ProblemType.SIGN_IN:
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(wanted, safe='')}", _SEE_OTHER)
    service = service_of(request)
    asks = problem.kind is not ProblemType.INTERNAL  # then it may be the ledger that is at fault
    page = render("error.html", reader=service.reader(token_of(request)) if asks else None,
                  loopback=asks and service.needs_no_users(), status=problem.kind.status, title=problem.kind.title,
                  detail=str(problem))
    page.headers.update(problem.headers)
    return page


@router.get("/login")
def show_login(service: Parts, next: str = _FIRST_PAGE) -> Response:
    return render("login.html", reader=None, loopback=service.needs_no_users(), next=_own_path(next), name="", failed=None)


@router.post("/login")
async def login(service: Parts, request: Request) -> Response:
    """Begins a session for whoever knows the password. Looking at one takes memory and time: few are at once."""
    form = _fields((await request.body()).decode("utf-8", "replace"))
    return await to_thread.run_sync(_login, service, request, form, limiter=service.signing_in)


def _fields(body: str) -> dict[str, str]:
    """The fields of a form, each once. Raises Problem(INVALID)."""
    try:
        found = parse_qs(body, keep_blank_values=True, max_num_fields=20)
    except ValueError as error:
        raise Problem(ProblemType.INVALID, f"form: expected name, password and next, got more: {error}") from error
    return {name: values[-1] for name, values in found.items()}


def _login(service: Service, request: Request, form: dict[str, str]) -> Response:
    name, wanted = form.get("name", ""), _own_path(form.get("next", _FIRST_PAGE))
    status, failed, headers = 401, "expected a name and its password, got another pair", {}
    try:
        reader = users.authenticate(service.ledger, name, form.get("password", ""))
    except Throttled as error:
        reader, status, failed, headers = None, 429, str(error), {"Retry-After": str(error.retry_after_s)}
    if reader is None:
        page = render("login.html", reader=None, loopback=service.needs_no_users(), status=status, next=wanted, name=name,
                      failed=failed)
        page.headers.update(headers)
        return page
    _end_session(service, request)
    token = users.open_session(service.ledger, reader, hours=SESSION_HOURS)
    response = RedirectResponse(wanted, _SEE_OTHER)
    response.set_cookie(SESSION_COOKIE, token, max_age=SESSION_HOURS * 3600, path="/", secure=service.secure_cookies,
                        httponly=True, samesite="lax")
    return response


@router.post("/logout")
def logout(service: Parts, request: Request) -> Response:
    """Ends the session; its token is worth nothing from now on."""
    _end_session(service, request)
    response = RedirectResponse("/login", _SEE_OTHER)
    response.delete_cookie(SESSION_COOKIE, path="/", secure=service.secure_cookies, httponly=True, samesite="lax")
    return response


def _end_session(service: Service, request: Request) -> None:
    token = request.cookies.get(SESSION_COOKIE)
    if token is not None:
        users.close_session(service.ledger, token)


def _own_path(wanted: str) -> str:
    """The path if it leads to a page of ours: nobody is sent elsewhere by a link to the login."""
    is_ours = wanted.startswith("/") and not wanted.startswith("//") and wanted.isprintable() and "\\" not in wanted
    return wanted if is_ours else _FIRST_PAGE
