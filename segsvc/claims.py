"""Who may try which shard, and what becomes of a shard whose worker died.

Claims decide only who tries; what is done is said by published parts alone. The desk is where the workers of one run
ask for shards. A shard whose worker died is taken up again one image at a time, those first that were in work when it
died. An image that kills its worker while it is alone, after one death before, is quarantined. A worker that was killed
from outside (SIGKILL: a person, or the kernel for want of memory) speaks less clearly against an image than one that
crashed: there it takes one death more.
"""

from __future__ import annotations

import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from segsvc.errors import RunError
from segsvc.types import ImageStatus, Runtime

_LOOK_AGAIN_S = 0.5  # how often a shard that another run holds is looked at
_STARTS = 3  # workers that may die before they began an image


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker must know to work on a run; small, and the same for all of them."""

    out_uri: str
    model_folder: str
    model_digest: str
    runtime: Runtime
    threads: int
    lanes: int  # images in work at the same time: one more than threads, so that reading hides behind the model
    decode_limit_bytes: int


@dataclass(frozen=True, slots=True)
class Task:
    """A shard to work on.

    alone: one image at a time, those in `suspects` first. quarantined: images that are not tried, and why.
    replace: the shard is published; its failed images are taken up again.
    """

    shard: int
    alone: bool = False
    suspects: frozenset[int] = frozenset()
    quarantined: Mapping[int, str] = field(default_factory=dict)
    replace: bool = False


class Claims(Protocol):
    """What a worker sees of the desk, from wherever it works."""

    def next(self) -> Task | None:
        """The next shard, as soon as there is one; None where there will be none."""

    def started(self, ordinal: int) -> None: ...
    def finished(self, ordinal: int, status: ImageStatus) -> None: ...
    def published(self, task: Task) -> None: ...


class ShardPlace(Protocol):
    """Where shards are claimed and published; what the desk needs of a run's folder."""

    def is_published(self, number: int) -> bool: ...
    def claim(self, number: int) -> bool: ...
    def release(self, number: int) -> None: ...


@dataclass(slots=True)
class _Hand:
    """What one worker has in hand."""

    task: Task
    started: dict[int, float] = field(default_factory=dict)  # ordinal -> monotonic time
    finished: list[ImageStatus] = field(default_factory=list)


class Desk:
    """Hands out the shards of one run; not thread-safe, asked by one thread."""

    def __init__(self, place: ShardPlace, *, image_timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._place = place
        self._timeout_s = image_timeout_s
        self._clock = clock
        self._todo: deque[Task] = deque()
        self._elsewhere: dict[int, tuple[float, Task]] = {}  # held by another run: when to look again
        self._hands: dict[int, _Hand] = {}
        self._deaths: Counter[int] = Counter()  # by ordinal
        self._quarantined: dict[int, dict[int, str]] = {}  # by shard
        self._starts_failed = 0
        self._complete = False
        self.counted: Counter[ImageStatus] = Counter()  # images that ended in this attempt, published

    def planned(self, shard: int, *, replace: bool = False) -> None:
        """A shard that is to be worked on."""
        self._todo.append(Task(shard, replace=replace))

    def complete(self) -> None:
        """No more shards will be planned."""
        self._complete = True

    @property
    def is_done(self) -> bool:
        return self._complete and not (self._todo or self._hands or self._elsewhere)

    @property
    def ended(self) -> int:
        """Images that ended in this attempt, published or in hand."""
        return self.counted.total() + sum(len(hand.finished) for hand in self._hands.values())

    def next_task(self, worker: int) -> Task | None:
        """The next shard for that worker; None where there is none just now."""
        self._look_elsewhere()
        while self._todo:
            task = self._todo.popleft()
            if not self._place.claim(task.shard):
                self._elsewhere[task.shard] = (self._clock() + _LOOK_AGAIN_S, task)
                continue
            if not task.replace and self._place.is_published(task.shard):
                self._place.release(task.shard)
                continue
            self._hands[worker] = _Hand(task)
            return task
        return None

    def _look_elsewhere(self) -> None:
        now = self._clock()
        for shard, (when, task) in list(self._elsewhere.items()):
            if when > now:
                continue
            del self._elsewhere[shard]
            if task.replace or not self._place.is_published(shard):
                self._todo.append(task)

    def started(self, worker: int, ordinal: int) -> None:
        self._hands[worker].started[ordinal] = self._clock()
        self._starts_failed = 0

    def finished(self, worker: int, ordinal: int, status: ImageStatus) -> None:
        hand = self._hands[worker]
        hand.started.pop(ordinal, None)
        hand.finished.append(status)

    def published(self, worker: int) -> None:
        hand = self._hands.pop(worker)
        self.counted.update(hand.finished)
        self._place.release(hand.task.shard)

    def overdue(self, worker: int) -> bool:
        """Whether an image in that worker's hand takes longer than is allowed: the worker is to be killed."""
        hand = self._hands.get(worker)
        oldest = min(hand.started.values(), default=None) if hand is not None else None
        return oldest is not None and self._clock() - oldest > self._timeout_s

    def died(self, worker: int, exit_code: int, *, overdue: bool = False) -> None:
        """A worker is gone. Raises RunError where workers die again and again before they begin an image."""
        hand = self._hands.pop(worker, None)
        suspects = frozenset(hand.started) if hand is not None else frozenset()
        if not suspects:
            self._starts_failed += 1
            if self._starts_failed >= _STARTS:
                raise RunError(f"expected a worker that starts, got {_STARTS} in a row that ended with "
                               f"{_how(exit_code)} before their first image. `segsvc doctor` looks at the machine.")
        if hand is None:
            return
        for ordinal in suspects:
            self._deaths[ordinal] += 1
        shard = hand.task.shard
        needed = 3 if exit_code == -signal.SIGKILL and not overdue else 2
        for ordinal in suspects:
            if hand.task.alone and self._deaths[ordinal] >= needed:
                how = f"took longer than {self._timeout_s:g} s" if overdue else f"ended with {_how(exit_code)}"
                self._quarantined.setdefault(shard, {})[ordinal] = (
                    f"the process that worked on it {how}, each time it was tried")
        held_back = self._quarantined.get(shard, {})
        self._todo.appendleft(Task(shard, alone=bool(suspects) or hand.task.alone,
                                   suspects=(suspects | hand.task.suspects) - held_back.keys(),
                                   quarantined=dict(held_back), replace=hand.task.replace))
        self._place.release(shard)


def _how(exit_code: int) -> str:
    if exit_code < 0:
        try:
            return f"signal {signal.Signals(-exit_code).name}"
        except ValueError:
            return f"signal {-exit_code}"
    return f"exit code {exit_code}"
