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

from segsvc.claims import Death, Desk, Fatal, Finished, Message, Next, Published, Started, Task, WorkerSpec
from segsvc.errors import ConfigError, RunError
from segsvc.types import ImageStatus

_TICK_S = 0.1
_PR_SET_PDEATHSIG = 1
_MEMORY_SHARE = 0.9  # of the machine's memory that a worker may take before an allocation fails


class _PipeClaims:
    """The desk as a child process sees it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        try:
            with self._lock:
                self._connection.send(message)
        except OSError:
            os._exit(1)  # the parent is gone

    def next(self) -> Task | None:
        self.send(Next())
        try:
            task: Task | None = self._connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        return task

    def started(self, task: Task, ordinal: int) -> None:
        self.send(Started(task.shard, ordinal))

    def finished(self, task: Task, ordinal: int, status: ImageStatus) -> None:
        self.send(Finished(task.shard, ordinal, status))

    def published(self, task: Task) -> None:
        self.send(Published(task.shard))

    def fatal(self, message: str) -> None:
        self.send(Fatal(message))


def _child(connection: Connection, spec: WorkerSpec, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    die_with(parent)
    limit_memory()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    from segsvc.worker import Worker  # loads what decodes and computes: the parent starts children before it needs any

    claims = _PipeClaims(connection)
    try:
        Worker(spec).pull(claims)
    except (RunError, ConfigError) as error:  # it cannot even begin
        claims.fatal(str(error))


def die_with(parent: int) -> None:
    """Asks the kernel to kill this process when its parent dies, where it can be asked."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def start_deaf(process: SpawnProcess) -> None:
    """Starts a process that Ctrl-C does not reach, also before it runs code of ours: it inherits a blocked signal."""
    multiprocessing.resource_tracker.ensure_running()  # which would unblock signals, were it started later
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def limit_memory() -> None:
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
                for number, task in self._desk.replies():
                    self._tell(self._children[number], task)
                for number, child in self._children.items():
                    if self._desk.overdue(number) and not child.overdue:
                        child.overdue = True
                        child.process.kill()
        finally:
            self._stop()

    def _keep_up(self) -> None:
        while len(self._children) < self._workers:
            here, there = self._context.Pipe()
            process = self._context.Process(target=_child, args=(there, self._spec, os.getpid()), daemon=True)
            start_deaf(process)
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
                    self._desk.hear(number, child.connection.recv())
            except (EOFError, OSError):
                child.process.join()
                child.connection.close()
                del self._children[number]
                self._desk.died(number, self._desk.overdue_death if child.overdue else _death(child.process.exitcode or 0))

    def _tell(self, child: _Child, task: Task) -> None:
        try:
            child.connection.send(task)
        except OSError:  # it died meanwhile: `_listen` finds that out, and the shard is in its hand
            return

    def _stop(self) -> None:
        for child in self._children.values():
            child.process.kill()
        for child in self._children.values():
            child.process.join()
            child.connection.close()
        self._children.clear()


def _death(exit_code: int) -> Death:
    if exit_code >= 0:
        return Death(f"ended with exit code {exit_code}", blames_image=True)
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = str(-exit_code)
    return Death(f"ended with signal {name}", blames_image=exit_code != -signal.SIGKILL)
