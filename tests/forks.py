"""`segsvc` again and again out of a process that has loaded its modules: most of a short program's time is that.

As a module it is what tests ask; as a program it is that process. A program out of it is `python -m segsvc` in all but
how it begins and ends, and so are the processes that it starts by "spawn". /proc shows of them the command line and
environment of the process that they came out of.
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
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import spawn, util
from pathlib import Path
from typing import IO, Any, NoReturn

LOADED = (  # what programs load when they need it
    "segsvc.worker", "segsvc.estimate", "segsvc.run_report", "review_ui.app", "review_ui.server", "jobs.embedded",
    "openvino", "numba.np.arraymath", "pandas", "scipy.linalg", "scipy.ndimage", "boto3", "uvicorn")
TORCH = ("torch", "torchvision", "segmentation_models_pytorch")  # so large that it slows the fork of all that need none
NEED_TORCH = ("calibrate", "demo", "evaluate", "improve", "models", "train")
READ_AT_BEGIN = ("PYTHON", "LC_", "LANG", "LD_", "OMP_", "MALLOC", "NUMBA_", "OPENBLAS_", "MKL_", "HF_")
_PR_SET_CHILD_SUBREAPER = 36
_SIZE_BYTES = 8
_MOST_PASSED = 32
_HIGH = 500  # descriptors above those that anybody names
_MOST_DESCRIPTORS = 1024
_ADOPTING = threading.Lock()  # whose orphans become whose children is told of a process, not of a thread


class Nursery:
    """A process that waits to be forked, from outside: what comes out of it are children of who asks."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door

    def fork(self, order: Mapping[str, object], streams: Sequence[int], descriptors: Sequence[int] = ()) -> int:
        """The id of a process that does what `order` says (`_become`), with these as its 0, 1 and 2 and those beside."""
        state = json.dumps({**order, "descriptors": list(descriptors)}).encode()
        with _ADOPTING:
            _adopt_orphans(True)  # those of a process between it and us, which ends at once
            try:
                socket.send_fds(self._door, [len(state).to_bytes(_SIZE_BYTES, "big")], [*streams, *descriptors])
                self._door.sendall(state)
                return int.from_bytes(_read(self._door, _SIZE_BYTES), "big")
            except BaseException:  # the answer that is not read must not be another's
                self._door.close()
                raise
            finally:
                _adopt_orphans(False)

    def close(self) -> None:
        """Nothing comes out of it any more, and it ends."""
        self._door.close()


