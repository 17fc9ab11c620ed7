"""Files that may be made again at any time, kept in a folder up to a size: what was used longest ago goes first."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_PART = ".part"  # the ending of what is being written


class PictureCache:
    """Named files in a folder that is ours alone. Names are made by us, of our own ids.

    A file is there whole or not at all. What another process left is taken over, in the order of its use. Nothing here
    fails a request: where the folder cannot be written, nothing is kept.
    """

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._guard = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()  # the one that was used last goes last
        self._take_over()

    def _take_over(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            found = [(entry.stat(), entry.name) for entry in os.scandir(self._folder) if entry.is_file()]
        except OSError:
            return
        for status, name in sorted(found, key=lambda pair: (pair[0].st_mtime_ns, pair[1])):
            if name.endswith(_PART):
                (self._folder / name).unlink(missing_ok=True)
            else:
                self._sizes[name] = status.st_size
        self._evict()

    @property
    def size_bytes(self) -> int:
        """How much is kept."""
        with self._guard:
            return sum(self._sizes.values())

    def __contains__(self, name: str) -> bool:
        with self._guard:
            return name in self._sizes

    def find(self, name: str) -> Path | None:
        """The file of that name, which counts as used now; None where it is not kept."""
        path = self._folder / name
        with self._guard:
            if name not in self._sizes:
                return None
            self._sizes.move_to_end(name)
        try:
            os.utime(path)  # so that the order outlives this process
        except OSError:
            self.discard(name)
            return None
        return path

    def keep(self, name: str, write: Callable[[BinaryIO], None]) -> Path | None:
        """The file that `write` writes, kept by that name; None where there is no room for it, here or on the disk.

        Raises what `write` raises, but for OSError.
        """
        try:
            descriptor, temporary = tempfile.mkstemp(suffix=_PART, dir=self._folder)
        except OSError:
            return None
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                size_bytes = file.seek(0, os.SEEK_END)
            if size_bytes > self._limit_bytes:
                return None
            Path(temporary).replace(self._folder / name)
        except OSError:  # the disk is full: a picture can be looked at without being kept
            return None
        finally:
            Path(temporary).unlink(missing_ok=True)
        with self._guard:
            self._sizes[name] = size_bytes
            self._sizes.move_to_end(name)
        self._evict()
        return self._folder / name

    def discard(self, name: str) -> None:
        """Lets go of a file, if it is kept."""
        with self._guard:
            self._sizes.pop(name, None)
        (self._folder / name).unlink(missing_ok=True)

    def _evict(self) -> None:
        with self._guard:
            left, gone = sum(self._sizes.values()), []
            while left > self._limit_bytes:
                name, size_bytes = self._sizes.popitem(last=False)
                left -= size_bytes
                gone.append(name)
        for name in gone:
            (self._folder / name).unlink(missing_ok=True)
