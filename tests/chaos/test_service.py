"""Runs that were submitted, while the server, the processes of runs and their workers are killed: none is lost or stuck.

A few kills in `make test`; `make chaos` sets CHAOS_KILLS. The table is CHAOS_SERVICE_TABLE (build/chaos-service.json).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.chaos.family import Family
from tests.chaos.outs import NONE, FileOut, differences
from tests.conftest import Program
from tests.scenes import write_scenes

KILLS = int(os.environ.get("CHAOS_KILLS", "0")) // 2 or 4
TABLE = Path(os.environ.get("CHAOS_SERVICE_TABLE", "build/chaos-service.json"))
IMAGES, MOST_S = 240, 180.0
ASKED = {"model": "bright", "flag_at": 0.5, "shard_size": 2}
VICTIMS = ("server", "run", "worker")
pytestmark = pytest.mark.timeout(300 + 40 * KILLS)


@dataclass(slots=True)
class Server:
    """`segsvc serve` on one port and ledger, started again after every death. more: further flags and environment."""

    segsvc: Program
    port: int
    more: tuple[str | Path, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    family: Family = field(default_factory=Family)
    process: subprocess.Popen[str] | None = None
    reader: threading.Thread | None = None
    starts: int = 0

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self.starts += 1
        self.process = self.segsvc.start_anew(
            "serve", "--port", str(self.port), *self.more, environment={
                **self.family.environment, "SEGSVC_SERVE__LEASE_S": "1", "SEGSVC_REVIEW__SEED": "1", **self.environment})
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("http://")
        assert self.process.stderr is not None
        self.reader = threading.Thread(target=self.process.stderr.read, daemon=True)  # a pipe that is full would stop it
        self.reader.start()

    def ask(self, method: str, path: str, **more: object) -> httpx.Response:
        """The answer, however often the server must be asked until it is there again."""
        give_up = time.monotonic() + MOST_S
        while True:
            try:
                return httpx.request(method, f"http://127.0.0.1:{self.port}{path}", timeout=30, **more)  # type: ignore[arg-type]
            except httpx.TransportError:
                assert time.monotonic() < give_up, "the server does not come back"
                if self.process is not None and self.process.poll() is not None:
                    self.start()
                time.sleep(0.05)

    def children(self, of: int) -> list[int]:
        """Processes that this one started and that live; not those that only look after resources."""
        found = []
        for process in self.family.living():
            with contextlib.suppress(OSError):
                parent = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])
                if parent == of and any("spawn_main" in word for word in process.words):
                    found.append(process.pid)
        return found

    def kill(self, victim: str, draw: random.Random) -> bool:
        """Kills one of these now; False where there is none at the moment."""
        assert self.process is not None
        pids = [self.process.pid]
        if victim != "server":
            pids = self.children(self.process.pid)
        if victim == "worker":
            pids = [worker for pid in pids for worker in self.children(pid)]
        if not pids:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(draw.choice(sorted(pids)), signal.SIGKILL)
        if victim == "server":
            self.end()
            self.start()
        return True

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.family.end()
        if self.process is not None and self.reader is not None:
            self.reader.join()
            for pipe in (self.process.stdout, self.process.stderr):
                assert pipe is not None
                pipe.close()


@pytest.fixture
def server(segsvc: Program) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = Server(segsvc, port)
    found.start()
    yield found
    found.end()


def submit(server: Server, folder: Path, key: str) -> str:
    answer = server.ask("POST", "/v1/runs", json={"input": str(folder / "in"), "out": str(folder / key), **ASKED},
                        headers={"Idempotency-Key": key})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def state(server: Server, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = server.ask("GET", f"/v1/runs/{run_id}").json()
    return found


def has_gone_on(server: Server, run_id: str) -> bool:
    """Waits until an image more has ended; False where the run is over."""
    before, give_up = ended_images(state(server, run_id)), time.monotonic() + MOST_S
    while (found := state(server, run_id))["state"] in ("queued", "running"):
        if ended_images(found) > before:
            return True
        assert time.monotonic() < give_up, f"stuck: {found}"
        time.sleep(0.02)
    return False


def ended_images(found: dict[str, Any]) -> int:
    return sum(found["images"][name] for name in ("done", "empty", "failed", "quarantined"))


def wait_for(server: Server, run_id: str) -> dict[str, Any]:
    give_up = time.monotonic() + MOST_S
    while (found := state(server, run_id))["state"] in ("queued", "running"):
        assert time.monotonic() < give_up, f"stuck: {found}"
        time.sleep(0.1)
    return found


def test_whatever_is_killed_every_run_that_was_accepted_ends_like_a_clean_one(
        server: Server, segsvc: Program, bright: object) -> None:
    folder, draw, killed = segsvc.folder, random.Random(KILLS), Counter[str]()
    names = [path.name for path in write_scenes(folder / "in", IMAGES)]
    clean = segsvc("run", folder / "in", "--out", folder / "clean", "--model", "bright", "--flag-at", "0.5",
                   "--shard-size", "2")
    assert clean.code == 0, clean.stderr
    runs: dict[str, str] = {}
    in_a_row = 0  # kills before any image ended: too many of them end a run, and rightly so
    while killed.total() < KILLS:
        if not runs or state(server, runs[list(runs)[-1]])["state"] not in ("queued", "running"):
            key = f"out-{len(runs)}"
            runs[key] = submit(server, folder, key)
        in_a_row = in_a_row + 1 if draw.random() < 0.3 and in_a_row < 2 else 0
        if not in_a_row and not has_gone_on(server, runs[list(runs)[-1]]):
            continue  # it has ended: the next one
        time.sleep(draw.uniform(0, 0.6))
        victim = draw.choice(VICTIMS)
        killed[victim] += server.kill(victim, draw)
    wrong, attempts = {}, 0
    for key, run_id in runs.items():
        ended = wait_for(server, run_id)
        attempts += ended["attempt"]
        if ended["state"] != "succeeded":
            wrong[key] = (ended, NONE)
            continue
        found = differences(FileOut(folder / key), FileOut(folder / "clean"), images=names)
        if found != NONE or reviewed(server, run_id) != ended["candidates"]["review"]:
            wrong[key] = (ended, found)
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(json.dumps({
        "kills": killed.total(), "by_victim": killed, "runs": len(runs), "attempts": attempts, "servers": server.starts,
        "wrong": {key: str(each) for key, each in wrong.items()}}, indent=2) + "\n")
    assert not wrong


def reviewed(server: Server, run_id: str) -> int:
    """How many candidates of the run wait for a person; none stands twice in the ledger."""
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = server.ask("GET", "/v1/candidates", params={"run": run_id, "band": "review", "limit": 500,
                                                           **({"cursor": cursor} if cursor else {})}).json()
        ids += [each["candidate_id"] for each in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            assert len(set(ids)) == len(ids)
            return len(ids)
