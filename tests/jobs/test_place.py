"""Where Ray computes: addresses, what nodes are filled with, and which settings travel."""

from __future__ import annotations

import json
import re
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest

from jobs.cluster import Node, Wanted, fingerprinter, join
from jobs.place import connected, ray_folder, spread, travelling
from segsvc.errors import ConfigError
from segsvc.settings import S3Settings, Settings


@pytest.mark.parametrize(("nodes", "workers", "threads", "expected"), [
    ([Node(4, 0)], None, None, (1, 4)),
    ([Node(16, 0), Node(32, 0)], None, None, (6, 8)),
    ([Node(12, 0)], None, None, (2, 6)),  # in equal parts: none of its cores is left over
    ([Node(0, 0), Node(8, 0)], None, None, (1, 8)),  # a head that takes no work
    ([Node(8, 0)], None, 3, (2, 3)),
    ([Node(8, 0)], 4, None, (4, 2)),
    ([Node(8, 0), Node(8, 0)], 1, None, (1, 8)),
    ([Node(2, 0)], 5, 7, (5, 7)),
    ([], None, None, (1, 1)),  # one that grows when it is asked
])
def test_workers_and_threads_fill_the_cores_of_the_nodes(
        nodes: list[Node], workers: int | None, threads: int | None, expected: tuple[int, int]) -> None:
    assert spread(nodes, workers, threads, cpus=None, gpus=0) == expected


@pytest.mark.parametrize(("nodes", "gpus", "cpus", "expected"), [
    ([Node(16, 2), Node(64, 0)], 1, None, (2, 8)),  # nodes without a GPU are left out
    ([Node(16, 1)], 0.5, None, (2, 8)),
    ([Node(16, 1)], 0.25, 1, (4, 4)),
    ([Node(2, 4)], 1, None, (2, 1)),  # a GPU without a core beside it is of no use
])
def test_workers_take_gpus_or_fractions_of_them_with_the_cores_beside(
        nodes: list[Node], gpus: float, cpus: float | None, expected: tuple[int, int]) -> None:
    assert spread(nodes, None, None, cpus=cpus, gpus=gpus) == expected


@pytest.mark.parametrize("address", ["10.0.0.1", "http://10.0.0.1:8265", "ray://10.0.0.1", "10.0.0.1:99999", "a b:c"])
def test_an_address_that_is_none_is_answered_with_the_form_of_one(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match=re.escape(f"expected HOST:PORT of a cluster's head (port 6379 by default) or "
                                                    f"ray://HOST:10001, got {address!r}")), connected(print):
        pass


def test_a_cluster_out_of_reach_is_said_with_the_version_that_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound and not listening: nothing else can listen there
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ConfigError, match=rf"expected a cluster of Ray 2\.\d+\.\d+ at {address}, got: Connection "
                                              "refused. Without RAY_ADDRESS a local one is started"), connected(print):
            pass


def test_settings_of_the_stores_travel_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSVC_S3__REGION", "eu-north-1")
    monkeypatch.setenv("SEGSVC_S3__ANONYMOUS", "true")
    monkeypatch.setenv("SEGSVC_IMAGE_TIMEOUT_S", "7")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    sent = travelling(Settings())
    assert {name: json.loads(value) for name, value in sent.items()} == {
        "SEGSVC_S3": {"region": "eu-north-1", "anonymous": True}}
    for name in ("SEGSVC_S3__REGION", "SEGSVC_S3__ANONYMOUS"):
        monkeypatch.delenv(name)
    for name, value in sent.items():
        monkeypatch.setenv(name, value)
    assert Settings().s3 == S3Settings(region="eu-north-1", anonymous=True)


def test_the_settings_for_ray_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSVC_RAY__GPUS_PER_WORKER", "0.25")
    monkeypatch.setenv("SEGSVC_RAY__RUNTIME_ENV", '{"pip": ["segsvc-jpeg2000"]}')
    values = Settings()
    assert (values.ray.gpus_per_worker, values.ray.cpus_per_worker) == (0.25, None)
    assert values.ray.runtime_env == {"pip": ["segsvc-jpeg2000"]}


def test_the_files_of_runs_that_were_killed_are_swept_and_those_of_runs_that_live_are_not(
        monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        dead = Path(place, "segsvc-ray-dead")
        dead.mkdir()
        (dead / "held").touch()
        with ray_folder() as first, ray_folder() as second:
            assert sorted(Path(place).iterdir()) == sorted([first, second])
        assert list(Path(place).iterdir()) == []


def test_the_fingerprint_of_the_code_is_the_same_each_time_and_sent_by_value() -> None:
    from ray import cloudpickle

    function = fingerprinter()
    assert re.fullmatch("[0-9a-f]{64}", function())
    assert function() == fingerprinter()()
    dumps: Any = cloudpickle.dumps
    assert b"rglob" in dumps(function)  # its code, not its name


def test_a_head_that_crashes_the_process_for_a_client_is_asked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    crashed = ConnectionAbortedError("Initialization failure from server:\nStarting Ray client server failed. See x")
    came: list[ConnectionError | None] = [crashed, None]
    asked: list[dict[str, Any]] = []

    def init(**arguments: Any) -> None:
        asked.append(arguments)
        if (error := came.pop(0)) is not None:
            raise error

    monkeypatch.setattr(ray, "init", init)
    join(Wanted("ray://127.0.0.1:10001", "."))
    assert [each["address"] for each in asked] == ["ray://127.0.0.1:10001"] * 2
    came = [crashed, crashed]
    with pytest.raises(ConfigError, match="started no process for a client from outside") as caught:
        join(Wanted("ray://127.0.0.1:10001", "."))
    assert "GRPC_ENABLE_FORK_SUPPORT=0" in str(caught.value)
    came = [ConnectionError("no route")]
    with pytest.raises(ConfigError, match=r"could not join the cluster at ray://127\.0\.0\.1:10001: no route"):
        join(Wanted("ray://127.0.0.1:10001", "."))
