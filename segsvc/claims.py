"""Who may try which shard, and what becomes of a shard whose worker died.

Claims decide only who tries; what is done is said by published parts alone. The desk is where the workers of one run
ask for shards. A worker asks for the next shard while it still works on the last, so it may have two in hand. A shard
whose worker died is taken up again one image at a time, those first that were in work when it died. An image that kills
its worker while it is alone, after one death before, is quarantined. A death that may have come from outside (SIGKILL: a
person, or the kernel for want of memory) speaks less clearly against an image than a crash: there it takes one death
more.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from segsvc.errors import RunError
from segsvc.types import ImageStatus, Runtime

_STARTS = 3  # workers that may die before they began an image


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker must know to work on a run; small, and the same for all of them."""

    out_uri: str
    model_folder: str  # where the model is on the machine that began the run
    model_origin: str  # what it is known by elsewhere: a name or a URI
    model_digest: str
    runtime: Runtime
    threads: int
    lanes: int  # images in work at the same time: more than threads, so that decoding hides behind the model
    decode_limit_bytes: int
    log_ids: Mapping[str, object] = field(default_factory=dict)  # what its logs bear


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


@dataclass(frozen=True, slots=True)
class Next:
    """A worker asks for a shard."""


@dataclass(frozen=True, slots=True)
class Started:
    """An image is taken in work."""

    shard: int
    ordinal: int


@dataclass(frozen=True, slots=True)
class Finished:
    """An image ended, and how."""

    shard: int
    ordinal: int
    status: ImageStatus


@dataclass(frozen=True, slots=True)
class Published:
    """A shard is published."""

    shard: int


@dataclass(frozen=True, slots=True)
class Fatal:
    """A worker cannot go on, and no other could."""

    message: str


@dataclass(frozen=True, slots=True)
class Idle:
    """A worker is done with its run, and waits for another."""


Message = Next | Started | Finished | Published | Fatal | Idle


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended, in words that follow "the process"; whether that is a sign against the image in its hand.

    heard_all: whether everything it said before was heard; if not, it may have begun images that nobody knows of.
    """

    how: str
    blames_image: bool
    heard_all: bool = True


class Claims(Protocol):
    """What a worker sees of the desk, from wherever it works; called by several of its threads."""

    def next(self) -> Task | None:
        """The next shard, as soon as there is one; None where there will be none."""

    def started(self, task: Task, ordinal: int) -> None: ...
    def finished(self, task: Task, ordinal: int, status: ImageStatus) -> None: ...
    def published(self, task: Task) -> None: ...
    def fatal(self, message: str) -> None:
        """The run cannot go on."""


@dataclass(slots=True)
class _Hand:
    """A shard that a worker has in hand."""

    task: Task
    started: dict[int, float] = field(default_factory=dict)  # ordinal -> monotonic time
    finished: list[ImageStatus] = field(default_factory=list)


class Desk:
    """Hands out the shards of one run; not thread-safe, asked by one thread."""

    def __init__(self, *, image_timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s = image_timeout_s
        self._clock = clock
        self._todo: deque[Task] = deque()
        self._hands: dict[int, dict[int, _Hand]] = {}  # by worker and shard, oldest first
        self._waiting: list[int] = []  # workers that asked and have no answer
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
    def backlog(self) -> int:
        """Shards that nobody has in hand."""
        return len(self._todo)

    @property
    def is_done(self) -> bool:
        return self._complete and not self._todo and not any(self._hands.values())

    @property
    def ended(self) -> int:
        """Images that ended in this attempt, published or in hand."""
        in_hand = sum(len(hand.finished) for hands in self._hands.values() for hand in hands.values())
        return self.counted.total() + in_hand

    def hear(self, worker: int, message: Message) -> None:
        """What a worker says. Raises RunError where it says that the run cannot go on."""
        hands = self._hands.setdefault(worker, {})
        match message:
            case Next():
                self._waiting.append(worker)
            case Started(shard, ordinal):
                hands[shard].started[ordinal] = self._clock()
                self._starts_failed = 0
            case Finished(shard, ordinal, status):
                hands[shard].started.pop(ordinal, None)
                hands[shard].finished.append(status)
            case Published(shard):
                self.counted.update(hands.pop(shard).finished)
            case Fatal(text):
                raise RunError(text)
            case Idle():  # it was told that no shard is left, or said before why it cannot go on
                return

    def replies(self) -> Iterator[tuple[int, Task]]:
        """Shards for the workers that wait, those first that have nothing else in hand."""
        while self._todo and self._waiting:
            worker = min(self._waiting, key=lambda number: len(self._hands[number]))
            self._waiting.remove(worker)
            task = self._todo.popleft()
            self._hands[worker][task.shard] = _Hand(task)
            yield worker, task

    def overdue(self, worker: int) -> bool:
        """Whether an image in that worker's hand takes longer than is allowed: the worker is to be killed."""
        begun = [when for hand in self._hands.get(worker, {}).values() for when in hand.started.values()]
        return bool(begun) and self._clock() - min(begun) > self._timeout_s

    @property
    def overdue_death(self) -> Death:
        """The death of a worker that was killed because an image took too long."""
        return Death(f"took longer than {self._timeout_s:g} s", blames_image=True)

    def died(self, worker: int, death: Death) -> None:
        """A worker is gone. Raises RunError where workers die again and again before they begin an image."""
        hands = list(self._hands.pop(worker, {}).values())
        self._waiting = [number for number in self._waiting if number != worker]
        unheard = not death.heard_all and any(not hand.task.alone for hand in hands)
        if not unheard and not any(hand.started for hand in hands):
            self._starts_failed += 1
            if self._starts_failed >= _STARTS:
                raise RunError(f"expected a worker that starts, got {_STARTS} in a row that {death.how} before their "
                               "first image. `segsvc doctor` looks at the machine.")
        for hand in reversed(hands):
            suspects = frozenset(hand.started)
            self._blame(hand, suspects, death)
            held_back = self._quarantined.get(hand.task.shard, {})
            self._todo.appendleft(Task(
                hand.task.shard, alone=bool(suspects) or hand.task.alone or not death.heard_all,
                suspects=(suspects | hand.task.suspects) - held_back.keys(), quarantined=dict(held_back),
                replace=hand.task.replace))

    def _blame(self, hand: _Hand, suspects: frozenset[int], death: Death) -> None:
        for ordinal in suspects:
            self._deaths[ordinal] += 1
            if hand.task.alone and self._deaths[ordinal] >= (2 if death.blames_image else 3):
                self._quarantined.setdefault(hand.task.shard, {})[ordinal] = (
                    f"the process that worked on it {death.how}, each time it was tried")
