"""Runs on a Ray cluster that is there already, with another segsvc of its own: as a user at RAY_ADDRESS sees them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from segsvc.card import ModelCard
from tests.conftest import PLUGINS, Program
from tests.e2e.test_runs import digests
from tests.jobs.clusters import RAY, RayHead, processes_with, ray_head, rays_own
from tests.scenes import write_scenes

ROOT = Path(__file__).parent.parent.parent
ACTOR = "ray::ImageWorker"


@pytest.fixture(scope="module")
def head(environment: dict[str, str], bright: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHead]:
    """A cluster of two CPUs on whose nodes `segsvc` and `jobs` are of another version."""
    other = tmp_path_factory.mktemp("other")
    for package in ("segsvc", "jobs"):
        (other / package).mkdir()
        (other / package / "__init__.py").write_text('__version__ = "0.0.1"\n')
    with ray_head({**environment, "PYTHONPATH": f"{other}{os.pathsep}{PLUGINS}"}, cpus=2) as found:
        yield found


def run(*more: str, out: str = "out", source: str = "in") -> tuple[str, ...]:
    return ("run", source, "--model", "bright", "--out", out, "--executor", "ray", "--threads", "1", *more)


def cluster_says(head: RayHead, ray_version: str) -> str:
    """Makes the cluster tell those who join that it is of that version; of which it was before."""
    change = ("import json, sys\nfrom ray._common.usage.usage_constants import CLUSTER_METADATA_KEY as KEY\n"
              "from ray._private.ray_constants import KV_NAMESPACE_CLUSTER as SPACE\nfrom ray._raylet import GcsClient\n"
              "store = GcsClient(address=sys.argv[1])\nsaid = json.loads(store.internal_kv_get(KEY, SPACE))\n"
              "other = {**said, 'ray_version': sys.argv[2]}\n"
              "store.internal_kv_put(KEY, json.dumps(other).encode(), True, SPACE)\nprint(said['ray_version'])\n")
    done = subprocess.run([sys.executable, "-c", change, head.address, ray_version], capture_output=True, text=True,
                          timeout=60, check=True)
    return done.stdout.strip()


def test_the_package_is_brought_to_nodes_that_have_another_and_the_parts_are_those_of_inline(
        segsvc: Program, head: RayHead) -> None:
    write_scenes(segsvc.folder / "in", 12)
    assert segsvc("run", "in", "--model", "bright", "--out", "inline", "--shard-size", "4").code == 0
    answer = segsvc(*run("--shard-size", "4", "--json"), environment=head.joined)
    assert answer.code == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert (document["workers"], document["threads"]) == (2, 1)  # by the cluster's CPUs
    assert digests(segsvc.folder / "out") == digests(segsvc.folder / "inline")
    assert rays_own(answer.stderr) == []


def test_the_workers_code_then_lies_where_ray_puts_what_is_brought(
        environment: dict[str, str], head: RayHead, tmp_path: Path) -> None:
    look = ("import ray, sys\nfrom jobs.cluster import Wanted, bring_code, join, prepare\n"
            "wanted = Wanted(sys.argv[1], '.')\nprepare(wanted)\njoin(wanted)\n"
            "def where():\n    import jobs.actors, segsvc\n    return segsvc.__file__, jobs.actors.__file__\n"
            "bring_code(wanted)\nprint('\\n'.join(ray.get(ray.remote(where).remote())))\n")
    done = subprocess.run([sys.executable, "-c", look, head.address], cwd=tmp_path, env={**environment, **head.joined},
                          capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert [str(head.folder / "ray") in line and "/runtime_resources/" in line for line in done.stdout.split()] == [
        True, True], done.stdout


def test_an_actor_that_is_killed_is_replaced_and_nothing_is_lost(segsvc: Program, head: RayHead) -> None:
    write_scenes(segsvc.folder / "in", 40)
    assert segsvc("run", "in", "--model", "bright", "--out", "whole", "--shard-size", "2").code == 0
    process = segsvc.start_anew(*run("--shard-size", "2", "--workers", "1"), environment=head.joined)
    deadline = time.monotonic() + 100
    while not list((segsvc.folder / "out" / "images").glob("part-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    actors = [pid for pid, command in processes_with(str(head.folder)).items() if command.startswith(ACTOR)]
    os.kill(actors[0], signal.SIGKILL)
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    assert digests(segsvc.folder / "out") == digests(segsvc.folder / "whole")


def test_an_image_that_kills_its_actor_is_quarantined_and_the_rest_is_done(segsvc: Program, head: RayHead) -> None:
    write_scenes(segsvc.folder / "in", 6)
    (segsvc.folder / "in" / "scene-00002b.png").write_bytes(b"CRASHER:segv")
    answer = segsvc(*run("--workers", "1", "--shard-size", "3"), environment=head.joined)
    assert answer.code == 3, answer.stderr
    document = json.loads((segsvc.folder / "out" / "run.json").read_text())
    assert document["images"] == {"listed": 7, "done": 6, "empty": 0, "failed": 0, "quarantined": 1}
    failure = json.loads((segsvc.folder / "out" / "failures.jsonl").read_text())
    assert failure["image_uri"].endswith("/scene-00002b.png")
    assert "died, each time it was tried" in failure["error"]


def test_workers_that_get_no_resources_end_the_run_with_what_was_asked_and_what_there_is(
        segsvc: Program, head: RayHead) -> None:
    write_scenes(segsvc.folder / "in", 1)
    answer = segsvc(*run("--workers", "1"), environment={
        **head.joined, "SEGSVC_RAY__CPUS_PER_WORKER": "3", "SEGSVC_RAY__START_TIMEOUT_S": "15"})
    assert answer.code == 1, answer.stderr
    assert "expected resources for 1 worker of 3 CPUs each within 15 s, got none: the cluster has 2 CPUs" in answer.stderr


def test_a_driver_from_outside_works_through_the_clusters_door(segsvc: Program, head: RayHead) -> None:
    write_scenes(segsvc.folder / "in", 2)
    answer = segsvc(*run("--workers", "1"), environment={"RAY_ADDRESS": head.client})
    assert answer.code == 0, answer.stderr
    assert json.loads((segsvc.folder / "out" / "run.json").read_text())["images"]["done"] == 2


def test_a_submitted_job_brings_the_package_and_prints_run_json(segsvc: Program, head: RayHead) -> None:
    write_scenes(segsvc.folder / "in", 3)
    spec = {"input": str(segsvc.folder / "in"), "model": "bright", "out": str(segsvc.folder / "out"), "threads": 1}
    brought = {"py_modules": [str(ROOT / name) for name in ("segsvc", "jobs", "review_ui")]}
    done = subprocess.run(
        [RAY, "job", "submit", "--address", head.dashboard, "--runtime-env-json", json.dumps(brought), "--",
         sys.executable, "-m", "jobs.batch", json.dumps(spec)],
        env={**segsvc.environment, "RAY_AUTH_MODE": "disabled"}, cwd=segsvc.folder, capture_output=True, text=True,
        timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((segsvc.folder / "out" / "run.json").read_text())["images"]["done"] == 3
    assert '"state": "succeeded"' in done.stdout


def test_a_cluster_of_another_version_is_refused_with_both_versions_before_any_work(
        segsvc: Program, head: RayHead) -> None:
    write_scenes(segsvc.folder / "in", 1)
    ours = cluster_says(head, "2.44.1")
    try:
        answer = segsvc(*run(), environment=head.joined)
    finally:
        cluster_says(head, ours)
    assert answer.code == 2, answer.stderr
    assert f"expected a cluster of Ray {ours} and Python 3." in answer.stderr
    assert f"the one at {head.address} is of Ray 2.44.1 and Python 3." in answer.stderr
    assert len(answer.stderr.splitlines()) <= 2
    assert not (segsvc.folder / "out").exists()
