"""Where a run by Ray is computed: the cluster at RAY_ADDRESS, else one of this machine's own for the length of the run."""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from jobs.cluster import Node, Wanted
from jobs.driver import Serve, serve_run
from jobs.executor import Actors, Driver
from segsvc.asking import Place, Say
from segsvc.claims import Desk, WorkerSpec
from segsvc.errors import ConfigError
from segsvc.models.library import Model
from segsvc.models.runtime import has_cuda
from segsvc.settings import RuntimeChoice, Settings, settings
from segsvc.types import Runtime

_OLDEST = (2, 56)  # before it, Ray unpickled what it read from files
_REACH_S = 5.0
_CORES_PER_WORKER = 8  # beyond, one process's threads wait for each other
_LONGEST_FOLDER = 40  # of a temporary folder: Ray puts sockets there, whose paths may have 107 bytes
_FOLDERS, _HELD = "segsvc-ray-", "held"
_TRAVELLING = ("s3", "s3_buckets")  # settings that nodes need; they hold no secret


class RayPlace(Place):
    """A cluster, or this machine by a cluster of its own."""

    def __init__(self, wanted: Wanted, driver: Driver | None, nodes: Sequence[Node], say: Say, serve: Serve) -> None:
        self._wanted, self._serve = wanted, serve
        self._driver = driver  # of a cluster that is there; None for one that is started when the run needs it
        self._nodes = nodes
        self._say = say
        self._settings = settings().ray

    def spread(self, workers: int | None, threads: int | None, runtime: Runtime) -> tuple[int, int]:
        """Workers and threads of each: what was asked for, and for the rest all of the cluster's GPUs, or cores."""
        if self._driver is None:
            return super().spread(workers, threads, runtime)
        return spread(self._nodes, workers, threads, cpus=self._settings.cpus_per_worker, gpus=self._gpus(runtime))

    def runtime(self, model: Model, choice: RuntimeChoice, say: Say) -> Runtime:
        """CUDA where the cluster has GPUs; else what this machine would take without one. Converts the model for it.

        Raises ConfigError where torch-cuda was named and no node has a GPU.
        """
        if self._driver is None:
            return super().runtime(model, choice, say)
        if choice is RuntimeChoice.TORCH_CUDA and not self.has_gpus:
            raise ConfigError(f"runtime torch-cuda: expected a cluster with GPUs, the one at {self._wanted.address} has "
                              "none. Use --runtime auto.")
        if self.has_gpus and choice in (RuntimeChoice.AUTO, RuntimeChoice.TORCH_CUDA):
            return Runtime.TORCH_CUDA
        found = super().runtime(model, choice, say)
        return Runtime.TORCH_CPU if found is Runtime.TORCH_CUDA else found  # this machine has a GPU, the cluster none

    def executor(self, desk: Desk, spec: WorkerSpec, workers: int) -> Actors:
        """The executor for a desk."""
        cpus, gpus = self.shares(spec.threads, spec.runtime)
        return Actors(desk, spec, workers=workers, driver=self.driver(workers, cpus, gpus), cpus=cpus, gpus=gpus,
                      on_a_cluster=self.on_a_cluster, say=self._say)

    @property
    def on_a_cluster(self) -> bool:
        """Whether the cluster is there already, with its driver; else that is still to be started."""
        return self._driver is not None

    @property
    def has_gpus(self) -> bool:
        return any(node.gpus for node in self._nodes) if self.on_a_cluster else has_cuda()

    def shares(self, threads: int, runtime: Runtime) -> tuple[float, float]:
        """CPUs and GPUs that a worker of so many threads takes."""
        return self._settings.cpus_per_worker or threads, self._gpus(runtime)

    def driver(self, workers: int, cpus: float, gpus: float) -> Driver:
        """The driver of the cluster, or one that will start one for so many workers."""
        return self._driver or Driver(Wanted(
            None, self._wanted.folder, cpus=math.ceil(workers * cpus), gpus=gpus > 0,
            start_timeout_s=self._wanted.start_timeout_s), self._serve)

    def _gpus(self, runtime: Runtime) -> float:
        asked = self._settings.gpus_per_worker
        return asked if asked is not None else 1.0 if runtime is Runtime.TORCH_CUDA else 0.0


@contextmanager
def connected(say: Say, serve: Serve = serve_run) -> Iterator[RayPlace]:
    """The place where Ray computes, until the block ends. serve: what its driver is there for.

    Raises ConfigError where the cluster at RAY_ADDRESS is out of reach, or of another version.
    """
    _check_installed()
    values = settings()
    address = os.environ.get("RAY_ADDRESS") or None
    with ray_folder() as folder:
        if address in (None, "local"):
            yield RayPlace(Wanted(None, str(folder), start_timeout_s=values.ray.start_timeout_s), None, (), say, serve)
            return
        _reach(address)
        wanted = Wanted(address, str(folder), start_timeout_s=values.ray.start_timeout_s, env_vars=travelling(values),
                        runtime_env=values.ray.runtime_env)
        driver = Driver(wanted, serve)
        try:
            driver.start()
            yield RayPlace(wanted, driver, driver.ready(lambda: None), say, serve)
        finally:
            driver.stop()


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


def travelling(values: Settings, *further: str) -> dict[str, str]:
    """The settings that go to the nodes, as environment variables. Credentials never do: nodes have their own."""
    chosen = values.model_dump(mode="json", include={*_TRAVELLING, *further}, exclude_unset=True)
    return {f"SEGSVC_{name.upper()}": json.dumps(value) if isinstance(value, dict) else str(value)
            for name, value in chosen.items()}


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


@contextmanager
def ray_folder() -> Iterator[Path]:
    """A folder for the files and sockets of this run's Ray, until the block ends; those of runs that were killed go too."""
    usual = tempfile.gettempdir()
    place = Path(usual if len(usual) <= _LONGEST_FOLDER else "/tmp")
    for other in place.glob(f"{_FOLDERS}*/{_HELD}"):
        with suppress(OSError), other.open("rb") as file:  # another user's, or held by a run that lives
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(other.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_FOLDERS, dir=place))
    try:
        with (folder / "lock").open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            (folder / "lock").rename(folder / _HELD)  # never seen without its lock
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
