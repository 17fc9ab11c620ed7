"""What runs on a node: the pull loop in a thread of a Ray actor, and an outbox that the driver empties.

Only messages of some bytes cross: images are read and parts are written by the node itself. This module imports Ray
nowhere; `jobs.driver` makes an actor of `ImageWorker`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from segsvc.claims import Fatal, Finished, Message, Next, Published, Started, Task, WorkerSpec
from segsvc.errors import ConfigError, RunError
from segsvc.processes import limit_memory
from segsvc.stores import store_of
from segsvc.stores.file import to_path
from segsvc.types import ImageStatus

_GATHER_S = 0.1  # news that can wait is gathered for so long, so that fast images do not cost a call each


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to do, and how it tells that it sees the same OUT as the driver.

    spec_sha256: of OUT's spec.json. on_a_cluster: messages name the node.
    """

    spec: WorkerSpec
    spec_sha256: str
    on_a_cluster: bool


class Outbox:
    """The desk as an actor sees it: what is said waits here until the driver takes it.

    Taking it proves that the driver has what it took before. That is how `started` of an image that is tried alone knows
    it was heard: an image that kills its worker must be known by then.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._changed = threading.Condition()
        self._said: list[Message] = []
        self._is_urgent = False
        self._put = 0  # messages so far
        self._handed = 0  # of those, handed to the driver
        self._heard = 0  # of those, surely heard
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()

    # -- the worker's side -------------------------------------------------------------------------------------------

    def next(self) -> Task | None:
        """The next shard, as soon as there is one."""
        self._say(Next(), urgent=True)
        return self._tasks.get()

    def started(self, task: Task, ordinal: int) -> None:
        """Says so; where the image is tried alone, returns when the driver has surely heard it."""
        number = self._say(Started(task.shard, ordinal), urgent=task.alone)
        if task.alone:
            with self._changed:
                self._changed.wait_for(lambda: self._heard >= number)

    def finished(self, task: Task, ordinal: int, status: ImageStatus) -> None:
        self._say(Finished(task.shard, ordinal, status), urgent=False)

    def published(self, task: Task) -> None:
        self._say(Published(task.shard), urgent=True)

    def fatal(self, message: str) -> None:
        self._say(Fatal(f"{self._place}{message}"), urgent=True)

    def _say(self, message: Message, *, urgent: bool) -> int:
        with self._changed:
            self._said.append(message)
            self._put += 1
            self._is_urgent |= urgent
            self._changed.notify_all()
            return self._put

    # -- the driver's side -------------------------------------------------------------------------------------------

    def give(self, task: Task) -> None:
        """Answers a `next`."""
        self._tasks.put(task)

    def take(self, wait_s: float) -> tuple[Message, ...]:
        """What was said since the last time, oldest first; waits for something up to `wait_s`."""
        with self._changed:
            self._heard = self._handed
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._said, timeout=wait_s)
            if self._said:
                self._changed.wait_for(lambda: self._is_urgent, timeout=_GATHER_S)
            said, self._said, self._is_urgent = tuple(self._said), [], False
            self._handed = self._put
            return said


class ImageWorker:
    """The actor: a worker that loads the model once, at work from its first moment."""

    def __init__(self, order: Order) -> None:
        limit_memory()
        self._outbox = Outbox(f"node {platform.node()}: " if order.on_a_cluster else "")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pull")
        self._pulling = self._thread.submit(self._pull, order)

    def poll(self, wait_s: float) -> tuple[Message, ...]:
        """What the worker said since the last call; raises what ended it, where something did."""
        said = self._outbox.take(wait_s)
        if not said and self._pulling.done():
            self._pulling.result()
        return said

    def give(self, task: Task) -> None:
        """A shard for the worker, who asked for it."""
        self._outbox.give(task)

    def _pull(self, order: Order) -> None:
        try:
            check_out(order)
            check_input(order)
            from segsvc.worker import Worker  # loads what decodes and computes

            Worker(order.spec).pull(self._outbox)
        except (RunError, ConfigError) as error:  # it cannot even begin
            self._outbox.fatal(str(error))


def check_out(order: Order) -> None:
    """Raises RunError where this node does not see the OUT that the driver sees."""
    uri = order.spec.out_uri
    try:
        seen = store_of(uri).folder(uri).read("spec.json")
    except OSError as error:
        raise RunError(f"expected to read {uri}/spec.json here, got: {error.strerror or error}. {_SHARE_OUT}") from error
    if seen is None:
        raise RunError(f"expected to see OUT at {uri}, found nothing there. {_SHARE_OUT}")
    if hashlib.sha256(seen).hexdigest() != order.spec_sha256:
        raise RunError(f"expected to see OUT at {uri}, found another run's folder there. {_SHARE_OUT}")


def check_input(order: Order) -> None:
    """Raises RunError where INPUT is a file or folder that this node does not see: its images would fail one by one."""
    from segsvc.results import RunFolder  # loads Arrow: not for the driver, who imports this module too

    spec = RunFolder(store_of(order.spec.out_uri).folder(order.spec.out_uri)).spec()
    if not order.on_a_cluster or not spec.input.startswith("file://"):
        return
    place = Path(os.fsdecode(to_path(spec.input)))
    if not place.exists() and not any(wild in spec.input for wild in "*?["):
        raise RunError(f"expected to see INPUT at {spec.input}, found nothing there. Give an INPUT that all nodes see: "
                       "s3://..., or a folder that they share.")


_SHARE_OUT = "Give an --out that all nodes see: s3://..., or a folder that they share."
