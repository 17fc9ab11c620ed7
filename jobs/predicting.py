"""Models that stay loaded, each in a process of its own, and answer one image at a time.

An image that takes its process down costs that process alone: the next request starts another one. What a process says is
JSON, so that nothing which came from an image is unpickled here.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from segsvc.errors import ConfigError, ImageError, ImageErrorKind, RunError
from segsvc.models.library import Model
from segsvc.operating_point import OperatingPoint
from segsvc.processes import die_with, limit_memory, start_deaf

AT_ONCE = 8  # requests that are answered or wait; each holds its image in memory
_KEPT = 2  # models
_TIMEOUT_S = 60.0
_LOADING_S = 600.0  # a model is converted for this machine when it is first used
_DONE, _NOT_DONE = b"+", b"-"  # how an answer begins


class Busy(RunError):  # noqa: N818 - it reads as what it says
    """As many requests wait as may."""


@dataclass(slots=True, eq=False)
class _Child:
    """A process with a model. busy: somebody's image is in work."""

    digest: str
    process: SpawnProcess
    connection: Connection
    busy: bool = True
    is_loaded: bool = False
    used_at: float = field(default_factory=time.monotonic)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class Predictors:
    """At most `keep` models, the ones that were asked for last; to be closed. Threads may share it."""

    def __init__(self, *, keep: int = _KEPT, timeout_s: float = _TIMEOUT_S) -> None:
        self._keep, self._timeout_s = keep, timeout_s
        self._context = multiprocessing.get_context("spawn")
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._changed = threading.Condition()
        self._children: list[_Child] = []
        self._closed = False
        # a process dies with the thread that started it: this one lives as long as they may
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="predictors")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among those who wait, before an image is even received. Raises Busy."""
        if not self._places.acquire(blocking=False):
            raise Busy(f"expected at most {AT_ONCE} images at once, got one more: ask again in a moment")
        try:
            yield
        finally:
            self._places.release()

    def ask(self, model: Model, image: bytes) -> bytes:
        """The JSON of a PredictAnswer; waits until the model has answered those before.

        Raises ImageError where the image cannot be worked on, ConfigError where the model cannot be used, RunError where its
        process was ended from outside: that can be asked again.
        """
        child = self._taken(model)
        is_well = False
        try:
            if not child.is_loaded:
                _result(self._heard(child, _LOADING_S), ConfigError)
                child.is_loaded = True
            point = model.operating_point.without_profile() if model.operating_point is not None else None
            self._tell(child, point.model_dump_json().encode() if point is not None else b"")
            self._tell(child, image)
            said = self._heard(child, self._timeout_s)
            is_well = True
        finally:
            self._put_back(child, is_well=is_well)
        return _result(said, ImageError)

    def close(self) -> None:
        """Ends all processes; who waits is told that it was ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            children, self._children = self._children, []
        for child in children:
            child.end() if not child.busy else child.process.kill()
        self._starter.shutdown()

    def _taken(self, model: Model) -> _Child:
        """The model's process, for this request alone; a new one where there is none, in the place of one that is idle."""
        with self._changed:
            while True:
                if self._closed:
                    raise RunError("expected a server that goes on, this one is ending")
                self._drop([each for each in self._children if not each.busy and not each.process.is_alive()])
                own = next((each for each in self._children if each.digest == model.digest), None)
                if own is not None and not own.busy:
                    own.busy = True
                    return own
                idle = [each for each in self._children if not each.busy]
                if own is None and (len(self._children) < self._keep or idle):
                    if len(self._children) >= self._keep:
                        self._drop([min(idle, key=lambda each: each.used_at)])
                    child = self._starter.submit(self._started, model).result()
                    self._children.append(child)
                    return child
                self._changed.wait()

    def _started(self, model: Model) -> _Child:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_serve, daemon=True,
                                        args=(there, os.getpid(), str(model.folder), model.digest))
        start_deaf(process)
        there.close()
        return _Child(model.digest, process, here)

    def _drop(self, children: list[_Child]) -> None:
        for child in children:
            self._children.remove(child)
            child.end()

    def _put_back(self, child: _Child, *, is_well: bool) -> None:
        with self._changed:
            child.busy, child.used_at = False, time.monotonic()
            if self._closed:
                child.end()
            elif not is_well:
                self._drop([child])
            self._changed.notify_all()

    def _tell(self, child: _Child, data: bytes) -> None:
        try:
            child.connection.send_bytes(data)
        except OSError as error:
            raise _death(child) from error

    def _heard(self, child: _Child, patience_s: float) -> bytes:
        try:
            if not child.connection.poll(patience_s):
                if not child.is_loaded:
                    raise RunError(f"expected the model to be loaded within {patience_s:g} s, it was not: ask again")
                raise ImageError(ImageErrorKind.CRASHED, f"expected one that takes at most {patience_s:g} s, got one that "
                                                         "takes longer. A run has more time for an image.")
            return child.connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise _death(child) from error


def _death(child: _Child) -> ImageError | RunError:
    """What is said of a process that ended: SIGKILL comes from outside, and says nothing against the image."""
    child.process.join()
    code = child.process.exitcode or 0
    if code == -signal.SIGKILL or not child.is_loaded:
        return RunError("the process that the model is in was ended: ask again")
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return ImageError(ImageErrorKind.CRASHED, f"expected an image that can be worked on, its process ended with {how}")


def _result(said: bytes, kind: type[ImageError] | type[ConfigError]) -> bytes:
    """What a process answered. Raises what it could not do."""
    if said[:1] == _DONE:
        return said[1:]
    refusal = json.loads(said[1:])
    if issubclass(kind, ImageError):
        raise kind(ImageErrorKind(refusal["kind"]), refusal["message"])
    raise kind(refusal["message"])


# -- in the process ---------------------------------------------------------------------------------------------------------


def _serve(connection: Connection, parent: int, folder: str, digest: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides what Ctrl-C means
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with(parent)
    limit_memory()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    from jobs.predict_answers import PredictAnswer
    from segsvc.imaging import regions
    from segsvc.loaded import load_model

    try:
        loaded = load_model(folder)
        if loaded.card.digest != digest:
            raise ConfigError(f"model {loaded.card.name}: it was changed meanwhile, ask again")
    except ConfigError as error:
        connection.send_bytes(_refusal(ImageErrorKind.INTERNAL, str(error)))
        return
    regions.warm()
    try:
        connection.send_bytes(_DONE)
        while True:
            point, image = connection.recv_bytes(), connection.recv_bytes()
            try:
                found = loaded.segment(image)
                answer = PredictAnswer.of(found, loaded.card, OperatingPoint.model_validate_json(point) if point else None)
                said = _DONE + answer.model_dump_json().encode()
            except ImageError as error:
                said = _refusal(error.kind, str(error))
            except MemoryError:
                said = _refusal(ImageErrorKind.TOO_LARGE, "expected an image that fits in memory, memory ran out")
            connection.send_bytes(said)
    except (EOFError, OSError):  # the server is gone, or wants it no more
        return


def _refusal(kind: ImageErrorKind, message: str) -> bytes:
    return _NOT_DONE + json.dumps({"kind": kind.value, "message": message}).encode()
