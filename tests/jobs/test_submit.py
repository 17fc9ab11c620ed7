"""Runs that a server submits to a real Ray cluster: done like any other, also where their jobs are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from jobs import hands
from segsvc.errors import ConfigError
from tests.chaos.outs import NONE, FileOut, differences
from tests.conftest import Program
from tests.jobs.clusters import RayHead, processes_with, ray_head
from tests.postgres_server import new_database, postgres_server
from tests.scenes import write_scenes

MOST_S = 200.0
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def head(environment: dict[str, str], bright: object) -> Iterator[RayHead]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"  # `python` there is this one
    with ray_head({**environment, "PATH": path}, cpus=2) as found:
        yield found


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres_server() as address:
        yield new_database(address)


@contextlib.contextmanager
def served(segsvc: Program, head: RayHead, database: str) -> Iterator[httpx.Client]:
    """A server whose runs go to the cluster."""
    process = segsvc.start("serve", "--port", "0", "--ledger", database, environment={
        "RAY_ADDRESS": head.dashboard, "RAY_AUTH_MODE": "disabled", "SEGSVC_REVIEW__SEED": "1"})
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip().removesuffix("/review")
        assert url, process.stderr.read() if process.stderr else ""
        with httpx.Client(base_url=url, timeout=60) as client:
            yield client
    finally:
        process.kill()
        process.communicate()


def submit(client: httpx.Client, folder: Path, out: str, **more: object) -> str:
    answer = client.post("/v1/runs", json={"input": str(folder / "in"), "model": "bright", "flag_at": 0.5,
                                           "out": str(folder / out), "shard_size": 2, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def until(client: httpx.Client, run_id: str, *states: str) -> dict[str, Any]:
    give_up = time.monotonic() + MOST_S
    while (found := client.get(f"/v1/runs/{run_id}").json())["state"] not in states:
        assert time.monotonic() < give_up, found
        time.sleep(0.2)
    return dict(found)


def test_a_run_goes_to_the_cluster_and_ends_like_one_of_this_machine_though_its_job_is_killed(
        segsvc: Program, head: RayHead, database: str) -> None:
    folder = segsvc.folder
    names = [path.name for path in write_scenes(folder / "in", 300)]
    clean = segsvc("run", folder / "in", "--out", folder / "clean", "--model", "bright", "--flag-at", "0.5",
                   "--shard-size", "2")
    assert clean.code == 0, clean.stderr
    with served(segsvc, head, database) as client:
        run_id = submit(client, folder, "out")
        give_up = time.monotonic() + MOST_S
        while not list((folder / "out").glob("images/part-*.parquet")):
            assert time.monotonic() < give_up, client.get(f"/v1/runs/{run_id}").json()
            time.sleep(0.02)
        jobs = [pid for pid, words in processes_with(str(folder / "out")).items() if "jobs.batch" in words]
        for pid in jobs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert jobs
        ended = until(client, run_id, "succeeded", "failed")
        assert (ended["state"], ended["attempt"]) == ("succeeded", 2), ended
        waiting = client.get("/v1/candidates", params={"run": run_id, "limit": 500}).json()["items"]
        assert len(waiting) == min(500, ended["candidates"]["review"])
    assert differences(FileOut(folder / "out"), FileOut(folder / "clean"), images=names) == NONE


def test_a_job_is_stopped_where_its_run_is_cancelled_and_says_why_where_it_cannot_be_done(
        segsvc: Program, head: RayHead, database: str) -> None:
    folder = segsvc.folder
    write_scenes(folder / "in", 600)
    with served(segsvc, head, database) as client:
        run_id = submit(client, folder, "out")
        until(client, run_id, "running")
        assert client.post(f"/v1/runs/{run_id}/cancel").status_code == 202
        assert until(client, run_id, "cancelled", "succeeded")["state"] == "cancelled"
        spoilt = submit(client, folder, "spoilt", limit=3)
        (folder / "spoilt" / "spec.json").write_text("{}")
        failed = until(client, spoilt, "failed", "succeeded")
        assert failed["state"] == "failed"
        assert "OUT:" in failed["error"] and "holds another run" in failed["error"]


def test_a_cluster_beyond_this_machine_must_ask_who_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    for address in ("http://ray.example:8265", "10.0.0.7:6379", "ray://head:10001"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ConfigError, match="RAY_AUTH_MODE=token"):
            hands.hands(said.append, is_postgres=True)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert len(hands.hands(said.append, is_postgres=False)) == 1
    assert "PostgreSQL" in said[0]
    monkeypatch.delenv("RAY_AUTH_MODE")
    for address in ("http://127.0.0.1:8265", "localhost:6379", "auto", "http://[::1]:8265"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert hands.cluster() == address
        assert len(hands.hands(said.append, is_postgres=True)) == 1
    for address in ("", "local"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert hands.cluster() is None
