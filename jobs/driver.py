"""The process that holds Ray for a run or a training, and what it and the run say to each other.

Ray ends the process that it is in when the cluster's head is gone, sets signal handlers there, and writes to its stderr.
So it lives in a child of the run: whatever becomes of it, the run says so in one line and ends as it should.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from jobs.actors import ImageWorker, Order
from jobs.cluster import (
    Node,
    Wanted,
    bring_code,
    first_line,
    how_it_ended,
    is_alive,
    join,
    no_resources,
    nodes,
    prepare,
    resources_in_words,
)
from segsvc.claims import Death, Message, Task
from segsvc.errors import ConfigError, RunError
from segsvc.processes import die_with

LOG = "driver.log"  # in the folder of `Wanted`: what Ray would have said on stderr
_TURN_S = 0.05
BEAT_S = 1.0
_POLL_S = 1.0  # how long an actor may wait for news before it answers that there are none
_SILENT_S = 60.0  # an actor that has begun and then does not answer for so long is lost
_LOOK_S = 3.0  # how often the cluster is looked at
_SAY_S = 10.0  # actors that wait for resources longer than that are worth a word


# -- what the run says -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """The order for all workers, and what each of them takes of a node."""

    order: Order
    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class Spawn:
    """One more worker."""

    worker: int


@dataclass(frozen=True, slots=True)
class Give:
    """A shard for a worker that asked."""

    worker: int
    task: Task


@dataclass(frozen=True, slots=True)
class Kill:
    """The worker's image takes too long."""

    worker: int


@dataclass(frozen=True, slots=True)
class Stop:
    """The run is over."""


Command = Begin | Spawn | Give | Kill | Stop


# -- what the driver says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Joined:
    """Ray answered; what is still to come may take as long as nodes take to start."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The cluster is there, with what its nodes have."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """It cannot be done, and why; `before_work`: the configuration is at fault."""

    message: str
    before_work: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """What a worker said."""

    worker: int
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Died:
    """A worker is gone."""

    worker: int
    death: Death


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the user may want to know."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """A training has come to its end."""


@dataclass(frozen=True, slots=True)
class Beat:
    """The driver is alive."""


Report = Joined | Ready | Refused | Heard | Died | Note | Done | Beat
Serve = Callable[[Connection, Wanted], None]


# -- the driver --------------------------------------------------------------------------------------------------------


def drive(connection: Connection, wanted: Wanted, parent: int, serve: Serve) -> None:
    """The child process: joins the cluster, tells so, and serves what it is there for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what signals mean, and ends this process
    os.setsid()  # those for its group do not reach Ray's processes
    die_with(parent)
    _redirect_output(Path(wanted.folder) / LOG)
    prepare(wanted)
    try:
        join(wanted)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Ray had set its own
        connection.send(Joined())
        bring_code(wanted)
        connection.send(Ready(nodes()))
        serve(connection, wanted)
    except (ConfigError, RunError) as error:
        connection.send(Refused(str(error), isinstance(error, ConfigError)))
    except (EOFError, BrokenPipeError):  # the parent is gone
        return


