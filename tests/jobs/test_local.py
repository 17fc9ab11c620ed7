"""Runs on a Ray cluster of the run's own: what comes out, what is said, and that nothing is left of it."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.e2e.test_runs import digests, run_json
from tests.jobs.clusters import processes_with, rays_own
from tests.scenes import write_scenes

COMMAND = ("run", "in", "--model", "bright", "--out", "out", "--executor", "ray", "--shard-size", "2", "--threads", "1")


def left_in(folder: Path) -> tuple[dict[int, str], list[Path]]:
    """The processes that know of this folder, which is TMPDIR of the program, and the files in it."""
    deadline = time.monotonic() + 60  # Ray's agents see after some seconds that their raylet is gone
    while (processes := processes_with(f"TMPDIR={folder}")) and time.monotonic() < deadline:
        time.sleep(0.1)
    return processes, list(folder.iterdir())


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for temporary files with a path that is short enough for Ray's sockets; nothing may be left in it."""
    folder = Path(tempfile.mkdtemp(prefix="segsvc-test-"))
    yield folder
    folder.rmdir()


def test_ray_without_a_cluster_publishes_the_parts_of_inline_and_leaves_nothing(segsvc: Program, short: Path) -> None:
    write_scenes(segsvc.folder / "in", 12)
    assert segsvc("run", "in", "--model", "bright", "--out", "inline", "--shard-size", "2").code == 0
    answer = segsvc(*COMMAND, "--workers", "2", "--json", environment={"TMPDIR": str(short), "RAY_ADDRESS": ""})
    assert answer.code == 0, answer.stderr
    assert json.loads(answer.stdout)["workers"] == 2
    assert digests(segsvc.folder / "out") == digests(segsvc.folder / "inline")
    assert rays_own(answer.stderr) == []
    assert left_in(short) == ({}, [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_what_is_kept_and_leaves_nothing(
        segsvc: Program, short: Path, number: signal.Signals) -> None:
    write_endless(segsvc.folder / "in")
    process = segsvc.start_anew(*COMMAND, "--workers", "1", environment={"TMPDIR": str(short), "RAY_ADDRESS": ""})
    wait_for_a_part(segsvc.folder / "out")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "finished and kept" in stderr
    assert "Traceback" not in stderr
    assert run_json(segsvc.folder / "out")["state"] == "cancelled"
    assert left_in(short) == ({}, [])


def test_a_run_whose_cluster_loses_its_head_ends_with_one_line_and_can_go_on(segsvc: Program, short: Path) -> None:
    write_endless(segsvc.folder / "in")
    process = segsvc.start_anew(*COMMAND, "--workers", "1", environment={
        "TMPDIR": str(short), "RAY_ADDRESS": "", "RAY_gcs_rpc_server_reconnect_timeout_s": "1"})
    wait_for_a_part(segsvc.folder / "out")
    heads = [pid for pid, command in processes_with(f"TMPDIR={short}").items() if "gcs_server" in command]
    os.kill(heads[0], signal.SIGKILL)
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 1, stderr
    last = [line for line in stderr.splitlines() if line.startswith("segsvc: ")]
    assert len(last) == 1
    assert "the Ray cluster is gone" in last[0]
    assert "the same command goes on" in last[0]
    assert run_json(segsvc.folder / "out")["state"] == "failed"
    assert left_in(short) == ({}, [])


def write_endless(folder: Path) -> None:
    """Images of which the last takes for ever."""
    write_scenes(folder, 6)
    (folder / "zz.png").write_bytes(b"CRASHER:hang")


def wait_for_a_part(out: Path) -> None:
    deadline = time.monotonic() + 100
    while not list((out / "images").glob("part-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
