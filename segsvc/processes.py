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
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from segsvc import logs
from segsvc.claims import Death, Desk, Fatal, Finished, Idle, Message, Next, Published, Started, Task, WorkerSpec
from segsvc.errors import ConfigError, RunError
from segsvc.types import ImageStatus

_TICK_S = 0.1
_IDLE_S = 2.0  # a worker whose last shard is published needs no time to stop
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

    def spec(self) -> WorkerSpec:
        """The next run to work on."""
        found: WorkerSpec = self._receive()
        return found

    def next(self) -> Task | None:
        self.send(Next())
        task: Task | None = self._receive()
        return task

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            os._exit(1)

    def started(self, task: Task, ordinal: int) -> None:
        self.send(Started(task.shard, ordinal))

    def finished(self, task: Task, ordinal: int, status: ImageStatus) -> None:
        self.send(Finished(task.shard, ordinal, status))

    def published(self, task: Task) -> None:
        self.send(Published(task.shard))

    def fatal(self, message: str) -> None:
        self.send(Fatal(message))


def _child(connection: Connection, parent: int, serves: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    die_with(parent)
    limit_memory()
    if serves:
        logs.begin()
    else:
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    from segsvc.worker import LoadedOnce, Worker  # loads what decodes and computes: children start before a parent needs any

    claims, loaded = _PipeClaims(connection), LoadedOnce()
    while True:
        spec = claims.spec()
        logs.of_process(spec.log_ids)
        try:
            Worker(spec, loaded).pull(claims)
        except (RunError, ConfigError) as error:  # it cannot even begin
            claims.fatal(str(error))
        claims.send(Idle())


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

    def tell(self, what: object) -> None:
        try:
            self.connection.send(what)
        except OSError:  # it died meanwhile: whoever listens finds that out
            return

    def is_idle(self) -> bool:
        """Whether it waits for another run; what it says of the last one is passed over, for a moment."""
        try:
            while self.connection.poll(_IDLE_S):
                if isinstance(self.connection.recv(), Idle):
                    return True
        except (EOFError, OSError):
            return False
        return False

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class Crew:
    """Worker processes that wait between runs, their model loaded; not thread-safe."""

    def __init__(self) -> None:
        self._idle: list[_Child] = []

    def take(self) -> _Child | None:
        """One that waits; None where none does."""
        while self._idle:
            child = self._idle.pop()
            if child.process.is_alive():
                return child
            child.end()
        return None

    def keep(self, child: _Child) -> None:
        """One whose run is done."""
        self._idle.append(child)

    def close(self) -> None:
        """Ends all that wait."""
        while self._idle:
            self._idle.pop().end()


class Processes:
    """Runs workers until the desk is done. crew: where they come from, if it has any, and stay afterwards."""

    def __init__(self, desk: Desk, spec: WorkerSpec, *, workers: int, crew: Crew | None = None) -> None:
        self._desk = desk
        self._spec = replace(spec, log_ids=logs.ids())
        self._workers = workers
        self._crew = crew
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
                    self._go_off_duty()
                    return
                self._keep_up()
                self._listen()
                for number, task in self._desk.replies():
                    self._children[number].tell(task)
                for number, child in self._children.items():
                    if self._desk.overdue(number) and not child.overdue:
                        child.overdue = True
                        child.process.kill()
        finally:
            self._stop()

    def _keep_up(self) -> None:
        while len(self._children) < self._workers:
            child = self._crew.take() if self._crew is not None else None
            child = child or self._started()
            child.tell(self._spec)
            self._children[self._numbers] = child
            self._numbers += 1

    def _started(self) -> _Child:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_child, args=(there, os.getpid(), self._crew is not None), daemon=True)
        start_deaf(process)
        there.close()
        return _Child(process, here)

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

    def _go_off_duty(self) -> None:
        """The workers of a run that is done wait for another one, where they are kept."""
        if self._crew is None:
            return
        for child in self._children.values():
            child.tell(None)  # there will be no shard more
        for number, child in list(self._children.items()):
            if not child.overdue and child.is_idle():
                self._crew.keep(self._children.pop(number))

    def _stop(self) -> None:
        for child in self._children.values():
            child.process.kill()
        for child in self._children.values():
            child.end()
        self._children.clear()


def _death(exit_code: int) -> Death:
    if exit_code >= 0:
        return Death(f"ended with exit code {exit_code}", blames_image=True)
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = str(-exit_code)
    return Death(f"ended with signal {name}", blames_image=exit_code != -signal.SIGKILL)
