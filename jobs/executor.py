"""The Ray executor of a run: what `segsvc.processes` is for this machine's own processes."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from jobs.actors import Order
from jobs.cluster import Node, Wanted, patience_s
from jobs.driver import (
    GONE,
    LOG,
    Begin,
    Died,
    Give,
    Heard,
    Joined,
    Kill,
    Note,
    Ready,
    Refused,
    Report,
    Serve,
    Spawn,
    Stop,
    drive,
    serve_run,
)
from segsvc.claims import Desk, WorkerSpec
from segsvc.errors import ConfigError, RunError
from segsvc.processes import start_deaf
from segsvc.stores import store_of

_TICK_S = 0.1
_JOIN_S = 40.0  # a cluster that is there answers in two seconds; another service on its port, never
_DOOR_S = 180.0  # ray://: there the cluster starts a process for each who comes; on a busy machine that takes its time
_STOP_S = 15.0


class Driver:
    """The process that holds Ray, as the run sees it."""

    def __init__(self, wanted: Wanted, serve: Serve = serve_run) -> None:
        self._wanted, self._serve = wanted, serve
        self._context = multiprocessing.get_context("spawn")
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._heard_at = 0.0

    @property
    def _place(self) -> str:
        return self._wanted.address or "this machine"

    def start(self) -> None:
        """Starts it; `ready` waits for it."""
        here, there = self._context.Pipe()
        process = self._context.Process(target=drive, args=(there, self._wanted, os.getpid(), self._serve))
        start_deaf(process)
        there.close()
        self._process, self._connection, self._heard_at = process, here, time.monotonic()

    def ready(self, each_tick: Callable[[], None]) -> tuple[Node, ...]:
        """The cluster's nodes, as soon as it is there. Raises ConfigError where it is not, or is of another version."""
        patience = _DOOR_S if self._place.startswith("ray://") else _JOIN_S
        since = time.monotonic()
        while True:
            each_tick()
            try:
                report = self.receive(patience_s=float("inf"))
            except RunError as error:
                raise ConfigError(f"RAY_ADDRESS: expected a Ray cluster at {self._place}, got: {error}") from error
            match report:
                case Joined():
                    patience, since = patience + 2 * self._wanted.start_timeout_s, time.monotonic()
                case Ready(nodes):
                    return nodes
            if time.monotonic() - since > patience:
                raise ConfigError(f"RAY_ADDRESS: expected a Ray cluster at {self._place}, got no answer within "
                                  f"{patience:g} s{self._last_words()}")

    def send(self, command: object) -> None:
        """Tells it something; where it is gone, `receive` finds that out."""
        if self._connection is None:
            raise RuntimeError("the driver was not started")
        try:
            self._connection.send(command)
        except OSError:
            return

    def receive(self, *, patience_s: float) -> Report | None:
        """What it says next; None where it says nothing for a tick.

        Raises ConfigError or RunError as it says, RunError where it is gone, or silent for `patience_s`.
        """
        if self._connection is None:
            raise RuntimeError("the driver was not started")
        try:
            report: Report | None = self._connection.recv() if self._connection.poll(_TICK_S) else None
        except (EOFError, OSError) as error:
            raise RunError(GONE.format(f"it ended its own process here{self._last_words()}")) from error
        now = time.monotonic()
        if report is not None:
            self._heard_at = now
        elif now - self._heard_at > patience_s:
            raise RunError(GONE.format(f"it did not answer for {patience_s:g} s"))
        if isinstance(report, Refused):
            raise ConfigError(report.message) if report.before_work else RunError(report.message)
        return report

    def _last_words(self) -> str:
        """What Ray said last, if anything."""
        try:
            text = (Path(self._wanted.folder) / LOG).read_text("utf-8", "replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.splitlines() if "GCS" in line or "raylet" in line.lower()]
        return f": {lines[-1].rpartition('] ')[2][:200].rstrip('. ')}" if lines else ""

    def stop(self) -> None:
        """Ends it and what it started on this machine."""
        process, connection = self._process, self._connection
        if process is None or connection is None or process.pid is None:
            return
        self.send(Stop())
        connection.close()
        multiprocessing.connection.wait([process.sentinel], _STOP_S)
        with contextlib.suppress(ProcessLookupError):  # it leads a group: of a local cluster whose head died, some live on
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
        self._process = self._connection = None


class Actors:
    """Runs workers as Ray actors until the desk is done."""

    def __init__(self, desk: Desk, spec: WorkerSpec, *, workers: int, driver: Driver, cpus: float, gpus: float,
                 on_a_cluster: bool, say: Callable[[str], None]) -> None:
        self._desk = desk
        self._spec = spec
        self._workers = workers
        self._driver = driver
        self._each = cpus, gpus
        self._on_a_cluster = on_a_cluster
        self._say = say
        self._alive: set[int] = set()
        self._overdue: set[int] = set()
        self._numbers = 0

    def run(self, each_tick: Callable[[], None]) -> None:
        """Works until the desk is done; `each_tick` is called at least every tenth of a second, in this thread.

        Raises RunError where a worker says that the run cannot go on, or the cluster is gone; whatever is raised, no
        actor is left.
        """
        try:
            if not self._on_a_cluster:
                self._driver.start()
                self._driver.ready(each_tick)
            self._driver.send(Begin(self._order(), *self._each))
            while True:
                each_tick()
                if self._desk.is_done:
                    return
                self._keep_up()
                self._listen()
                for worker, task in self._desk.replies():
                    self._driver.send(Give(worker, task))
                for worker in self._alive - self._overdue:
                    if self._desk.overdue(worker):
                        self._overdue.add(worker)
                        self._driver.send(Kill(worker))
        finally:
            self._driver.stop()

    def _order(self) -> Order:
        written = store_of(self._spec.out_uri).folder(self._spec.out_uri).read("spec.json")
        return Order(self._spec, hashlib.sha256(written or b"").hexdigest(), self._on_a_cluster)

    def _keep_up(self) -> None:
        while len(self._alive) < self._workers:
            self._driver.send(Spawn(self._numbers))
            self._alive.add(self._numbers)
            self._numbers += 1

    def _listen(self) -> None:
        match self._driver.receive(patience_s=patience_s()):
            case Heard(worker, messages):
                for message in messages:
                    self._desk.hear(worker, message)
            case Died(worker, death):
                self._alive.discard(worker)
                self._desk.died(worker, self._desk.overdue_death if worker in self._overdue else death)
            case Note(text):
                self._say(text)
