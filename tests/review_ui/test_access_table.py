"""Every route against everybody who may come, as a table says; a route without a row in it fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from review_ui.app import described
from review_ui.guard import SESSION_COOKIE
from segsvc import plugins
from segsvc.ledger import users
from segsvc.ledger.records import Reader, ReviewPolicy, Role
from segsvc.settings import settings
from tests.review_ui.conftest import MadeRun, Served, begun
from tests.review_ui.test_access import PASSWORD


class Who(Enum):
    """For whom a route is."""

    ALL = "nobody needs to sign in"
    READER = "whoever signed in; a program is answered with 401"
    PAGE = "whoever signed in; a browser is sent to the login"
    ADMIN = "admins"
    SECRET = "who can read the ledger's folder"


TABLE = {
    ("GET", "/"): Who.ALL, ("GET", "/healthz"): Who.ALL, ("GET", "/readyz"): Who.ALL, ("GET", "/login"): Who.ALL,
    ("POST", "/login"): Who.ALL, ("POST", "/logout"): Who.ALL, ("MOUNT", "/static"): Who.ALL,
    ("GET", "/cost"): Who.PAGE, ("GET", "/label"): Who.PAGE, ("GET", "/label/{name}"): Who.PAGE,
    ("GET", "/review"): Who.PAGE, ("GET", "/review/{run_id}"): Who.PAGE, ("GET", "/review/{run_id}/cost"): Who.PAGE,
    ("GET", "/metrics"): Who.READER, ("GET", "/openapi.json"): Who.READER, ("GET", "/v1/candidates"): Who.READER,
    ("GET", "/v1/candidates/{candidate_id}"): Who.READER, ("POST", "/v1/candidates/{candidate_id}/decisions"): Who.READER,
    ("GET", "/v1/images/{image_id}/region.jpg"): Who.READER, ("POST", "/v1/images/{image_id}/objects"): Who.READER,
    ("POST", "/v1/images/{image_id}/done"): Who.READER, ("GET", "/v1/label/sets"): Who.READER,
    ("GET", "/v1/label/sets/{name}"): Who.READER, ("GET", "/v1/label/sets/{name}/images/{image_id}"): Who.READER,
    ("GET", "/v1/label/sets/{name}/mine"): Who.READER, ("POST", "/v1/label/sets/{name}/lease"): Who.READER,
    ("GET", "/v1/me"): Who.READER, ("GET", "/v1/models"): Who.READER, ("POST", "/v1/predict"): Who.READER,
    ("GET", "/v1/models/{name}/cost"): Who.READER,
    ("GET", "/v1/review/runs"): Who.READER, ("GET", "/v1/review/runs/{run_id}/cost"): Who.READER,
    ("GET", "/v1/review/runs/{run_id}/mine"): Who.READER, ("GET", "/v1/review/runs/{run_id}/missed"): Who.READER,
    ("GET", "/v1/review/runs/{run_id}/progress"): Who.READER, ("POST", "/v1/review/runs/{run_id}/lease"): Who.READER,
    ("POST", "/v1/review/runs/{run_id}/release"): Who.READER, ("GET", "/v1/runs"): Who.READER,
    ("GET", "/v1/runs/{run_id}"): Who.READER, ("GET", "/v1/runs/{run_id}/events"): Who.READER,
    ("POST", "/v1/inputs/count"): Who.ADMIN, ("POST", "/v1/runs"): Who.ADMIN, ("POST", "/v1/errands"): Who.SECRET,
    ("POST", "/v1/s3-events"): Who.ADMIN,
    ("POST", "/v1/runs/{run_id}/cancel"): Who.ADMIN, ("POST", "/v1/runs/{run_id}/resume"): Who.ADMIN,
}
BODIES: Mapping[str, Any] = {  # as a route takes them
    "/v1/runs": {"input": "/nowhere", "model": "none"}, "/v1/inputs/count": {"input": "/nowhere"},
    "/v1/candidates/{candidate_id}/decisions": {"verdict": "accepted"}}
_LET_IN = {200, 202, 204, 404, 409, 412, 422, 428}
_REFUSED = {Who.PAGE: 303}


def routes_of(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Every method and path, of included routers too."""
    for route in routes:
        if hasattr(route, "original_router"):
            yield from routes_of(route.original_router.routes)
        elif hasattr(route, "methods"):
            yield from ((method, route.path) for method in route.methods - {"HEAD"})
        else:
            yield "MOUNT", route.path


