"""Where a run by Ray is computed: the cluster at RAY_ADDRESS, else one of this machine's own for the length of the run."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from jobs.cluster import Node, Wanted
from jobs.executor import Actors, Driver
from segsvc.asking import Place, Say
from segsvc.card import describe
from segsvc.claims import Desk, WorkerSpec
from segsvc.errors import ConfigError
from segsvc.models.library import Model
from segsvc.settings import RuntimeChoice, Settings
from segsvc.types import Runtime

_OLDEST = (2, 56)  # before it, Ray unpickled what it read from files
_REACH_S = 5.0
_CORES_PER_WORKER = 8  # beyond, one process's threads wait for each other
_LONGEST_FOLDER = 40  # of a temporary folder: Ray puts sockets there, whose paths may have 107 bytes
_TRAVELLING = ("s3", "s3_buckets")  # settings that nodes need; they hold no secret


class RaySettings(Settings):
    """What may be set for Ray; read as all other settings are."""

    ray_gpus_per_worker: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="GPUs, or a fraction of one, that each worker takes; by default 1 with torch-cuda, else 0")
    ray_cpus_per_worker: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="CPUs that each worker takes; by default as many as it has threads")
    ray_start_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=300.0, description="how long workers may wait for a cluster's resources before the run gives up")
    ray_runtime_env: dict[str, Any] = Field(
        default={}, description="Ray's runtime_env for the workers, as JSON; ours is merged with it")


@cache
def ray_settings() -> RaySettings:
    """The settings in force, read once. Raises ConfigError that names the setting, what was expected and what came."""
    try:
        return RaySettings()
    except ValidationError as error:
        raise ConfigError(f"settings (environment SEGSVC_*): {describe(error)}") from error


class RayPlace(Place):
    """A cluster, or this machine by a cluster of its own."""

    def __init__(self, wanted: Wanted, driver: Driver | None, nodes: Sequence[Node], say: Say) -> None:
        self._wanted = wanted
        self._driver = driver  # of a cluster that is there; None for one that is started when the run needs it
        self._nodes = nodes
        self._say = say
        self._settings = ray_settings()

    def spread(self, workers: int | None, threads: int | None, runtime: Runtime) -> tuple[int, int]:
        """Workers and threads of each: what was asked for, and for the rest all of the cluster's GPUs, or cores."""
        if self._driver is None:
            return super().spread(workers, threads, runtime)
        return spread(self._nodes, workers, threads, cpus=self._settings.ray_cpus_per_worker, gpus=self._gpus(runtime))

    def runtime(self, model: Model, choice: RuntimeChoice, say: Say) -> Runtime:
        """CUDA where the cluster has GPUs; else what this machine would take without one. Converts the model for it.

        Raises ConfigError where torch-cuda was named and no node has a GPU.
        """
        if self._driver is None:
            return super().runtime(model, choice, say)
        has_gpus = any(node.gpus for node in self._nodes)
        if choice is RuntimeChoice.TORCH_CUDA and not has_gpus:
            raise ConfigError(f"runtime torch-cuda: expected a cluster with GPUs, the one at {self._wanted.address} has "
                              "none. Use --runtime auto.")
        if has_gpus and choice in (RuntimeChoice.AUTO, RuntimeChoice.TORCH_CUDA):
            return Runtime.TORCH_CUDA
        found = super().runtime(model, choice, say)
        return Runtime.TORCH_CPU if found is Runtime.TORCH_CUDA else found  # this machine has a GPU, the cluster none

    def executor(self, desk: Desk, spec: WorkerSpec, workers: int) -> Actors:
        """The executor for a desk."""
        cpus, gpus = self._settings.ray_cpus_per_worker or spec.threads, self._gpus(spec.runtime)
        driver = self._driver or Driver(Wanted(
            None, self._wanted.folder, cpus=math.ceil(workers * cpus), gpus=gpus > 0,
            start_timeout_s=self._wanted.start_timeout_s))
        return Actors(desk, spec, workers=workers, driver=driver, cpus=cpus, gpus=gpus,
                      on_a_cluster=self._driver is not None, say=self._say)

    def _gpus(self, runtime: Runtime) -> float:
        asked = self._settings.ray_gpus_per_worker
        return asked if asked is not None else 1.0 if runtime is Runtime.TORCH_CUDA else 0.0


