"""`segsvc serve` as a program: where it may be reached, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from segsvc.ledger import users
from segsvc.ledger.opening import open_ledger
from segsvc.ledger.records import Role
from tests.conftest import Answer, Program, Started
from tests.ledger.runs import Drawn, review, write_run
from tests.test_documents import check


@contextmanager
def started(segsvc: Program, *arguments: str) -> Iterator[tuple[Started, str]]:
    """A server and the address that it printed."""
    process = segsvc.start("serve", "--port", "0", *arguments)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def with_password(segsvc: Program, *arguments: str) -> Answer:
    return segsvc(*arguments, stdin="long enough\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_its_address_answers_and_ends_with_0_when_told_to(segsvc: Program, number: signal.Signals) -> None:
    with started(segsvc) as (process, url):
        assert url.startswith("http://127.0.0.1:") and url.endswith("/review")
        assert httpx.get(url, timeout=60).status_code == 200
        process.send_signal(number)
        assert process.wait(timeout=60) == 0
        assert "Traceback" not in process.stderr.read()
    assert (segsvc.folder / "segsvc-data" / "ledger.sqlite").is_file()


def test_a_request_that_is_under_way_is_answered_before_it_ends(segsvc: Program) -> None:
    with started(segsvc) as (process, url):
        with socket.create_connection(("127.0.0.1", int(url.split(":")[2].split("/")[0]))) as connection:
            connection.sendall(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17\r\n"
                               b"Expect: 100-continue\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # it waits for the body now
            process.send_signal(signal.SIGTERM)
            connection.sendall(b"name=a&password=b")
            assert connection.recv(12) == b"HTTP/1.1 401"
        assert process.wait(timeout=60) == 0


def test_beyond_this_machine_it_does_not_start_without_users(segsvc: Program) -> None:
    for host in ("0.0.0.0", "::"):
        answer = segsvc("serve", "--host", host, "--port", "0")
        assert (answer.code, answer.stdout) == (2, "")
        assert "segsvc users add" in answer.stderr


def test_beyond_this_machine_it_starts_with_users_and_wants_them_to_sign_in(segsvc: Program) -> None:
    with open_ledger(str(segsvc.folder / "kept"), serving=True) as ledger:
        users.add(ledger, "ada", Role.ADMIN, "correct horse battery staple")
    with started(segsvc, "--host", "0.0.0.0", "--ledger", str(segsvc.folder / "kept")) as (_, url):
        answer = httpx.get(url, timeout=60)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Freview")


@pytest.mark.parametrize("host", ["no.such.name.invalid", "203.0.113.1", "a" * 300])
def test_an_address_that_is_not_of_this_machine_is_said_to_be_so(segsvc: Program, host: str) -> None:
    answer = segsvc("serve", "--host", host, "--port", "0")
    assert (answer.code, answer.stdout) == (2, "")
    assert "--host" in answer.stderr and "Traceback" not in answer.stderr


def test_a_port_that_is_taken_is_said_to_be_so(segsvc: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = segsvc("serve", "--port", str(taken.getsockname()[1]))
    assert answer.code == 2
    assert "Choose another by --port" in answer.stderr


def test_a_second_server_on_the_same_ledger_names_the_first(segsvc: Program) -> None:
    with started(segsvc) as (_, url):
        answer = segsvc("serve", "--port", "0")
        assert answer.code == 2
        assert url.removesuffix("/review") in answer.stderr


def test_a_ledger_that_cannot_be_made_is_said_to_be_so(segsvc: Program) -> None:
    (segsvc.folder / "file").write_text("in the way")
    answer = segsvc("serve", "--port", "0", "--ledger", str(Path("file") / "ledger"))
    assert (answer.code, answer.stdout) == (2, "")
    assert "Traceback" not in answer.stderr


def test_users_are_made_and_runs_taken_in_while_it_runs(segsvc: Program) -> None:
    write_run(segsvc.folder / "out", [*review(3), Drawn("cell", 0.9)])
    (segsvc.folder / "gold.csv").write_text(f"candidate_id,verdict\n{review(3)[1].candidate_id(1)},accepted\n")
    with started(segsvc) as (_, url):
        taken_in = check("review_import", segsvc("review", "import", "out", "--readers", "2", "--json").stdout)
        assert (taken_in["review"], taken_in["accepted"], taken_in["policy"]["readers"]) == (3, 1, 2)
        assert check("gold", segsvc("review", "gold", "out", "gold.csv", "--json").stdout)["answers"] == 1
        runs = httpx.get(url.replace("/review", "/v1/review/runs"), timeout=60).json()["items"]
        assert [each["run"]["run_id"] for each in runs] == [taken_in["run_id"]]
        made = with_password(segsvc, "users", "add", "ada", "--role", "admin", "--json")
        assert check("user", made.stdout)["name"] == "ada"
        assert httpx.get(url, timeout=60).status_code == 303  # from now on one signs in
        token = segsvc("users", "token", "ada").stdout.strip()
        assert httpx.get(url.replace("/review", "/v1/review/runs"), timeout=60,
                         headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert with_password(segsvc, "users", "password", "ada").stdout == "ada has another password\n"
        assert check("user", segsvc("users", "disable", "ada", "--json").stdout)["disabled_at"] is not None


def test_what_is_wrong_with_an_errand_is_said_as_without_a_server(segsvc: Program) -> None:
    asked = [("users", "disable", "anne"), ("review", "import", "nowhere"), ("users", "token", "anne", "--hours", "1")]
    alone = [segsvc(*arguments) for arguments in asked]
    with started(segsvc):
        assert [segsvc(*arguments) for arguments in asked] == alone
    assert [(each.code, each.stdout) for each in alone] == [(2, "")] * 3


def test_errands_are_done_for_those_alone_who_may_read_the_ledgers_folder(segsvc: Program) -> None:
    with started(segsvc) as (_, url):
        lock = segsvc.folder / "segsvc-data" / "server.lock"
        assert (lock.stat().st_mode & 0o077, lock.parent.stat().st_mode & 0o077) == (0, 0)
        for secret in ("x", "x" * 43, json.loads(lock.read_bytes())["secret"][:-1]):
            answer = httpx.post(url.replace("/review", "/v1/errands"), json={"does": "disable-user", "name": "a"},
                                headers={"Authorization": f"Bearer {secret}"}, timeout=60)
            assert (answer.status_code, answer.json()["type"]) == (401, "urn:segsvc:problem:sign-in")


def test_where_the_server_cannot_be_asked_it_is_said_what_to_do(segsvc: Program) -> None:
    with open_ledger(str(segsvc.folder / "segsvc-data"), serving=True, url="http://127.0.0.1:9"):
        answer = with_password(segsvc, "users", "add", "anne", "--role", "admin")
    assert (answer.code, answer.stdout) == (2, "")
    assert "stop that server first. It could not be asked: " in answer.stderr
