"""The bad network as tests use it: the proxy as a process of its own, and what it was told and did."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.chaos.proxy import CONTROL, Harm, Weather

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0


def until(condition: Callable[[], bool], what: str, *, patience_s: float = PATIENCE_S, every_s: float = 0.005) -> None:
    """Returns once the condition holds. Raises TimeoutError that says what was waited for."""
    give_up = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"waited {patience_s:g} s for {what}")
        time.sleep(every_s)


class Network:
    """A proxy that runs: `endpoint` is where clients go instead of to the server."""

    def __init__(self, port: int) -> None:
        self._port = port

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def set(self, weather: Weather) -> None:
        """From now on; what was held goes on."""
        self._ask("PUT", json.dumps(asdict(weather)))

    @property
    def held(self) -> list[str]:
        """The requests that wait now, as `METHOD /path?query`."""
        found: list[str] = self._ask("GET")["held"]
        return found

    @property
    def did(self) -> dict[str, int]:
        """How often what was done to which method, such as `GET refuse`; `GET asked` are all requests."""
        found: dict[str, int] = self._ask("GET")["did"]
        return found

    def harmed(self, method: str | None = None) -> int:
        """How many requests met harm."""
        return sum(count for name, count in self.did.items()
                   if name.split()[1] in set(Harm) and method in (None, name.split()[0]))

    def _ask(self, method: str, body: str | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, CONTROL, body, {"Connection": "close"})
            told: dict[str, Any] = json.loads(connection.getresponse().read())
            return told
        finally:
            connection.close()


@contextmanager
def bad_network(endpoint: str, *, seed: int) -> Iterator[Network]:
    """A network that is good until its weather is set, in front of the server at `endpoint`."""
    process = subprocess.Popen([sys.executable, "-m", "tests.chaos.proxy", "--to", urlsplit(endpoint).netloc, "--seed",
                                str(seed)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None:
            raise RuntimeError("expected a pipe")
        with process.stdout as said:
            yield Network(int(said.readline()))
    finally:
        process.kill()
        process.wait()