@pytest.fixture(scope="module")
def guarded(made_run: MadeRun, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with users: a reviewer and an admin."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name, value in environment.items():
            if name.startswith("SEGSVC_"):
                patch.setenv(name, value)
        settings.cache_clear()
        plugins.forget()
        served = begun(stack, tmp_path_factory.mktemp("guarded"), made_run.out, ReviewPolicy(), is_local=True)
        for name, role in (("rev", Role.REVIEWER), ("adm", Role.ADMIN)):
            users.add(served.ledger, name, role, PASSWORD)
        yield served
    settings.cache_clear()


def ask(served: Served, method: str, path: str, **headers: str) -> httpx.Response:
    """The route, with things that there are not, so that nothing is changed."""
    address = path.replace("{run_id}", "none").replace("{candidate_id}", "none").replace("{image_id}", "none").replace(
        "{name}", "none") if method != "MOUNT" else f"{path}/style.css"
    body = BODIES.get(path, {}) if method == "POST" and path not in ("/login", "/logout") else None
    more = {"If-Match": "*"} if path.endswith("/decisions") else {}
    return served.client.request("GET" if method == "MOUNT" else method, address, json=body, headers={**more, **headers})


def token(served: Served, name: str, hours: float = 1.0) -> str:
    user = next(each for each in users.list_users(served.ledger) if each.name == name)
    return users.open_session(served.ledger, Reader(user.user_id, name, user.role), hours=hours)


ROWS = sorted(TABLE)
as_rows = pytest.mark.parametrize(("method", "path"), ROWS, ids=[f"{method} {path}" for method, path in ROWS])


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    found = set(routes_of(described().routes))
    assert found - TABLE.keys() == set(), "say for whom it is"
    assert TABLE.keys() - found == set()


@as_rows
def test_who_is_not_signed_in_or_no_more_gets_to_nothing_but_what_is_open(guarded: Served, method: str, path: str) -> None:
    kind = TABLE[method, path]
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Bearer {token(guarded, 'adm', -1.0)}"},
                    {"Cookie": f"{SESSION_COOKIE}={token(guarded, 'adm', -1.0)}", "Origin": guarded.url}):
        answer = ask(guarded, method, path, **headers)
        if kind is Who.ALL:
            wrong = {403, 500} if path == "/login" else {401, 403, 500}  # there 401 says that the password is wrong
            assert answer.status_code not in wrong, (headers, answer.text)
        else:
            assert answer.status_code == _REFUSED.get(kind, 401), (headers, answer.text)


@as_rows
def test_reviewers_and_admins_get_to_what_is_theirs(guarded: Served, method: str, path: str) -> None:
    kind = TABLE[method, path]
    for name, may in (("rev", kind not in (Who.ADMIN, Who.SECRET)), ("adm", kind is not Who.SECRET)):
        for headers in ({"Authorization": f"Bearer {token(guarded, name)}"},
                        {"Cookie": f"{SESSION_COOKIE}={token(guarded, name)}", "Origin": guarded.url}):
            answer = ask(guarded, method, path, **headers)
            if kind is Who.ALL:
                assert answer.status_code < 500
            elif may:
                assert answer.status_code in _LET_IN, (name, answer.status_code, answer.text)
            else:
                assert answer.status_code == (401 if kind is Who.SECRET else 403), (name, answer.text)


@as_rows
def test_by_a_foreign_name_nobody_gets_anywhere(guarded: Served, method: str, path: str) -> None:
    answer = ask(guarded, method, path, Host="evil.example", Authorization=f"Bearer {token(guarded, 'adm')}")
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:segsvc:problem:unknown-host")


@as_rows
def test_a_page_of_another_site_gets_nothing_by_a_persons_session(guarded: Served, method: str, path: str) -> None:
    headers = {"Cookie": f"{SESSION_COOKIE}={token(guarded, 'adm')}", "Origin": "https://evil.example",
               "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    assert ask(guarded, method, path, **headers).status_code == 403
    if method == "POST":  # a browser of old, which says less
        assert ask(guarded, method, path, Cookie=headers["Cookie"], Origin="null").status_code == 403
        assert ask(guarded, method, path, Cookie=headers["Cookie"]).status_code == 403


def test_the_secret_of_the_folder_does_errands_and_opens_nothing_else(guarded: Served, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {guarded.ledger.secret}"}
    assert ask(guarded, "POST", "/v1/errands", **headers).status_code == 422
    assert ask(guarded, "GET", "/v1/runs", **headers).status_code == 401