class Begun:
    """A program that was begun: `subprocess.Popen`, as far as tests use it."""

    def __init__(self, pid: int, stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self.pid = pid
        self.stdout, self.stderr = io.TextIOWrapper(stdout), io.TextIOWrapper(stderr)  # any end of line is \n
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code if it has ended; negative: the signal that ended it."""
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if found else None
        return self.returncode

    def wait(self, timeout: float = 60.0) -> int:
        """Its exit code. TimeoutError where it goes on."""
        if self.returncode is None:
            handle = os.pidfd_open(self.pid)
            select.select([handle], [], [], timeout)
            os.close(handle)
        if (code := self.poll()) is None:
            raise TimeoutError(f"expected process {self.pid} to end within {timeout} s")
        return code

    def send_signal(self, which: signal.Signals) -> None:
        """Sends it a signal if it lives."""
        if self.poll() is None:
            os.kill(self.pid, which)

    def terminate(self) -> None:
        """Tells it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once if it lives."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 60.0) -> tuple[str, str]:
        """The rest of what it says; it has ended then, and its streams are closed. TimeoutError where it goes on."""
        with ThreadPoolExecutor(2) as readers:
            said = [readers.submit(_rest, stream) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except TimeoutError:
                self.kill()
                raise
        return said[0].result(), said[1].result()

    def __del__(self) -> None:
        if self.returncode is None:
            warnings.warn(f"process {self.pid} was begun and not waited for", ResourceWarning, source=self, stacklevel=2)


def _rest(stream: IO[str]) -> str:
    if stream.closed:
        return ""
    with stream:
        return stream.read()


class Forks:
    """`segsvc` out of a process that has loaded its modules.

    loaded: modules beside those that all programs load.
    """

    def __init__(self, environment: Mapping[str, str], loaded: Sequence[str] = ()) -> None:
        self._begun = {name: environment.get(name) for name in (*environment, *os.environ) if name.startswith(READ_AT_BEGIN)}
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen([sys.executable, __file__, str(theirs.fileno()), *loaded],
                                             env=dict(environment), stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        self._nursery = Nursery(ours)

    def suit(self, environment: Mapping[str, str]) -> bool:
        """Whether a program with this environment would be the same: some of it is read as Python and libraries begin."""
        names = {name for name in (*environment, *self._begun) if name.startswith(READ_AT_BEGIN)}
        return sys.platform == "linux" and self._begun == {name: environment.get(name) for name in names}

    def start(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Begun:
        """The program, as it begins; it reads nothing."""
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        with Path(os.devnull).open("rb") as nothing, os.fdopen(out_end, "wb"), os.fdopen(err_end, "wb"):
            pid = self._fork(arguments, folder, environment, (nothing.fileno(), out_end, err_end))
        return Begun(pid, os.fdopen(out, "rb"), os.fdopen(err, "rb"))

    def ask(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: str,
            timeout_s: float) -> tuple[int, str, str]:
        """Exit code, stdout and stderr. TimeoutError where it took longer, with what it said until it was killed."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin.encode())
            given.seek(0)
            pid = self._fork(arguments, folder, environment, (given.fileno(), out.fileno(), err.fileno()))
            process, late = Begun(pid, out, err), None
            try:
                process.wait(timeout_s)
            except TimeoutError as error:
                late = error
                process.kill()
                process.wait()
            for stream in (out, err):
                stream.seek(0)
            said = process.stdout.read(), process.stderr.read()
        if late:
            raise TimeoutError(f"expected {arguments} to end within {timeout_s} s, it said {said}") from late
        return process.wait(), *said

    def _fork(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], streams: Sequence[int]) -> int:
        return self._nursery.fork({"arguments": list(arguments), "folder": str(folder), "environment": dict(environment)},
                                  streams)

    def close(self) -> None:
        self._nursery.close()
        self._process.wait()


# -- in the process, and in those that come out of it -----------------------------------------------------------------------


def nurse(door: socket.socket) -> NoReturn:
    """Forks whenever it is asked to, until nobody asks any more."""
    while (asked := _asked(door)) is not None:
        heard, told = os.pipe()
        between = os.fork()
        if between == 0:
            _bear(*asked, told)
        os.close(told)
        os.waitpid(between, 0)
        child = os.read(heard, _SIZE_BYTES)
        for each in (*asked[1], heard):
            os.close(each)
        if not child:  # there is no room for it
            break
        with contextlib.suppress(OSError):
            door.sendall(child)
    os._exit(0)


def _asked(door: socket.socket) -> tuple[dict[str, Any], Sequence[int]] | None:
    """An order, and the descriptors that came with it; None where who asks has ended."""
    try:
        size, received, _, _ = socket.recv_fds(door, _SIZE_BYTES, _MOST_PASSED)
        return (json.loads(_read(door, int.from_bytes(size, "big"))), received) if size else None
    except (OSError, EOFError):
        return None


def _bear(order: dict[str, Any], received: Sequence[int], told: int) -> NoReturn:
    """Forks what was ordered, tells its id, and leaves it to who asked."""
    between = os.getpid()
    try:
        child = os.fork()
        if child == 0:
            _end(lambda: _become(order, received, between))
        os.write(told, child.to_bytes(_SIZE_BYTES, "big"))
    finally:
        os._exit(0)


def _become(order: dict[str, Any], received: Sequence[int], between: int) -> None:
    while os.getppid() == between:  # until it is the child of who asked
        time.sleep(0.001)
    numbers = [0, 1, 2, *order["descriptors"]]
    high = [os.dup2(each, _HIGH + place) for place, each in enumerate(received)]
    os.closerange(0, _HIGH)
    for number, each in zip(numbers, high, strict=True):
        os.dup2(each, number)  # inheritable, as after `exec`
    os.closerange(_HIGH, _MOST_DESCRIPTORS)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        ours = getattr(sys, name)  # knows of another file whether one can go back in it
        setattr(sys, name, os.fdopen(number, mode, buffering=1 if name == "stderr" else -1, encoding=ours.encoding,
                                     errors=ours.errors, closefd=False))
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    util.spawnv_passfds = _Spawn(_nursery(numbers)).start  # where every "spawn" begins a process
    if "spawned" in order:
        sys.argv = ["-c", "--multiprocessing-fork"]
        signal.pthread_sigmask(signal.SIG_SETMASK, order["masked"])
        spawn.spawn_main(**order["spawned"])
    else:
        sys.path[0] = str(Path.cwd())  # as `python -m` does
        sys.argv = ["segsvc", *order["arguments"]]
        runpy.run_module("segsvc", run_name="__main__", alter_sys=True)


def _nursery(used: Sequence[int]) -> Nursery:
    """A process like this one before it did anything, for its own children."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        door = theirs.detach()
        ours.close()
        for number in used:
            os.close(number)
        for _ in range(3):
            os.open(os.devnull, os.O_RDWR)
        nurse(socket.socket(fileno=door))
    theirs.close()
    return Nursery(ours)


class _Spawn:
    """`multiprocessing.util.spawnv_passfds`, which starts a Python that has loaded nothing."""

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self._really = util.spawnv_passfds

    def start(self, path: bytes, args: Sequence[Any], passfds: Sequence[int]) -> int:
        if args[-1] != "--multiprocessing-fork":
            return self._really(path, args, passfds)
        named = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", args[-2])}  # of `spawn_main(...)`
        masked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        return self._nursery.fork({"spawned": named, "masked": masked, "folder": str(Path.cwd()),
                                   "environment": dict(os.environ)}, (0, 1, 2), sorted(set(passfds)))


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
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError as error:
            code = 120
            sys.excepthook(type(error), error, error.__traceback__)
    os._exit(code)


def _adopt_orphans(whether: bool) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(whether))


def _read(door: socket.socket, size: int) -> bytes:
    whole = b""
    while len(whole) < size:
        part = door.recv(size - len(whole))
        if not part:
            raise EOFError("the process that is to be forked is gone")
        whole += part
    return whole


def _load(names: Sequence[str]) -> None:
    from segsvc import cli

    for name in (*(f"segsvc.cli.{module.name}" for module in pkgutil.iter_modules(cli.__path__)), *LOADED, *names):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    del sys.path[0]
    sys.path.insert(0, "")
    asked_at = socket.socket(fileno=int(sys.argv[1]))
    _load(sys.argv[2:])
    nurse(asked_at)
