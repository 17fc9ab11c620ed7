"""Who gets in: sessions, tokens, and nobody else; and what is hidden from those who are in."""

from __future__ import annotations

from collections.abc import Callable

import httpx2 as httpx
import pytest

from review_ui.guard import SESSION_COOKIE
from segsvc.ledger import users
from segsvc.ledger.records import ReviewPolicy, Role
from tests.review_ui.conftest import Serve, Served

PASSWORD = "correct horse battery staple"
OPEN = {"/healthz", "/readyz", "/login", "/logout", "/"}


def with_users(serve: Serve, *names: str, policy: ReviewPolicy | None = None) -> Served:
    served = serve(policy)
    for name in names:
        users.add(served.ledger, name, Role.REVIEWER, PASSWORD)
    return served


def sign_in(served: Served, name: str, password: str = PASSWORD, next_: str = "/review") -> httpx.Response:
    return served.client.post("/login", data={"name": name, "password": password, "next": next_},
                              headers={"Origin": served.url})


def as_reader(served: Served, name: str) -> httpx.Client:
    """A client with a session of its own, which behaves as a browser does."""
    client = httpx.Client(base_url=served.url, timeout=60, headers={"Origin": served.url})
    assert client.post("/login", data={"name": name, "password": PASSWORD}).status_code == 303
    return client


@pytest.fixture
def reader(serve: Serve, request: pytest.FixtureRequest) -> Callable[[Served, str], httpx.Client]:
    def make(served: Served, name: str) -> httpx.Client:
        client = as_reader(served, name)
        request.addfinalizer(client.close)
        return client

    return make


def test_without_users_this_machine_may_do_everything_until_one_is_made(serve: Serve) -> None:
    served = serve()
    assert served.client.get("/v1/me").json() == {"name": "local", "role": "admin", "loopback": True}
    users.add(served.ledger, "ada", Role.ADMIN, PASSWORD)
    assert served.client.get("/v1/me").status_code == 401


def test_beyond_this_machine_nothing_is_open_even_without_users(serve: Serve) -> None:
    assert serve(is_local=False).client.get("/v1/me").status_code == 401


def test_every_route_but_the_few_that_are_open_wants_a_session_or_token(serve: Serve) -> None:
    served = serve()
    document = served.client.get("/openapi.json").json()
    users.add(served.ledger, "ada", Role.REVIEWER, PASSWORD)
    asked = [(method, path.replace("{run_id}", served.run_id).replace("{candidate_id}", "0").replace("{image_id}", "0"))
             for path, methods in document["paths"].items() for method in methods]
    asked += [("get", path) for path in ("/openapi.json", "/review", f"/review/{served.run_id}", "/review/nowhere")]
    assert len(asked) > 14
    for method, path in asked:
        if path in OPEN:
            continue
        for headers in ({}, {"Authorization": "Bearer nonsense"},
                        {"Cookie": f"{SESSION_COOKIE}=nonsense", "Origin": served.url}):
            answer = served.client.request(method.upper(), path, headers=headers)
            if path.startswith("/review"):
                assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/login"), path
            else:
                assert answer.status_code == 401, (path, headers)
                assert answer.json()["type"] == "urn:segsvc:problem:sign-in"
                assert answer.headers["www-authenticate"] == "Bearer"


def test_a_password_begins_a_session_that_scripts_and_other_sites_cannot_use(serve: Serve) -> None:
    served = with_users(serve, "ada")
    answer = sign_in(served, "ada", next_=f"/review/{served.run_id}?order=random")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/review/{served.run_id}?order=random")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "path=/" in cookie
    assert served.client.get("/v1/me").json() == {"name": "ada", "role": "reviewer", "loopback": False}