def _redirect_output(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    sys.stdout.flush()
    for target, source in ((0, nothing), (1, descriptor), (2, descriptor)):
        os.dup2(source, target)
    os.close(descriptor)
    os.close(nothing)


def serve_run(connection: Connection, wanted: Wanted) -> None:
    """One run after `Begin`."""
    begin = connection.recv()
    if not isinstance(begin, Begin):
        return
    import ray

    pool = _Pool(connection, begin, wanted.start_timeout_s)
    threading.Thread(target=pool.obey, name="commands", daemon=True).start()
    try:
        pool.run()
    except ray.exceptions.RayError as error:
        raise RunError(GONE.format(first_line(error))) from error
    finally:
        pool.end()
        ray.shutdown()


GONE = "the Ray cluster is gone ({}). What is published is kept; the same command goes on."


@dataclass(slots=True)
class _Actor:
    handle: Any
    asked_at: float  # monotonic time of the poll that is under way
    has_begun: bool = False


@dataclass(slots=True)
class _Pool:
    """The actors of a run. `obey` runs in a thread of its own; only the main thread sends."""

    connection: Connection
    begin: Begin
    start_timeout_s: float
    actors: dict[int, _Actor] = field(default_factory=dict)
    polls: dict[Any, int] = field(default_factory=dict)  # ObjectRef -> worker
    guard: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)
    fault: BaseException | None = None
    has_noted: bool = False

    def obey(self) -> None:
        """Does what the run says, until it says no more."""
        try:
            while not isinstance(command := self.connection.recv(), Stop):
                self._do(command)
        except (EOFError, OSError):
            pass
        except BaseException as error:  # handed to the main thread, which raises it
            self.fault = error
            raise
        finally:
            self.stopped.set()

    def _do(self, command: Command) -> None:
        import ray

        match command:
            case Spawn(worker):
                cls: Any = ray.remote(ImageWorker)
                handle = cls.options(num_cpus=self.begin.cpus, num_gpus=self.begin.gpus, max_restarts=0,
                                     max_task_retries=0, max_concurrency=3).remote(self.begin.order)
                with self.guard:
                    self.actors[worker] = _Actor(handle, time.monotonic())
                    self.polls[handle.poll.remote(_POLL_S)] = worker
            case Give(worker, task):
                actor = self.actors.get(worker)
                if actor is not None:
                    actor.handle.give.remote(task)
            case Kill(worker):
                actor = self.actors.get(worker)
                if actor is not None:
                    ray.kill(actor.handle)

    def run(self) -> None:
        """Relays until the run says stop. Raises RunError where the cluster is gone, or gives no worker what it needs."""
        beat_at = look_at = 0.0
        while not self.stopped.is_set():
            self._listen()
            now = time.monotonic()
            if now >= beat_at:
                self.connection.send(Beat())
                beat_at = now + BEAT_S
            if now >= look_at:
                self._look()
                look_at = time.monotonic() + _LOOK_S
        if self.fault is not None:
            raise RunError(GONE.format(first_line(self.fault))) from self.fault

    def _listen(self) -> None:
        import ray

        with self.guard:
            waiting = list(self.polls)
        if not waiting:
            self.stopped.wait(_TURN_S)
            return
        ready, _ = ray.wait(waiting, num_returns=1, timeout=_TURN_S)
        for poll in ready:
            worker = self.polls[poll]
            try:
                said: tuple[Message, ...] = ray.get(poll)
            except (ray.exceptions.RuntimeEnvSetupError, ray.exceptions.ActorUnschedulableError) as error:
                raise RunError(f"Ray could not start a worker: {first_line(error)}") from error
            except ray.exceptions.RayError as error:
                self._lose(worker, how_it_ended(error))
                continue
            if said:
                self.connection.send(Heard(worker, said))
            actor = self.actors[worker]
            actor.has_begun, actor.asked_at = True, time.monotonic()
            with self.guard:
                del self.polls[poll]
                self.polls[actor.handle.poll.remote(_POLL_S)] = worker

    def _lose(self, worker: int, how: str) -> None:
        """Whatever it was, that worker is not used again: something it said may be lost."""
        import ray

        if not is_alive():
            raise RunError(GONE.format("this machine's part of it died"))
        with self.guard:
            actor = self.actors.pop(worker)
            self.polls = {poll: number for poll, number in self.polls.items() if number != worker}
        ray.kill(actor.handle)
        self.connection.send(Died(worker, Death(how, blames_image=False, heard_all=False)))

    def _look(self) -> None:
        if not is_alive():
            raise RunError(GONE.format("this machine's part of it died"))
        now = time.monotonic()
        for worker, actor in list(self.actors.items()):
            if actor.has_begun and now - actor.asked_at > _SILENT_S:
                self._lose(worker, f"did not answer for {_SILENT_S:g} s")
        pending = [now - actor.asked_at for actor in list(self.actors.values()) if not actor.has_begun]
        if pending and max(pending) > _SAY_S and not self.has_noted:
            self.has_noted = True
            self.connection.send(Note(f"waiting for Ray to start {len(pending)} of {len(self.actors)} workers, each of "
                                      f"{resources_in_words(self.begin.cpus, self.begin.gpus)}"))
        if pending and max(pending) > self.start_timeout_s and len(pending) == len(self.actors):
            raise no_resources(len(pending), self.begin.cpus, self.begin.gpus, waited_s=self.start_timeout_s)

    def end(self) -> None:
        """Ends the actors; those of a driver that dies are ended by the cluster."""
        import ray

        for actor in list(self.actors.values()):
            ray.kill(actor.handle)
