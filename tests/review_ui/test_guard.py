"""Other sites in the same browser get nothing done here, and every answer says so to the browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2 as httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from review_ui.guard import MOST_BODY_BYTES, SESSION_COOKIE, Guard
from tests.review_ui.serving import serving

Ask = Callable[..., httpx.Response]


async def done(request: Request) -> Response:
    return PlainTextResponse(f"done {len(await request.body())}")


async def kept(request: Request) -> Response:
    return PlainTextResponse("kept", headers={"Cache-Control": "private, max-age=5"})


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    app = Starlette(routes=[Route("/", done, methods=["GET", "POST", "DELETE"]), Route("/kept", kept)])
    with serving(Guard(app, hosts=["review.example.org"])) as address:
        yield address


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60) as opened:
        yield opened


@pytest.fixture
def ask(client: httpx.Client) -> Ask:
    def answer(url: str, method: str = "GET", **headers: str) -> httpx.Response:
        return client.request(method, url, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


def kind(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["type"]).removeprefix("urn:segsvc:problem:")


@pytest.mark.parametrize("host", ["localhost", "localhost:9999", "127.0.0.1:80", "[::1]:8765", "192.168.1.7:8765",
                                  "review.example.org", "REVIEW.example.org:443"])
def test_the_server_answers_by_its_own_names_and_by_addresses(ask: Ask, url: str, host: str) -> None:
    assert ask(url, Host=host).status_code == 200


@pytest.mark.parametrize("host", ["evil.example.org", "localhost.evil.example.org", "127.0.0.1.evil.example.org",
                                  "localhost.", "evil.example.org:8765", "[::1", "a@evil.example.org", "1.2.3.4.5",
                                  "review.example.org.evil"])
def test_a_name_that_was_made_to_point_here_is_refused(ask: Ask, url: str, host: str) -> None:
    answer = ask(url, Host=host)
    assert (answer.status_code, kind(answer)) == (400, "unknown-host")


def test_a_page_of_ours_may_post(ask: Ask, url: str) -> None:
    own = url.removeprefix("http://")
    assert ask(url, "POST", Origin=url, Sec_Fetch_Site="same-origin").status_code == 200
    assert ask(url, "POST", Origin=url).status_code == 200  # browsers say no more of plain http
    assert ask(url, "POST", Origin=f"http://{own}", Cookie=f"{SESSION_COOKIE}=a").status_code == 200
    assert ask(url, "POST", Sec_Fetch_Site="same-origin", Cookie=f"{SESSION_COOKIE}=a").status_code == 200


@pytest.mark.parametrize("headers", [
    {"Origin": "https://evil.example.org"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": "http://["},
    {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}, {"Sec_Fetch_Site": "none"},
    {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
    {"Origin": "https://evil.example.org", "Sec_Fetch_Site": "same-origin"},
    {"Origin": "https://evil.example.org", "Authorization": "Bearer a"},
])
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH", "STRANGE"])
def test_a_page_of_another_site_gets_nothing_done(ask: Ask, url: str, method: str, headers: dict[str, str]) -> None:
    answer = ask(url, method, **headers)
    assert (answer.status_code, kind(answer)) == (403, "cross-site")


def test_a_session_without_a_word_of_where_it_comes_from_is_refused(ask: Ask, url: str) -> None:
    assert ask(url, "POST", Cookie=f"a=b; {SESSION_COOKIE}=c").status_code == 403
    assert ask(url, "POST", Authorization="Bearer c").status_code == 200  # a program
    assert ask(url, "POST").status_code == 200


def test_another_site_may_lead_here_but_not_look(ask: Ask, url: str) -> None:
    assert ask(url, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status_code == 200
    for site in ("cross-site", "same-site"):
        assert ask(url, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors").status_code == 403
    assert ask(url, Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="no-cors").status_code == 200


def test_head_is_answered_as_get_without_the_body(ask: Ask, url: str) -> None:
    answer = ask(f"{url}/kept", "HEAD")
    assert (answer.status_code, answer.text, answer.headers["content-length"]) == (200, "", str(len("kept")))


def test_every_answer_bears_what_browsers_are_to_hold_to(ask: Ask, url: str) -> None:
    for answer in (ask(url), ask(f"{url}/nowhere"), ask(url, Host="evil.example.org"), ask(url, "POST", Origin="null")):
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        own, nothing = "'self'", "'none'"
        assert policy == {"default-src": nothing, "script-src": own, "style-src": own, "img-src": f"{own} blob:",
                          "connect-src": own, "form-action": own, "base-uri": nothing, "frame-ancestors": nothing}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
    assert ask(f"{url}/kept").headers["cache-control"] == "private, max-age=5"


def test_a_body_that_is_too_large_or_of_unknown_length_is_not_read(client: httpx.Client, url: str) -> None:
    small = client.post(url, content=b"x" * 100)
    large = client.post(url, content=b"x" * (MOST_BODY_BYTES + 1))
    chunked = client.post(url, content=iter([b"x"]))
    assert small.text == "done 100"
    assert (large.status_code, kind(large)) == (413, "too-large")
    assert (chunked.status_code, kind(chunked)) == (411, "no-length")