def test_a_session_ends_with_signing_out_for_whoever_has_its_token(serve: Serve) -> None:
    served = with_users(serve, "ada")
    sign_in(served, "ada")
    token = served.client.cookies[SESSION_COOKIE]
    assert served.client.post("/logout", headers={"Origin": served.url}).status_code == 303
    assert served.client.get("/v1/me", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_signing_in_again_ends_the_session_before(serve: Serve) -> None:
    served = with_users(serve, "ada")
    sign_in(served, "ada")
    first = served.client.cookies[SESSION_COOKIE]
    sign_in(served, "ada")
    assert served.client.cookies[SESSION_COOKIE] != first
    served.client.cookies.clear()
    assert served.client.get("/v1/me", headers={"Authorization": f"Bearer {first}"}).status_code == 401


def test_a_wrong_password_and_an_unknown_name_are_answered_alike(serve: Serve) -> None:
    served = with_users(serve, "ada")
    wrong, unknown = sign_in(served, "ada", "wrong password"), sign_in(served, "bob", "wrong password")
    assert (wrong.status_code, unknown.status_code) == (401, 401)
    assert wrong.text.replace("ada", "bob") == unknown.text
    assert "set-cookie" not in wrong.headers
    assert "wrong password" not in wrong.text


def test_too_many_wrong_passwords_have_to_wait(serve: Serve) -> None:
    served = with_users(serve, "carol")
    answers = [sign_in(served, "carol", "wrong password") for _ in range(6)]
    assert answers[0].status_code == 401
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert sign_in(served, "carol").status_code == 429  # the right one too


@pytest.mark.parametrize("elsewhere", ["https://evil.example.org", "//evil.example.org", "/\\evil.example.org", "evil",
                                       "/\t/evil.example.org", "javascript:alert(1)", "/a\r\nSet-Cookie: b=c", ""])
def test_signing_in_leads_nowhere_else(serve: Serve, elsewhere: str) -> None:
    served = with_users(serve, "dora")
    assert sign_in(served, "dora", next_=elsewhere).headers["location"] == "/review"


def test_another_site_cannot_sign_anybody_in(serve: Serve) -> None:
    served = with_users(serve, "ada")
    answer = served.client.post("/login", data={"name": "ada", "password": PASSWORD}, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


def test_a_program_comes_in_by_its_token(serve: Serve) -> None:
    served = with_users(serve, "ada")
    token = users.new_token(served.ledger, "ada")
    headers = {"Authorization": f"Bearer {token}"}
    assert served.client.get("/v1/me", headers=headers).json()["name"] == "ada"
    leased = served.client.post(f"/v1/review/runs/{served.run_id}/lease", json={"n": 1}, headers=headers)
    assert len(leased.json()["items"]) == 1
    users.disable(served.ledger, "ada")
    assert served.client.get("/v1/me", headers=headers).status_code == 401


def test_scripts_in_names_come_back_as_text(serve: Serve) -> None:
    served = with_users(serve, "ada")
    script = '"><script>alert(1)</script>'
    pages = [sign_in(served, script, "wrong password").text, served.client.get("/login", params={"next": f"/{script}"}).text,
             served.client.get(f"/{script}", headers={"Accept": "text/html"}).text]
    assert [script in page for page in pages] == [False, False, False]


def test_scripts_in_notes_come_back_as_data(serve: Serve) -> None:
    served = serve()
    item, = served.lease(1)
    script = "<script>alert(1)</script>"
    answer = served.decide(item, verdict="unsure", note=script)
    assert answer.json()["note"] == script
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_two_people_are_never_given_the_same(serve: Serve, reader: Callable[[Served, str], httpx.Client]) -> None:
    served = with_users(serve, "ada", "bob")
    given = [[item["candidate_id"] for item in reader(served, name).post(
        f"/v1/review/runs/{served.run_id}/lease", json={"n": 10}).json()["items"]] for name in ("ada", "bob")]
    assert len(set(given[0]) | set(given[1])) == 20


def test_a_reviewer_is_not_told_the_seed_by_which_the_audit_sample_was_drawn(
        serve: Serve, reader: Callable[[Served, str], httpx.Client]) -> None:
    served = with_users(serve, "ada")
    users.add(served.ledger, "root", Role.ADMIN, PASSWORD)
    seeds = [reader(served, name).get("/v1/review/runs").json()["items"][0]["run"]["policy"]["seed"]
             for name in ("ada", "root")]
    assert seeds == [None, 0]


def test_a_blind_reader_sees_neither_score_nor_another_verdict_and_no_tag_tells(
        serve: Serve, reader: Callable[[Served, str], httpx.Client]) -> None:
    served = with_users(serve, "ada", "bob", policy=ReviewPolicy(readers=2, blind=True, audit_share=0.0))
    ada, bob = reader(served, "ada"), reader(served, "bob")
    item = ada.post(f"/v1/review/runs/{served.run_id}/lease", json={"n": 1}).json()["items"][0]
    path = f"/v1/candidates/{item['candidate_id']}"
    before = bob.get(path)
    assert (before.json()["score"], before.json()["probability"], before.json()["band"]) == (None, None, None)
    first = ada.post(f"{path}/decisions", json={"verdict": "accepted"}, headers={"If-Match": f'"{item["tag"]}"'})
    assert first.status_code == 201
    after = bob.get(path)
    assert (after.text, after.headers["etag"]) == (before.text, before.headers["etag"])
    second = bob.post(f"{path}/decisions", json={"verdict": "rejected"}, headers={"If-Match": before.headers["etag"]})
    assert second.status_code == 201  # another's pending reading is no conflict
    assert bob.get(path).json()["score"] is not None
