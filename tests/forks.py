"""`segsvc` again and again out of one process that has loaded its modules: most of a short program's time is that.

As a module it is what tests ask; as a program it is that process. A program out of it is `python -m segsvc` in all but
how it begins, and so is the first worker process that it starts.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import re
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import spawn, util
from pathlib import Path
from typing import IO, NoReturn

LOADED = (  # what programs load when they need it
    "segsvc.worker", "segsvc.estimate", "segsvc.run_report", "review_ui.app", "openvino", "numba.np.arraymath", "pandas",
    "scipy.linalg", "scipy.ndimage", "boto3", "uvicorn")
TORCH = ("torch", "torchvision", "segmentation_models_pytorch")  # so large that it slows the fork of all that need none
NEED_TORCH = ("calibrate", "demo", "evaluate", "improve", "models", "train")
READ_AT_BEGIN = ("PYTHON", "LC_", "LANG", "LD_", "OMP_", "MALLOC", "NUMBA_", "OPENBLAS_", "MKL_", "HF_")
_MOST_DESCRIPTORS = 1024
_HIGH = 500  # descriptors above those that anybody names


class Forks:
    """The process, from outside. Not for what is stopped half-way: what begins here is waited for.

    loaded: modules beside those that all programs load.
    """

    def __init__(self, environment: Mapping[str, str], loaded: Sequence[str] = ()) -> None:
        self._begun = {name: environment.get(name) for name in (*environment, *os.environ) if name.startswith(READ_AT_BEGIN)}
        self._process = subprocess.Popen([sys.executable, __file__, *loaded], env=dict(environment), stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE)
        self._lock = threading.Lock()

    def suit(self, environment: Mapping[str, str]) -> bool:
        """Whether a program with this environment would be the same: some of it is read as Python and libraries begin."""
        names = {name for name in (*environment, *self._begun) if name.startswith(READ_AT_BEGIN)}
        return sys.platform == "linux" and self._begun == {name: environment.get(name) for name in names}

    def ask(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: str,
            timeout_s: float) -> tuple[int, str, str]:
        """Exit code, stdout and stderr. TimeoutError where it took longer, with what it said until it was killed."""
        given, answers = self._process.stdin, self._process.stdout
        assert given is not None and answers is not None
        with self._lock:
            _put(given, [list(arguments), str(folder), dict(environment), stdin, timeout_s])
            code, *said = json.loads(answers.readline())
        out, err = map(_text, said)
        if code is None:
            raise TimeoutError(f"expected {arguments} to end within {timeout_s} s, it said {out!r} and {err!r}")
        return code, out, err

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait()


def _put(pipe: IO[bytes], what: object) -> None:
    pipe.write(json.dumps(what).encode() + b"\n")
    pipe.flush()


def _text(said: str) -> str:
    return io.TextIOWrapper(io.BytesIO(said.encode("latin-1"))).read()  # as `text=True` reads: any end of line is \n


def serve(given: IO[bytes], answers: IO[bytes]) -> None:
    """Answers until nobody asks any more."""
    for line in given:
        arguments, folder, environment, stdin, timeout_s = json.loads(line)
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            said.write(stdin.encode())
            said.seek(0)
            child = os.fork()
            if child == 0:
                _become_segsvc(arguments, folder, environment, (said.fileno(), out.fileno(), err.fileno()))
            code = _waited(child, timeout_s)
            out.seek(0)
            err.seek(0)
            _put(answers, [code, out.read().decode("latin-1"), err.read().decode("latin-1")])


def _waited(child: int, timeout_s: float) -> int | None:
    """Its exit code; None where it had to be killed."""
    handle = os.pidfd_open(child)
    ended = select.select([handle], [], [], timeout_s)[0] != []
    os.close(handle)
    if not ended:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status) if ended else None


def _become_segsvc(arguments: list[str], folder: str, environment: dict[str, str], streams: tuple[int, ...]) -> NoReturn:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, _MOST_DESCRIPTORS)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = str(Path.cwd())  # as `python -m` does
    sys.argv = ["segsvc", *arguments]
    # where every "spawn" begins a process; the library types it for bytes alone, and gives it texts
    util.spawnv_passfds = _Spares(2).start  # type: ignore[assignment]
    _end(lambda: runpy.run_module("segsvc", run_name="__main__", alter_sys=True))


def _end(work: Callable[[], object]) -> NoReturn:
    """Does it and ends as Python ends, but for what was loaded before the fork: its threads are not here to be joined."""
    code = 0
    try:
        work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined] # Python's own end waits for threads by it, and has no other name
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


class _Spares:
    """Children that have loaded what their parent has, before it did anything, and wait to be its worker processes."""

    def __init__(self, count: int) -> None:
        self._doors: list[tuple[int, socket.socket]] = []
        for _ in range(count):
            ours, theirs = socket.socketpair()
            child = os.fork()
            if child == 0:
                ours.close()
                for _, door in self._doors:
                    door.close()
                _become_worker(theirs)
            theirs.close()
            self._doors.append((child, ours))
        self._really = util.spawnv_passfds

    def start(self, path: bytes, words: Sequence[str], descriptors: Sequence[int]) -> int:
        """`multiprocessing.util.spawnv_passfds`, which starts a Python that has loaded nothing."""
        if not self._doors or words[-1] != "--multiprocessing-fork":
            return self._really(path, words, descriptors)
        child, door = self._doors.pop(0)
        numbers = sorted(set(descriptors))
        masked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        named = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", words[-2])}  # of `spawn_main(...)`
        state = json.dumps([named, numbers, dict(os.environ), str(Path.cwd()), masked]).encode()
        with door:
            socket.send_fds(door, [len(state).to_bytes(8, "big")], numbers)
            door.sendall(state)
        return child


def _become_worker(door: socket.socket) -> NoReturn:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: where its parent is killed nobody closes the door
    size, received, _, _ = socket.recv_fds(door, 8, 16)
    if not size:
        os._exit(0)
    state = b""
    while len(state) < int.from_bytes(size, "big"):
        state += door.recv(1 << 16)
    named, numbers, environment, folder, masked = json.loads(state)
    high = [os.dup2(each, _HIGH + place) for place, each in enumerate(received)]
    door.detach()
    os.closerange(3, _HIGH)
    for number, each in zip(numbers, high, strict=True):
        os.dup2(each, number)  # inheritable, as after `exec`
    os.closerange(_HIGH, _MOST_DESCRIPTORS)
    ctypes.CDLL(None).prctl(1, 0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["-c", "--multiprocessing-fork"]
    signal.pthread_sigmask(signal.SIG_SETMASK, masked)
    _end(lambda: spawn.spawn_main(**named))


def _load() -> None:
    from segsvc import cli

    for name in (*(f"segsvc.cli.{module.name}" for module in pkgutil.iter_modules(cli.__path__)), *LOADED, *sys.argv[1:]):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    del sys.path[0]
    sys.path.insert(0, "")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed while modules load is no answer
    _load()
    serve(sys.stdin.buffer, answers)
