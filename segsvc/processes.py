"""The inline executor: worker processes on this machine, watched and replaced when they die.

Work is done in child processes even where there is one worker, so that a decoder that crashes takes one image with it
and not the run.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from segsvc.claims import Desk, Task, WorkerSpec
from segsvc.errors import RunError
from segsvc.types import ImageStatus

_TICK_S = 0.1
_PR_SET_PDEATHSIG = 1
_MEMORY_SHARE = 0.9  # of the machine's memory that a worker may take before an allocation fails


@dataclass(frozen=True, slots=True)
class _Next:
    """A worker asks for a shard."""


@dataclass(frozen=True, slots=True)
class _Started:
    ordinal: int


@dataclass(frozen=True, slots=True)
class _Finished:
    ordinal: int
    status: ImageStatus


@dataclass(frozen=True, slots=True)
class _Published:
    shard: int


@dataclass(frozen=True, slots=True)
class _Fatal:
    """A worker cannot go on, and no other could."""

    message: str


_Message = _Next | _Started | _Finished | _Published | _Fatal


class _PipeClaims:
    """The desk as a child process sees it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: _Message) -> None:
        with self._lock:
            self._connection.send(message)

    def next(self) -> Task | None:
        self.send(_Next())
        task: Task | None = self._connection.recv()
        return task

    def started(self, ordinal: int) -> None:
        self.send(_Started(ordinal))

    def finished(self, ordinal: int, status: ImageStatus) -> None:
        self.send(_Finished(ordinal, status))

    def published(self, task: Task) -> None:
        self.send(_Published(task.shard))


def _child(connection: Connection, spec: WorkerSpec, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    _die_with(parent)
    _limit_memory()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    from segsvc.worker import Worker  # loads what decodes and computes: the parent starts children before it needs any

    claims = _PipeClaims(connection)
    try:
        Worker(spec).pull(claims)
    except RunError as error:
        claims.send(_Fatal(str(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(1)  # the parent is gone


def _die_with(parent: int) -> None:
    """Asks the kernel to kill this process when its parent dies, where it can be asked."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _start_deaf(process: SpawnProcess) -> None:
    """Starts a process that Ctrl-C does not reach, also before it runs code of ours: it inherits a blocked signal."""
    multiprocessing.resource_tracker.ensure_running()  # which would unblock signals, were it started later
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _limit_memory() -> None:
    """A hostile image that slips past every other limit meets this one, instead of taking the machine down."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = int(total * _MEMORY_SHARE)
    if soft == resource.RLIM_INFINITY or soft > wanted:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))




@dataclass(slots=True)
class _Child:
    process: SpawnProcess
    connection: Connection
    waits: bool = False  # asked for a shard and has none
    overdue: bool = False


class Processes:
    """Runs workers until the desk is done."""

    def __init__(self, desk: Desk, spec: WorkerSpec, *, workers: int) -> None:
        self._desk = desk
        self._spec = spec
        self._workers = workers
        self._context = multiprocessing.get_context("spawn")
        self._children: dict[int, _Child] = {}
        self._numbers = 0

    def run(self, each_tick: Callable[[], None]) -> None:
        """Works until the desk is done; `each_tick` is called at least every tenth of a second, in this thread.

        Raises RunError where a worker says that the run cannot go on; whatever is raised, no child is left.
        """
        try:
            while True:
                each_tick()
                if self._desk.is_done:
                    return
                self._keep_up()
                self._listen()
                for number, child in self._children.items():
                    if child.waits:
                        self._offer(number, child)
                    if self._desk.overdue(number) and not child.overdue:
                        child.overdue = True
                        child.process.kill()
        finally:
            self._stop()

    def _keep_up(self) -> None:
        while len(self._children) < self._workers:
            here, there = self._context.Pipe()
            process = self._context.Process(target=_child, args=(there, self._spec, os.getpid()), daemon=True)
            _start_deaf(process)
            there.close()
            self._children[self._numbers] = _Child(process, here)
            self._numbers += 1

    def _listen(self) -> None:
        by_connection = {child.connection: number for number, child in self._children.items()}
        for ready in multiprocessing.connection.wait(list(by_connection), timeout=_TICK_S):
            number = by_connection[ready]  # type: ignore[index]
            child = self._children[number]
            try:
                while child.connection.poll():
                    self._hear(number, child, child.connection.recv())
            except (EOFError, OSError):
                child.process.join()
                child.connection.close()
                del self._children[number]
                self._desk.died(number, child.process.exitcode or 0, overdue=child.overdue)

    def _hear(self, number: int, child: _Child, message: _Message) -> None:
        match message:
            case _Next():
                self._offer(number, child)
            case _Started(ordinal):
                self._desk.started(number, ordinal)
            case _Finished(ordinal, status):
                self._desk.finished(number, ordinal, status)
            case _Published():
                self._desk.published(number)
            case _Fatal(text):
                raise RunError(text)

    def _offer(self, number: int, child: _Child) -> None:
        task = self._desk.next_task(number)
        child.waits = task is None
        if task is not None:
            child.connection.send(task)

    def _stop(self) -> None:
        for child in self._children.values():
            child.process.kill()
        for child in self._children.values():
            child.process.join()
            child.connection.close()
        self._children.clear()
