"""Runs that a server submits to a real Ray cluster: done like any other, also where their jobs are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from jobs import hands
from segsvc.errors import ConfigError
from tests.chaos.outs import NONE, FileOut, differences, numbers
from tests.conftest import Program
from tests.jobs.clusters import RayHead, processes_with, ray_head
from tests.postgres_server import new_database, postgres_server
from tests.scenes import write_scenes

MOST_S = 250.0
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
def served(segsvc: Program, head: RayHead, database: str, **settings: str) -> Iterator[httpx.Client]:
    """A server whose runs go to the cluster."""
    process = segsvc.start("serve", "--port", "0", "--ledger", database, environment={
        "RAY_ADDRESS": head.dashboard, "RAY_AUTH_MODE": "disabled", "SEGSVC_REVIEW__SEED": "1", **settings})
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


def names_of(scenes: Path) -> list[str]:
    return sorted(path.name for path in (scenes / "in").iterdir())


def until(client: httpx.Client, run_id: str, *states: str) -> dict[str, Any]:
    give_up = time.monotonic() + MOST_S
    while (found := client.get(f"/v1/runs/{run_id}").json())["state"] not in states:
        assert time.monotonic() < give_up, found
        time.sleep(0.2)
    return dict(found)


@pytest.fixture(scope="module")
def scenes(environment: dict[str, str], bright: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 images in `in`, and their run on this machine in `clean`."""
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder / "in", 300)
    clean = Program(environment, folder)("run", folder / "in", "--out", folder / "clean", "--model", "bright", "--flag-at",
                                         "0.5", "--shard-size", "2")
    assert clean.code == 0, clean.stderr
    return folder


def jobs_of(folder: Path, part: str = "") -> list[int]:
    """The processes of that run's jobs, whose command line holds `part`."""
    return [pid for pid, words in processes_with(str(folder)).items() if "jobs.batch" in words and part in words]


def kill(processes: list[int]) -> None:
    assert processes
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for(there: Callable[[], object]) -> None:
    give_up = time.monotonic() + MOST_S
    while not there():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_large_run_is_several_jobs_and_ends_like_one_of_this_machine_though_one_of_them_is_killed(
        segsvc: Program, head: RayHead, database: str, scenes: Path) -> None:
    out = scenes / "out"
    with served(segsvc, head, database, SEGSVC_RAY__IMAGES_PER_JOB="200") as client:
        run_id = submit(client, scenes, "out")
        wait_for(lambda: jobs_of(out, '"first":100'))
        kill(jobs_of(out, '"first":100'))  # this stretch alone is submitted again
        ended = until(client, run_id, "succeeded", "failed")
        assert (ended["state"], ended["attempt"], ended["images"]["done"]) == ("succeeded", 1, 300), ended
        waiting = client.get("/v1/candidates", params={"run": run_id, "limit": 500}).json()["items"]
        assert len(waiting) == min(500, ended["candidates"]["review"])
    assert differences(FileOut(out), FileOut(scenes / "clean"), images=names_of(scenes)) == NONE


@pytest.mark.skipif("CHAOS_KILLS" not in os.environ, reason="takes some minutes: `make chaos`")
@pytest.mark.timeout(1200)
def test_a_run_ends_though_its_first_job_is_killed_and_then_the_clusters_head_which_is_started_again(
        segsvc: Program, head: RayHead, database: str, scenes: Path) -> None:
    out = scenes / "headless"
    with served(segsvc, head, database, SEGSVC_RAY__IMAGES_PER_JOB="90", SEGSVC_RAY__JOBS_AT_ONCE="2",
                SEGSVC_RAY__CPUS_PER_WORKER="1", SEGSVC_RAY__AWAY_S="2") as client:
        run_id = submit(client, scenes, "headless")
        wait_for(lambda: numbers(FileOut(out), "images"))
        kill(jobs_of(out))  # as it begins the run, that is a new attempt
        wait_for(lambda: numbers(FileOut(out), "images") & set(range(45, 150)))
        assert not numbers(FileOut(out), "images") >= set(range(150))
        head.kill()
        wait_for(lambda: client.get(f"/v1/runs/{run_id}").json()["attempt"] == 3)
        head.start()
        ended = until(client, run_id, "succeeded", "failed")
        assert (ended["state"], ended["attempt"], ended["images"]["done"]) == ("succeeded", 3, 300), ended
    assert differences(FileOut(out), FileOut(scenes / "clean"), images=names_of(scenes)) == NONE


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
