"""Anchors: the chain's head and length, noted outside of the database now and then, so that a cut-off end is found."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from segsvc.errors import ConfigError
from segsvc.stores import store_of

_ENDING = ".json"


@dataclass(frozen=True, slots=True)
class Anchor:
    """What was true at a time (microseconds since 1970): so many batches and decisions, and the head over them."""

    batches: int
    decisions: int
    head: str
    at: int

    def to_json(self) -> str:
        return json.dumps({"at": self.at, "batches": self.batches, "decisions": self.decisions, "head": self.head},
                          separators=(",", ":"))


def parse(line: str) -> Anchor:
    """An anchor as it was written. Raises ValueError for anything else."""
    try:
        found = json.loads(line)
        anchor = Anchor(found["batches"], found["decisions"], found["head"], found["at"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected an anchor, got {line[:80]!r}") from error
    if anchor.to_json() != line:
        raise ValueError(f"expected an anchor, got {line[:80]!r}")
    return anchor


class AnchorPlace:
    """Where anchors are: a file, a line each, or a folder of a bucket, an object each that is never written again."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._bucket = "://" in place and not place.startswith("file://")

    def add(self, anchor: Anchor) -> None:
        """Notes it; it is there when this returns. Raises ConfigError or OSError where the place cannot be written."""
        if self._bucket:
            store_of(self.place).folder(self.place).put(f"anchors/{anchor.batches:012d}{_ENDING}",
                                                        anchor.to_json().encode(), if_absent=True)
            return
        path = Path(self.place.removeprefix("file://"))
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, (anchor.to_json() + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lines(self) -> list[str]:
        """All that is noted, oldest first, as it stands there."""
        if self._bucket:
            folder = store_of(self.place).folder(self.place)
            return [(folder.read(name) or b"").decode("utf-8", "replace") for name in sorted(folder.names("anchors"))]
        path = Path(self.place.removeprefix("file://"))
        try:
            return path.read_bytes().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigError(f"anchors: expected a file that can be read, got {path}: {error.strerror}") from error
