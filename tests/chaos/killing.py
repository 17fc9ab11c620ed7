"""Starts a run, kills what is named when a point is reached, and starts the same command again until it is done.

Points are seen from outside: what lies in OUT, and the clock. A run ends with 0 in the end, or it is a fault; in between
it may end with 1 where its network or its cluster was harmed (with 2 where the cluster died before there was any work),
and is then started again like one that was killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from tests.chaos.family import Family, Process, Victim
from tests.chaos.network import until
from tests.chaos.outs import Out, numbers

AT_WORK = tuple(Victim)
MOST_S = 150.0  # that any one wait may take on a busy machine: beyond, it hangs
_LOOK_S = 0.1  # how often it is looked who is there, for moments that pass more quickly than that can be found out
_MOST_SHARDS = 8  # that may be published before a kill at a moment that was not seen is made anyway
ENDS_BY_ITSELF = frozenset({Victim.LINK, Victim.RAYLET, Victim.HEAD})  # the driver lives, and says that its cluster is gone


class Point(StrEnum):
    """When a kill is due."""

    SPEC = "spec"  # spec.json is there
    PLAN = "plan"  # the plan's first part is there
    BETWEEN = "between"  # a shard has its candidates and not its images
    WRITING = "writing"  # the victim has a part half written; on a disk
    PARTS = "parts"  # so many more shards are published than when it was awaited
    RESUME = "resume"  # run.json was written anew by the attempt that goes on
    AFTER = "after"  # so many seconds after it was awaited


_RAY_PATIENCE_S = 90.0  # actors and agents of a cluster whose head or node died end after 60 s: Ray's own patience
_MOMENTS = frozenset({Point.BETWEEN, Point.WRITING})  # so short that everybody is held still to be sure


@dataclass(frozen=True, slots=True)
class Kill:
    """Who is killed, and when. more: shards, for PARTS; after_s: for AFTER, and after any other point was reached."""

    victim: Victim
    point: Point
    more: int = 1
    after_s: float = 0.0


class Fault(AssertionError):  # noqa: N818 - it reads as what it says
    """A run did what it must not: it hung, ended otherwise than it may, or left processes."""


@dataclass(slots=True)
class Story:
    """What happened: the kills that hit, how often the command was started, and what runs said that ended with 1."""

    kills: list[Kill] = field(default_factory=list)
    starts: int = 0
    said: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Storm:
    """A command that is killed and started again.

    cluster: the family of a Ray cluster that is not the command's own; mend: brings it back after its death.
    may_fail: whether the run may end with 1 without a kill, because its network is bad.
    """

    command: Sequence[str]
    out: Out
    environment: Mapping[str, str]
    folder: Path
    seed: int = 0
    cluster: Family | None = None
    mend: Callable[[], None] = lambda: None
    may_fail: bool = False
    every_s: float = 0.002
    family: Family = field(init=False)
    story: Story = field(default_factory=Story)
    _process: subprocess.Popen[bytes] | None = None
    _run_json: bytes | None = None
    _harmed: bool = False  # this attempt may end with 1

    def __post_init__(self) -> None:
        self.family = Family(by_ray="ray" in self.command)

    def run(self, kills: Sequence[Kill], *, most_starts: int = 40) -> Story:
        """Kills in that order; kills whose point no longer comes, because the run is done, are left out."""
        draw = random.Random(self.seed)
        try:
            self.start()
            for kill in kills:
                if not self._kill(kill, draw, most_starts):
                    break
            while not self._done(most_starts):
                continue
            self._gone(patience_s=_RAY_PATIENCE_S)
            return self.story
        finally:
            self.family.end()
            if self._process is not None:
                self._process.wait()

    # -- the run -----------------------------------------------------------------------------------------------------

    @property
    def _errors(self) -> Path:
        return self.folder / f"stderr-{self.family.mark}-{self.story.starts}.txt"

    def start(self) -> subprocess.Popen[bytes]:
        """Starts the command, where `run` is not to do it."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.story.starts += 1
        self._harmed = self.may_fail
        self._run_json = self.out.read("run.json") if "run.json" in self.out.names() else None
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(self.command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=errors,
                                             env={**self.environment, **self.family.environment})
        return self._process

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("expected a run that was started")
        return self._process

    def kill(self) -> None:
        """Kills the driver now; `run` then starts the command again."""
        self.process.kill()
        self.process.wait()
        self._gone(*AT_WORK, patience_s=30)

    def _done(self, most_starts: int) -> bool:
        """Waits for the run's end; whether it ended with 0. One that ended with 1 and may is started again."""
        try:
            code = self.process.wait(MOST_S)
        except subprocess.TimeoutExpired as error:
            raise Fault(f"the run hangs: not ended {MOST_S:g} s after {self._past()}\n{self._tail()}") from error
        if code == 0:
            return True
        tail = self._tail()
        no_cluster = code == 2 and "RAY_ADDRESS" in tail  # it died before the work began
        if not self._harmed or not (code == 1 or no_cluster) or "Traceback" in tail:
            raise Fault(f"the run ended with {code} after {self._past()}\n{tail}")
        self.story.said.append(tail.strip().splitlines()[-1] if tail.strip() else "")
        if self.story.starts >= most_starts:
            raise Fault(f"the run did not end in {most_starts} attempts, the last one: {tail}")
        self._again()
        return False

    def _again(self) -> None:
        self._gone(*AT_WORK, patience_s=30 if self.cluster is None else _RAY_PATIENCE_S)
        self.mend()
        self.start()

    def _gone(self, *victims: Victim, patience_s: float) -> None:
        """What belonged to a run that ended, ends too. No victims: all of the command's own processes."""
        def living() -> list[Process]:
            return [*self.family.living(*victims), *(self.cluster.living(Victim.WORKER) if self.cluster else [])]

        try:
            until(lambda: not living(), "the run's processes to end", patience_s=patience_s)
        except TimeoutError as error:
            raise Fault(f"after {self._past()} these live on: {living()}") from error

    # -- a kill ------------------------------------------------------------------------------------------------------

    def _kill(self, kill: Kill, draw: random.Random, most_starts: int) -> bool:
        """Kills at the point; False where the run was done before."""
        due = self._due(kill, most_starts)
        if due is None:
            return False
        kill, victims = due
        if kill.point is not Point.AFTER and kill.point not in _MOMENTS:
            time.sleep(kill.after_s)
        if kill.victim is Victim.DRIVER and self.process.poll() is not None:  # it ended meanwhile
            return self._kill(kill, draw, most_starts)
        with contextlib.suppress(ProcessLookupError):
            os.kill(draw.choice(victims).pid, signal.SIGKILL)
            self.story.kills.append(kill)
            self._harmed |= kill.victim in ENDS_BY_ITSELF
        self._thaw()
        if kill.victim is Victim.DRIVER:
            self.process.wait()
            self._again()
        elif kill.victim in ENDS_BY_ITSELF:
            return not self._done(most_starts)
        return True

    def _due(self, kill: Kill, most_starts: int) -> tuple[Kill, list[Process]] | None:
        """Waits for the point: the kill and who it may hit; None where the run was done before.

        A moment that is missed again and again becomes a kill after so many shards.
        """
        where = self._where(kill)
        waiting, last = self._waiting(kill), self._published() + _MOST_SHARDS
        give_up, look_at = time.monotonic() + MOST_S, 0.0
        crew: list[Process] = []
        while time.monotonic() < give_up:
            if self.process.poll() is not None:
                if self._done(most_starts):
                    return None
                waiting = self._waiting(kill)
            if time.monotonic() >= look_at:
                crew, look_at = self._crew(), time.monotonic() + _LOOK_S
            if waiting():
                victims = self._held_still(kill, crew) if kill.point in _MOMENTS else where.living(kill.victim)
                if victims:
                    return kill, victims
            if kill.point in _MOMENTS and self._published() >= last and (victims := where.living(kill.victim)):
                return replace(kill, point=Point.PARTS), victims
            time.sleep(self.every_s)
        raise Fault(f"the run hangs: in {MOST_S:g} s it did not come to a kill of the {kill.victim} at {kill.point} "
                    f"after {self._past()}\n{self._tail()}")

    def _where(self, kill: Kill) -> Family:
        """The family that the victim belongs to."""
        return self.family if self.cluster is None or kill.victim in (Victim.DRIVER, Victim.LINK) else self.cluster

    def _waiting(self, kill: Kill) -> Callable[[], bool]:
        """Whether the point is reached; SPEC, PLAN and RESUME may be so from the beginning."""
        begun, published = time.monotonic(), self._published()
        conditions: dict[Point, Callable[[], bool]] = {
            Point.SPEC: lambda: "spec.json" in self.out.names(), Point.PLAN: lambda: bool(numbers(self.out, "plan")),
            Point.BETWEEN: self._looks_between, Point.WRITING: self._looks_half_written, Point.RESUME: self._run_json_is_new,
            Point.PARTS: lambda: self._published() >= published + kill.more,
            Point.AFTER: lambda: time.monotonic() >= begun + kill.after_s}
        return conditions[kill.point]

    def _published(self) -> int:
        return len(numbers(self.out, "images"))

    def _run_json_is_new(self) -> bool:
        return "run.json" in self.out.names() and self.out.read("run.json") != self._run_json

    def _looks_between(self) -> bool:
        images = numbers(self.out, "images")  # first: a shard that is published meanwhile is in neither
        return bool(numbers(self.out, "candidates") - numbers(self.out, "images") - images)

    def _looks_half_written(self) -> bool:
        return any(".segsvc-tmp-" in name for name in self.out.names())

    def _crew(self) -> list[Process]:
        return [process for family in self._families() for process in family.living(Victim.DRIVER, Victim.WORKER)]

    def _held_still(self, kill: Kill, crew: Sequence[Process]) -> list[Process]:
        """Who may be killed at this very moment: holds everybody still to look; where there is none, all go on."""
        for process in crew:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGSTOP)
        victims = self._where(kill).living(kill.victim)
        if kill.point is Point.WRITING:
            victims = [process for process in victims if process.is_writing]
        elif not self._looks_between():
            victims = []
        if not victims:
            self._thaw()
        return victims

    def _thaw(self) -> None:
        for family in self._families():
            family.send(signal.SIGCONT, Victim.DRIVER, Victim.WORKER)

    def _families(self) -> list[Family]:
        return [self.family, *([self.cluster] if self.cluster is not None else [])]

    # -- words -------------------------------------------------------------------------------------------------------

    def _past(self) -> str:
        return f"{self.story.starts} starts and the kills {[f'{kill.victim} at {kill.point}' for kill in self.story.kills]}"

    def _tail(self) -> str:
        return self._errors.read_text("utf-8", "replace")[-3000:]


def drawn(seed: int, count: int, *, victims: Sequence[Victim], within_s: float) -> list[Kill]:
    """Kills at named and random points; a random point lies within so many seconds."""
    draw = random.Random(seed)
    kills: list[Kill] = []
    for number in range(count):
        victim = draw.choice(victims)
        resumed = number > 0 and kills[-1].victim is not Victim.WORKER
        if number == 0 and draw.random() < 0.5:
            kills.append(Kill(Victim.DRIVER, draw.choice([Point.SPEC, Point.PLAN])))
            continue
        points = [Point.PARTS, Point.AFTER, Point.BETWEEN, Point.WRITING, *([Point.RESUME] if resumed else [])]
        if victim is Victim.WORKER:  # workers that die in a row before their first image end a run, and rightly so
            points = [Point.PARTS, Point.BETWEEN, Point.WRITING]
        point = draw.choice(points)
        kills.append(Kill(victim, point, more=draw.randint(1, 3),
                          after_s=draw.uniform(0, within_s) if point is Point.AFTER else draw.uniform(0, 0.02)))
    return kills