@contextmanager
def connected(say: Say) -> Iterator[RayPlace]:
    """The place where Ray computes, until the block ends.

    Raises ConfigError where the cluster at RAY_ADDRESS is out of reach, or of another version.
    """
    _check_installed()
    values = ray_settings()
    address = os.environ.get("RAY_ADDRESS") or None
    folder = _ray_folder()
    driver: Driver | None = None
    try:
        if address in (None, "local"):
            yield RayPlace(Wanted(None, str(folder), start_timeout_s=values.ray_start_timeout_s), None, (), say)
            return
        _reach(address)
        wanted = Wanted(address, str(folder), start_timeout_s=values.ray_start_timeout_s, env_vars=travelling(values),
                        runtime_env=values.ray_runtime_env)
        driver = Driver(wanted)
        driver.start()
        yield RayPlace(wanted, driver, driver.ready(lambda: None), say)
    finally:
        if driver is not None:
            driver.stop()
        shutil.rmtree(folder, ignore_errors=True)


def spread(nodes: Sequence[Node], workers: int | None, threads: int | None, *, cpus: float | None,
           gpus: float) -> tuple[int, int]:
    """How many workers of how many threads fill the nodes; `cpus` (None: as many as threads) and `gpus` go to each."""
    able = [node for node in nodes if node.cpus >= 1 and node.gpus >= gpus] or [Node(1, gpus)]
    if threads is None:
        threads = min(_threads_on(node, gpus) for node in able)
        if workers is not None:
            threads = max(1, min(int(min(node.cpus for node in able)), int(sum(node.cpus for node in able)) // workers))
    if workers is None:
        each = cpus or threads
        room = [min(node.cpus / each, node.gpus / gpus if gpus else math.inf) for node in able]
        workers = max(1, sum(math.floor(most + 1e-6) for most in room))
    return workers, threads


def _threads_on(node: Node, gpus: float) -> int:
    """Threads of each worker on such a node: its cores divided by its GPUs, or in equal parts of some cores."""
    workers = math.floor(node.gpus / gpus) if gpus else math.ceil(node.cpus / _CORES_PER_WORKER)
    return max(1, int(node.cpus // max(1, workers)))


def travelling(values: Settings) -> dict[str, str]:
    """The settings that go to the nodes, as environment variables. Credentials never do: nodes have their own."""
    chosen = values.model_dump(mode="json", include=set(_TRAVELLING), exclude_unset=True)
    return {f"SEGSVC_{name.upper()}": json.dumps(value) for name, value in chosen.items()}


def _check_installed() -> None:
    try:
        came = version("ray")
    except PackageNotFoundError as error:
        raise ConfigError("--executor ray: the package ray is not installed. `pip install 'segsvc[ray]'`") from error
    if tuple(int(part) for part in re.findall(r"\d+", came)[:2]) < _OLDEST:
        raise ConfigError(f"--executor ray: expected Ray 2.56 or later (before it, known holes), got {came}. "
                          "`pip install 'segsvc[ray]'`")


def _reach(address: str) -> None:
    """Raises ConfigError where nothing listens at the address, or it is none of a cluster."""
    if address == "auto":
        return
    found = re.fullmatch(r"(?:ray://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/\[\]]+):(?P<port>\d{1,5})", address)
    if found is None or int(found["port"]) > 65535:
        hint = (f" `ray job submit --address {address} -- python -m jobs.batch SPEC` takes that address."
                if address.startswith(("http://", "https://")) else "")
        raise ConfigError(f"RAY_ADDRESS: expected HOST:PORT of a cluster's head (port 6379 by default) or ray://HOST:10001, "
                          f"got {address!r}.{hint}")
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), timeout=_REACH_S).close()
    except OSError as error:
        raise ConfigError(f"RAY_ADDRESS: expected a cluster of Ray {version('ray')} at {address}, got: "
                          f"{error.strerror or error}. Without RAY_ADDRESS a local one is started.") from error


def _ray_folder() -> Path:
    """A folder of this run's own for Ray's files and sockets, with a path that is short enough for those."""
    usual = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="segsvc-ray-", dir=usual if len(usual) <= _LONGEST_FOLDER else "/tmp"))
