"""The bad network does the harm that it says, and nothing else."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.chaos.network import Network, bad_network, until
from tests.chaos.proxy import Harm, Weather

BODY = bytes(range(250)) * 4


class Server(ThreadingHTTPServer):
    """Remembers what reached it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str, bytes]] = []  # method, Host, body


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self._answer(BODY)

    def do_PUT(self) -> None:
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        length = int(self.headers.get("Content-Length", 0))
        came = self.rfile.read(length)
        self.server.seen.append((self.command, self.headers["Host"], came))
        if len(came) == length:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def network(server: Server) -> Iterator[Network]:
    with bad_network(f"http://127.0.0.1:{server.server_port}", seed=1) as network:
        yield network


def asked(network: Network, method: str = "GET", path: str = "/a", body: bytes | None = None) -> tuple[int, bytes] | str:
    """Status and body, or the name of what went wrong."""
    with closing(http.client.HTTPConnection(network.endpoint.removeprefix("http://"), timeout=0.5)) as connection:
        try:
            connection.request(method, path, body, {"Host": "bucket.example.org:99"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__


def test_in_good_weather_everything_passes_as_it_came(server: Server, network: Network) -> None:
    assert asked(network) == (200, BODY)
    assert asked(network, "PUT", body=BODY) == (200, b"")
    assert server.seen == [("GET", "bucket.example.org:99", b""), ("PUT", "bucket.example.org:99", BODY)]
    assert network.harmed() == 0


@pytest.mark.parametrize(("harm", "get", "put", "carried_out"), [
    (Harm.REFUSE, "ConnectionResetError", "ConnectionResetError", 0),
    (Harm.TEAR, "ConnectionResetError", "ConnectionResetError", 1),
    (Harm.LOSE, "ConnectionResetError", "ConnectionResetError", 2),
    (Harm.FAIL, 500, 500, 2),
    (Harm.SLOW_DOWN, 503, 503, 0),
    (Harm.BREAK, "ConnectionResetError", 200, 2),
    (Harm.CUT, "IncompleteRead", 200, 2),
    (Harm.UNDERSTATE, (200, BODY[:500]), 200, 2),
    (Harm.OVERSTATE, "IncompleteRead", 200, 2),
    (Harm.STALL, "TimeoutError", 200, 2),
])
def test_each_harm_does_what_it_says_and_is_counted(server: Server, network: Network, harm: Harm, get: object, put: object,
                                                    carried_out: int) -> None:
    network.set(Weather(harms={harm: 1.0}, first=1))
    for method, expected, body in (("GET", get, None), ("PUT", put, BODY)):
        came = asked(network, method, body=body)
        assert came == expected or came[0] == expected
        counted = Harm.REFUSE if harm is Harm.TEAR and body is None else harm  # there is no body to tear
        assert network.did.get(f"{method} {counted}", 0) == (0 if expected == 200 else 1)
    until(lambda: len(server.seen) >= carried_out, "the server to see what was carried out", patience_s=5)
    assert len(server.seen) == carried_out
    assert asked(network) == (200, BODY)  # asked again: only the first time was to be harmed


def test_a_torn_request_reaches_the_server_in_part(server: Server, network: Network) -> None:
    network.set(Weather(harms={Harm.TEAR: 1.0}))
    assert asked(network, "PUT", body=BODY) == "ConnectionResetError"
    until(lambda: bool(server.seen), "the server to see its part", patience_s=5)
    assert BODY.startswith(server.seen[0][2])
    assert len(server.seen[0][2]) < len(BODY)


def test_the_same_seed_does_the_same_harm_to_the_same_requests_in_any_order(server: Server) -> None:
    weather = Weather(harms={Harm.SLOW_DOWN: 0.3, Harm.FAIL: 0.2})
    paths = [f"/{number}" for number in range(30)]
    met = []
    for seed, order in ((1, paths), (1, paths[::-1]), (2, paths)):
        with bad_network(f"http://127.0.0.1:{server.server_port}", seed=seed) as network:
            network.set(weather)
            answers = {path: asked(network, path=path)[0] for path in order}
            met.append([answers[path] for path in paths])
            assert network.harmed() == sum(answer != 200 for answer in answers.values())
    assert met[0] == met[1]
    assert met[0] != met[2]
    assert {200, 500, 503} == set(met[0])


def test_what_is_held_waits_until_the_weather_changes(server: Server, network: Network) -> None:
    network.set(Weather(hold="PUT /held", hold_most=1))
    answers: list[object] = []
    waiting = threading.Thread(target=lambda: answers.append(asked(network, "PUT", "/held", BODY)))
    waiting.start()
    until(lambda: network.held == ["PUT /held"], "the request to be held", patience_s=5)
    assert asked(network, "PUT", "/held", b"later") == (200, b"")  # one alone is held
    network.set(Weather())
    waiting.join()
    until(lambda: len(server.seen) == 2, "the held request to pass", patience_s=5)
    assert [body for _, _, body in server.seen] == [b"later", BODY]
