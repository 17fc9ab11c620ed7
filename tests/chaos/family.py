"""The processes of one run, found by a mark in their environment that every descendant inherits."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

MARK = "CHAOS_FAMILY"


class Victim(StrEnum):
    """Who is killed."""

    DRIVER = "driver"  # `segsvc run` itself
    WORKER = "worker"  # its child, or an actor's process
    LINK = "link"  # its child that holds the connection to Ray
    RAYLET = "raylet"  # the node
    HEAD = "head"  # the cluster's control: gcs_server


@dataclass(frozen=True, slots=True)
class Process:
    """A process that lives: its id and its command line."""

    pid: int
    words: tuple[str, ...]

    @property
    def is_writing(self) -> bool:
        """Whether it has a file open that will be a part once it is whole."""
        with contextlib.suppress(OSError):
            return any(".segsvc-tmp-" in str(opened.readlink()) for opened in Path(f"/proc/{self.pid}/fd").iterdir())
        return False

    def is_a(self, victim: Victim, *, by_ray: bool) -> bool:
        first, is_child = self.words[0], any("spawn_main" in word for word in self.words)
        match victim:
            case Victim.DRIVER:
                return "segsvc" in self.words[:4]
            case Victim.WORKER:
                return first.startswith("ray::ImageWorker") if by_ray else is_child
            case Victim.LINK:
                return is_child and by_ray
            case Victim.RAYLET:
                return Path(first).name == "raylet"
            case Victim.HEAD:
                return Path(first).name == "gcs_server"


@dataclass(frozen=True, slots=True)
class Family:
    """All processes that were started with `environment`, and theirs. by_ray: workers are actors."""

    by_ray: bool = False
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def environment(self) -> dict[str, str]:
        """The mark, and what keeps Ray from writing a process's title over it."""
        return {MARK: self.mark, "SPT_NOENV": "1"}

    def living(self, *victims: Victim) -> list[Process]:
        """Those that live, by id; with `victims` only such. A process that ended and is not yet waited for is dead."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for place in Path("/proc").iterdir():
            if not place.name.isdigit():
                continue
            with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
                if wanted not in (place / "environ").read_bytes().split(b"\0"):
                    continue
                words = (place / "cmdline").read_bytes().decode("utf-8", "replace").rstrip("\0").split("\0")
                process = Process(int(place.name), tuple(words))
                if words != [""] and (not victims or any(process.is_a(victim, by_ray=self.by_ray)
                                                            for victim in victims)):
                    found.append(process)
        return sorted(found, key=lambda process: process.pid)

    def send(self, what: signal.Signals, *victims: Victim) -> None:
        """Sends all of them a signal."""
        for process in self.living(*victims):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, what)

    def end(self) -> None:
        """Kills all that live, children of the dead too."""
        while living := self.living():
            for process in living:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
