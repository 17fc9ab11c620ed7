"""Attempts in processes of the server's own machine: each works on one run after another, and stays warm between them.

A run's process holds its desk and plan; the images are worked on by worker processes of its own, which keep their model
loaded. All of them end with the server.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from segsvc import logs
from segsvc.asking import Asked, Place, request_of
from segsvc.claims import Desk, WorkerSpec
from segsvc.documents import ImageCounts, RunDocument
from segsvc.errors import SegsvcError
from segsvc.processes import Crew, Processes, die_with, start_deaf
from segsvc.runner import Executor, Progress, Run
from segsvc.settings import settings
from segsvc.types import ImageStatus

log = logging.getLogger("jobs.embedded")

_TELL_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Told:
    """How far an attempt is."""

    images: ImageCounts
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The run is done, as its run.json says."""

    document: str  # JSON


@dataclass(frozen=True, slots=True)
class Failed:
    """The run cannot go on."""

    why: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The run ended as it was told to."""


@dataclass(frozen=True, slots=True)
class Died:
    """Who worked on the run is gone, and how."""

    how: str


Said = Told | Succeeded | Failed | Cancelled | Died


@dataclass(frozen=True, slots=True)
class Work:
    """A run to work on."""

    asked: str  # JSON
    log_ids: dict[str, object]


@dataclass(frozen=True, slots=True)
class Cancel:
    """The run that is worked on is to end."""


class WarmProcess:
    """A process that works on runs, one at a time; started when it is first needed, and again after it died.

    target: what it does, given its end of a pipe and its parent's id: it hears Work and Cancel, and says how it goes.
    """

    def __init__(self, target: Callable[[Connection, int], None]) -> None:
        self._target = target
        self._context = multiprocessing.get_context("spawn")
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def warm(self) -> None:
        """Starts the process if it is not there, so that the first run need not wait for it."""
        if self._process is not None and self._process.is_alive():
            return
        self.end()
        here, there = self._context.Pipe()
        process = self._context.Process(target=self._target, args=(there, os.getpid()))
        start_deaf(process)
        there.close()
        self._process, self._connection = process, here

    def begin(self, asked: Asked) -> None:
        """Begins or resumes the run; `listen` says how it goes."""
        self.warm()
        self._tell(Work(asked.model_dump_json(), logs.ids()))

    def cancel(self) -> None:
        """Ends the run as soon as its process hears of it; what is published is kept."""
        self._tell(Cancel())

    def _tell(self, what: object) -> None:
        try:
            if self._connection is not None:
                self._connection.send(what)
        except OSError:  # `listen` says that it is gone
            return

    def listen(self) -> list[Said]:
        """What was said since; Died at the end where it is gone."""
        said: list[Said] = []
        if self._connection is None or self._process is None:
            return [Died("its process ended")]
        try:
            while self._connection.poll():
                said.append(self._connection.recv())
        except (EOFError, OSError):
            self._process.join()
            said.append(Died(_how(self._process.exitcode or 0)))
            self.end()
        return said

    def end(self) -> None:
        """Ends the process and its workers at once; a run that it works on can be resumed."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"its process ended with exit code {exit_code}"
    return f"its process ended with signal {signal.Signals(-exit_code).name}"


# -- in the process ---------------------------------------------------------------------------------------------------------


def work_here(connection: Connection, parent: int) -> None:
    """Works on runs by worker processes of this machine, until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides what Ctrl-C means
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with(parent)
    logs.begin()
    import segsvc.run_report  # noqa: F401 - what a run's end needs is loaded before there is one

    crew = Crew()
    while True:
        try:
            said = connection.recv()
        except (EOFError, OSError):
            return
        if isinstance(said, Work):  # a cancellation of a run that has just ended is of no use any more
            logs.of_process(said.log_ids)
            tell(connection, _work(Asked.model_validate_json(said.asked), connection, crew))


def _work(asked: Asked, connection: Connection, crew: Crew) -> Said:
    def executor(desk: Desk, spec: WorkerSpec, workers: int) -> Executor:
        return Processes(desk, spec, workers=workers, crew=crew)

    try:
        request = request_of(asked, Place(), lambda _: None)  # nobody sits at a terminal
        document = Run(request, settings(), executor).execute(_Teller(connection))
    except KeyboardInterrupt:
        return Cancelled()
    except (SegsvcError, OSError) as error:
        return Failed(str(error))
    except Exception as error:  # the next run can be worked on all the same; the log keeps the trace
        log.exception("run failed by a fault of ours")
        return Failed(f"unexpected {type(error).__name__}: {error}")
    return Succeeded(document.model_dump_json())


class _Teller:
    """Tells the server how far the run is now and then, and hears whether it is to end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._told_at = 0.0

    def __call__(self, progress: Progress) -> None:
        try:
            while self._connection.poll():
                if isinstance(self._connection.recv(), Cancel):
                    raise KeyboardInterrupt
        except (EOFError, OSError):
            os._exit(1)  # the server is gone
        now = time.monotonic()
        if not progress.waits and now - self._told_at >= _TELL_EVERY_S:
            self._told_at = now
            tell(self._connection, Told(counted(progress), progress.eta_s))


def counted(progress: Progress) -> ImageCounts:
    """Progress as counts: what ended before this attempt, or is not published yet, counts as done until the end."""
    ended = {status: progress.statuses.get(status, 0) for status in ImageStatus}
    others = sum(count for status, count in ended.items() if status is not ImageStatus.DONE)
    return ImageCounts(listed=progress.planned, done=progress.ended - others, empty=ended[ImageStatus.EMPTY],
                       failed=ended[ImageStatus.FAILED], quarantined=ended[ImageStatus.QUARANTINED])


def tell(connection: Connection, said: Said) -> None:
    """Tells the server; without one this process has nothing left to do."""
    try:
        connection.send(said)
    except OSError:
        os._exit(1)


def document_of(said: Succeeded) -> RunDocument:
    """The run's run.json."""
    return RunDocument.model_validate_json(said.document)
