"""Readers together or a writer alone: what a rollback journal wants, kept in the process so that nobody polls the file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Many may be within at once, or one alone; who wants to be alone goes first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._within = 0
        self._alone = False
        self._wanted = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """With others that share."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._wanted)
            self._within += 1
        try:
            yield
        finally:
            with self._changed:
                self._within -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """With nobody else."""
        with self._changed:
            self._wanted += 1
            self._changed.wait_for(lambda: not self._alone and not self._within)
            self._wanted -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


class OpenGate(Gate):
    """Where the database itself lets readers and the writer pass."""

    @contextmanager
    def together(self) -> Iterator[None]:
        yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        yield
