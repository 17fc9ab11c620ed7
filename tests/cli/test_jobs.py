"""`segsvc submit`, `runs`, `status`, `cancel` and `resume`, against a server that really runs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from segsvc.card import ModelCard
from tests.chaos.network import bad_network, until
from tests.chaos.proxy import Weather
from tests.cli.test_serve import started, with_password
from tests.conftest import Answer, Program
from tests.scenes import write_scenes
from tests.test_documents import check

ID = re.compile(r"[0-9a-f]{16,64}\n")
MANY = 3000  # images, more than are done while a test looks at the run


@pytest.fixture(scope="module")
def asked(environment: dict[str, str], bright: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """`segsvc` in a folder with images, whose settings name a server that runs; `SEGSVC_SERVER` is its address."""
    folder = tmp_path_factory.mktemp("asked")
    write_scenes(folder / "in", 4)
    write_scenes(folder / "some-bad", 2)
    (folder / "some-bad" / "bad.png").write_bytes(b"no picture")
    write_scenes(folder / "one", 1)
    (folder / "many").mkdir()
    for number in range(MANY):
        os.link(folder / "one" / "scene-00000.png", folder / "many" / f"{number:05d}.png")
    with started(Program(environment, folder)) as (_, url):
        yield Program({**environment, "SEGSVC_SERVER": url.removesuffix("/review")}, folder)


def complaint(answer: Answer, code: int) -> str:
    """One or two lines on stderr, and nothing on stdout."""
    assert (answer.code, answer.stdout) == (code, ""), answer
    assert 1 <= len(answer.stderr.splitlines()) <= 2, answer.stderr
    assert answer.stderr.startswith("segsvc: ") and "Traceback" not in answer.stderr and "unexpected" not in answer.stderr
    return answer.stderr


def status(asked: Program, run: str) -> dict[str, Any]:
    return check("job", asked("status", run, "--json").stdout)


def begun(asked: Program) -> str:
    """The id of a new run of many images that is being worked on."""
    run = asked("submit", "many", "--model", "bright").stdout.strip()
    until(lambda: status(asked, run)["state"] == "running", "the run to begin")
    return run


def test_a_run_is_asked_for_and_waited_for(asked: Program) -> None:
    answer = asked("submit", "in", "--model", "bright", "--out", "waited", "--flag-at", "0.95", "--wait", "--json")
    assert answer.code == 0, answer.stderr
    job = check("job", answer.stdout)
    assert (job["state"], job["images"]["listed"], job["model"]) == ("succeeded", 4, "bright")
    assert job["out"] == (asked.folder / "waited").as_uri()
    document = json.loads((asked.folder / "waited" / "run.json").read_text())
    assert document["id"] == job["id"]
    assert {key: document["candidates"][key] for key in document["candidates"]} == job["candidates"]
    assert "\r" not in answer.stderr
    for run in (job["id"], "waited", asked.folder / "waited", "./waited"):
        assert status(asked, str(run)) == job
    assert Program(asked.environment, asked.folder / "waited")("status", ".").stdout.splitlines()[0].endswith(job["id"])


def test_without_waiting_the_id_alone_is_on_stdout(asked: Program) -> None:
    answer = asked("submit", "in", "--model", "bright", "--limit", "1")
    assert answer.code == 0, answer.stderr
    assert ID.fullmatch(answer.stdout)
    assert "segsvc status" in answer.stderr
    done = asked("status", answer.stdout.strip(), "--wait")
    assert done.code == 0
    assert "succeeded" in done.stdout and "1 listed" in done.stdout


def test_failed_images_end_with_3_and_are_taken_up_again_when_that_is_asked_for(asked: Program) -> None:
    answer = asked("submit", "some-bad", "--model", "bright", "--out", "bad-out", "--wait")
    assert answer.code == 3, answer.stderr
    assert "1 failed" in answer.stdout
    said = complaint(asked("resume", "bad-out"), 1)
    assert "succeeded" in said and "retry_failed" in said
    (asked.folder / "some-bad" / "bad.png").unlink()
    again = asked("resume", "bad-out", "--retry-failed", "--wait", "--json")
    assert (again.code, check("job", again.stdout)["attempt"]) == (3, 2)


def test_a_run_is_cancelled_and_resumed(asked: Program) -> None:
    run = begun(asked)
    answer = asked("cancel", run)
    assert answer.code == 0 and "cancel" in answer.stdout
    waited = asked("status", run, "--wait")
    assert (waited.code, waited.stdout) == (1, "")
    assert "was cancelled" in waited.stderr and f"segsvc resume {run}" in waited.stderr
    assert check("job", asked("cancel", run, "--json").stdout)["state"] == "cancelled"  # once more changes nothing
    assert asked("resume", run).code == 0
    assert "queued" in (said := complaint(asked("resume", run), 1)) or "running" in said
    assert asked("cancel", run).code == 0


def test_who_is_interrupted_while_waiting_is_told_that_the_run_goes_on(asked: Program) -> None:
    process = asked.start("submit", "many", "--model", "bright", "--wait")
    assert process.stderr is not None
    first = process.stderr.readline()
    run = first.split()[1]
    until(lambda: status(asked, run)["state"] == "running", "the run to begin")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert "goes on" in stderr and f"segsvc cancel {run}" in stderr
    assert status(asked, run)["state"] == "running"
    assert asked("cancel", run).code == 0


def test_runs_are_shown_the_newest_first(asked: Program) -> None:
    runs = [asked("submit", "one", "--model", "bright").stdout.strip() for _ in range(3)]
    lines = asked("runs", "--limit", "2").stdout.splitlines()
    assert lines[0].split() == ["RUN", "STATE", "MODEL", "IMAGES", "REVIEW", "AGE"]
    assert [line.split()[0] for line in lines[1:]] == runs[:0:-1]
    document = check("jobs", asked("runs", "--limit", "2", "--json").stdout)
    assert [item["id"] for item in document["items"]] == runs[:0:-1]
    assert document["next_cursor"] is not None


def test_where_there_are_no_runs_it_is_said_how_to_ask_for_one(segsvc: Program) -> None:
    with started(segsvc) as (_, url):
        answer = segsvc("runs", "--server", url.removesuffix("/review"))
        assert (answer.code, answer.stdout) == (0, "")
        assert "segsvc submit" in answer.stderr
        assert check("jobs", segsvc("runs", "--json", "--server", url.removesuffix("/review") + "/").stdout)["items"] == []


@pytest.mark.parametrize(("harm", "first"), [("refuse", 2), ("lose", 2), ("tear", 1), ("slow_down", 2), ("break", 1),
                                             ("cut", 1), ("overstate", 1)])
def test_an_answer_that_is_lost_doubles_nothing(asked: Program, harm: str, first: int) -> None:
    before = len(check("jobs", asked("runs", "--limit", "1000", "--json").stdout)["items"])
    with bad_network(asked.environment["SEGSVC_SERVER"], seed=1) as network:
        network.set(Weather({harm: 1.0}, only="POST /v1/runs", first=first))
        answer = asked("submit", "one", "--model", "bright", "--server", network.endpoint)
        assert answer.code == 0, answer.stderr
        assert network.harmed("POST") == first
    assert len(check("jobs", asked("runs", "--limit", "1000", "--json").stdout)["items"]) == before + 1
    assert check("jobs", asked("runs", "--limit", "1", "--json").stdout)["items"][0]["id"] == answer.stdout.strip()


def test_an_attempt_is_begun_once_where_the_answer_to_resume_is_lost(asked: Program) -> None:
    run = begun(asked)
    assert asked("cancel", run).code == 0
    asked("status", run, "--wait")
    with bad_network(asked.environment["SEGSVC_SERVER"], seed=1) as network:
        network.set(Weather({"lose": 1.0}, only="POST /v1/runs/[^/]+/resume", first=1))
        answer = asked("resume", run, "--json", "--server", network.endpoint)
    assert (answer.code, check("job", answer.stdout)["attempt"]) == (0, 2)
    assert asked("cancel", run).code == 0


def test_waiting_outlasts_a_server_that_starts_anew(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "in", 1)
    for number in range(400):
        os.link(segsvc.folder / "in" / "scene-00000.png", segsvc.folder / "in" / f"{number:05d}.png")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    with started(segsvc, "--port", port):
        waiting = segsvc.start("submit", "in", "--model", "bright", "--wait", "--json", environment={"SEGSVC_SERVER": url})
        assert waiting.stderr is not None
        waiting.stderr.readline()
    with started(segsvc, "--port", port):
        stdout, stderr = waiting.communicate(timeout=100)
    assert waiting.returncode == 0, stderr
    job = check("job", stdout)
    assert (job["state"], job["images"]["listed"]) == ("succeeded", 401)
    assert job["attempt"] in (1, 2)  # 1: it had only been queued


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (("submit", "nowhere", "--model", "bright"), 2, ("nowhere",)),
    (("submit", "in", "--model", "brigth"), 2, ("'brigth'", "Did you mean 'bright'")),
    (("submit", "in", "--model", "bright", "--accept-at", "0.9"), 2, ("--flag-at",)),
    (("submit", "in", "--model", "bright", "--recall", "0.9"), 2, ("calibration",)),
    (("submit", "in", "--model", "bright", "--recall", "1.5"), 2, ("--recall",)),
    (("submit", "in"), 2, ("--model",)),
    (("status", "0" * 32), 2, ("0" * 32,)),
    (("status", "a b/../c"), 2, ("OUT", "run's folder")),
    (("status", "a%2f?b"), 2, ("a%2f?b",)),
    (("status", os.fsdecode(b"na\xffme")), 2, ("run",)),
    (("status", "in"), 2, ("OUT", "run's folder")),
    (("cancel", "0" * 32), 2, ("0" * 32,)),
    (("resume", "0" * 32), 2, ("0" * 32,)),
    (("cancel", "waited-here"), 1, ("succeeded",)),
])
def test_what_the_server_refuses_is_said_in_a_line_or_two(asked: Program, arguments: tuple[str, ...], code: int,
                                                          words: tuple[str, ...]) -> None:
    if arguments[1] == "waited-here":
        assert asked("submit", "one", "--model", "bright", "--out", "waited-here", "--wait").code == 0
    said = complaint(asked(*arguments), code)
    assert [word for word in words if word not in said] == [], said


@pytest.mark.parametrize(("url", "words"), [
    ("http://127.0.0.1:9", ("segsvc serve", "--server", "refused")),
    ("http://no.such.name.invalid", ("no.such.name.invalid", "--server")),
    ("127.0.0.1:8765", ("http(s)://HOST[:PORT]",)),
    ("ftp://127.0.0.1", ("http(s)://HOST[:PORT]",)),
    ("http://127.0.0.1:99999", ("http(s)://HOST[:PORT]",)),
    ("http://ada:secret@127.0.0.1", ("SEGSVC_TOKEN",)),
    ("http://127.0.0.1/a b", ("http(s)://HOST[:PORT]",)),
    ("", ("http(s)://HOST[:PORT]",)),
])
def test_a_server_that_is_not_there_is_said_to_be_so(segsvc: Program, url: str, words: tuple[str, ...]) -> None:
    said = complaint(segsvc("runs", "--server", url), 2)
    assert [word for word in words if word not in said] == [], said
    assert "secret" not in said


@contextmanager
def answering(status_code: int, body: bytes, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """A server that is none of ours: its address, and the tokens that it was sent."""
    tokens: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers.get("Authorization", ""))
            self.send_response(status_code)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", tokens
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status_code", "body"), [
    (200, b"<html>hello</html>"), (200, b"[]"), (200, b'{"items": 1}'), (404, b"not found"), (401, b"who are you"),
    (403, b'{"message": "no"}'), (405, b""), (200, b"\xff")])
def test_another_server_is_said_to_be_none_of_ours(segsvc: Program, status_code: int, body: bytes) -> None:
    with answering(status_code, body) as (url, _):
        assert f"expected `segsvc serve` at {url}" in complaint(segsvc("runs", "--server", url), 2)


def test_a_token_follows_no_redirection(segsvc: Program) -> None:
    with answering(200, b'{"items": [], "next_cursor": null}') as (elsewhere, tokens), \
            answering(302, b"", Location=elsewhere) as (url, own):
        complaint(segsvc("runs", "--server", url, environment={"SEGSVC_TOKEN": "t0ken"}), 2)
        assert (own, tokens) == (["Bearer t0ken"], [])


def test_what_speaks_no_http_is_none_of_ours(segsvc: Program) -> None:
    class Greeting(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(b"220 mail ready\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Greeting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            said = complaint(segsvc("runs", "--server", f"http://127.0.0.1:{server.server_address[1]}"), 2)
        finally:
            server.shutdown()
            thread.join()
    assert "expected `segsvc serve`" in said


def test_where_users_were_made_a_token_lets_in_and_a_reviewer_may_look_alone(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "in", 1)
    roots = {"SEGSVC_SERVE__ROOTS": json.dumps([str(segsvc.folder)])}
    serving = Program({**segsvc.environment, **roots}, segsvc.folder)
    with started(serving) as (_, url):
        for name, role in (("ada", "admin"), ("rae", "reviewer")):
            assert with_password(segsvc, "users", "add", name, "--role", role).code == 0
        tokens = {name: segsvc("users", "token", name).stdout.strip() for name in ("ada", "rae")}

        def as_(token: str) -> Callable[..., Answer]:
            return lambda *arguments: segsvc(*arguments, environment={
                "SEGSVC_SERVER": url.removesuffix("/review"), "SEGSVC_TOKEN": token})

        submit = ("submit", "in", "--model", "bright", "--out", "out", "--wait")
        for token in ("", "nonsense"):
            said = complaint(as_(token)(*submit), 2)
            assert "segsvc users token" in said and "SEGSVC_TOKEN" in said
        assert "SEGSVC_TOKEN" in complaint(as_("a\u00e9\nb")(*submit), 2)
        assert "expected an admin" in complaint(as_(tokens["rae"])(*submit), 2)
        done = as_(tokens["ada"])(*submit)
        assert done.code == 0, done.stderr
        assert as_(tokens["rae"])("status", "out").code == 0
        assert "in the folders that this server may use" in complaint(
            as_(tokens["ada"])("submit", "/etc", "--model", "bright"), 2)


def test_of_another_machine_a_path_is_absolute(segsvc: Program) -> None:
    said = complaint(segsvc("submit", "in", "--model", "bright", "--server", "http://192.0.2.1"), 2)
    assert "absolute path on the server's machine" in said and "'in'" in said


def test_proxies_do_not_stand_before_this_machine(asked: Program) -> None:
    nowhere = "http://127.0.0.1:9"
    assert asked("runs", environment={"http_proxy": nowhere, "HTTP_PROXY": nowhere}).code == 0


def test_a_reader_that_left_is_no_failure(asked: Program) -> None:
    process = asked.start_anew("runs", "--json")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr as said:
        assert (said.read(), process.wait(60)) == ("", 0)


@pytest.mark.parametrize("command", ["submit", "runs", "status", "cancel", "resume"])
def test_help_loads_nothing_heavy(asked: Program, command: str) -> None:
    probe = ("import atexit, sys\n"
             "names = ('torch', 'ray', 'boto3', 'cv2', 'openvino', 'fastapi', 'numba')\n"
             "atexit.register(lambda: print(*[name for name in names if name in sys.modules], file=sys.stderr))\n"
             f"from segsvc.cli.main import main\nmain([{command!r}, '--help'])")
    done = subprocess.run([sys.executable, "-c", probe], cwd=asked.folder, env=dict(asked.environment),
                          capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "\n")
    assert f"Usage: segsvc {command}" in done.stdout
    assert "--token" not in done.stdout


def test_the_document_is_what_the_route_gives(asked: Program) -> None:
    run = asked("submit", "in", "--model", "bright", "--out", "same", "--wait", "--json")
    job = check("job", run.stdout)
    given = httpx.get(f"{asked.environment['SEGSVC_SERVER']}/v1/runs/{job['id']}", timeout=60).json()
    assert given == job
    assert Path(asked.folder / "same" / "report.html").is_file()
