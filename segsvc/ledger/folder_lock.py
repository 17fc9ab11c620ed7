"""Who writes into a ledger's folder: one process at a time, by a lock that the kernel gives back however it ends."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from segsvc.errors import ConfigError

FILE = "server.lock"


class Served(ConfigError):  # noqa: N818 - it reads as what it says
    """A server has the ledger: at `url`, where whoever shows its `secret` may have it do an errand."""

    def __init__(self, message: str, *, url: str, secret: str) -> None:
        super().__init__(message)
        self.url = url
        self.secret = secret


class FolderLock:
    """The lock of a ledger's folder; the file says who holds it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._descriptor: int | None = None

    def take(self, *, url: str, secret: str) -> None:
        """Takes it. `url`: where this process serves, empty if it does not. `secret`: what stands in the folder alone, so
        that who shows it has the right to read there. Raises Served, or ConfigError with another holder."""
        if self._descriptor is not None:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"ledger: expected a folder that can be written, got {self._path.parent}: {error.strerror}"
                              ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise self._held() from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "url": url, "secret": secret}).encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _held(self) -> ConfigError:
        try:
            holder = json.loads(self._path.read_bytes())
            pid, url, secret = int(holder["pid"]), str(holder["url"]), str(holder["secret"])
        except (OSError, ValueError, KeyError, TypeError):
            pid, url, secret = 0, "", ""
        who = f"process {pid}" if pid else "another process"
        if url:
            return Served(f"ledger: expected to write into {self._path.parent}, but a server does ({url}, {who}); one "
                          "process writes at a time. Do it there, or stop that server first.", url=url, secret=secret)
        return ConfigError(f"ledger: expected to write into {self._path.parent}, but {who} does just now; one process "
                           "writes at a time. Wait for it, and try again.")
