"""A Ray cluster of one node on the loopback address, as `ray start --head` makes it, and a look at its processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

RAY = Path(sys.executable).parent / "ray"
AS_OTHERS = {"RAY_worker_niceness": "0"}  # other tests are not more important, and may keep all cores busy for long
BUSY = {  # what a head needs on a machine that is
    "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "120", **AS_OTHERS,
    "GRPC_ENABLE_FORK_SUPPORT": "0"}  # else one in ten of the processes that it forks for clients crashes in gRPC
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # Ray's way to say: nothing leaves this machine
STARTED = "Ray runtime started"
_START_S = 120.0


@dataclass(frozen=True)
class RayHead:
    """A cluster's head: where its GCS, its door for clients from outside and its dashboard listen, and its files."""

    address: str
    client: str
    dashboard: str
    folder: Path
    kill: Callable[[], None]  # at once, with all that runs there
    start: Callable[[], None]  # again, at the same addresses

    @property
    def joined(self) -> dict[str, str]:
        """The environment of a program that works there."""
        return {"RAY_ADDRESS": self.address, **LOOPBACK}


@contextlib.contextmanager
def ray_head(environment: Mapping[str, str], *, cpus: int) -> Iterator[RayHead]:
    """A cluster with so many CPUs whose workers have this environment, until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="segsvc-test-ray-"))
    gcs, client, dashboard, agent = _free_ports(4)
    said = folder / "head.log"
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with said.open("w") as log:
            processes.append(subprocess.Popen(
                [str(RAY), "start", "--head", "--block", "--node-ip-address", "127.0.0.1", "--port", gcs,
                 "--ray-client-server-port", client, "--dashboard-host", "127.0.0.1", "--dashboard-port", dashboard,
                 "--dashboard-agent-listen-port", agent, "--min-worker-port", "0", "--max-worker-port", "0", "--num-cpus",
                 str(cpus), "--num-gpus", "0", "--object-store-memory", "80000000", "--temp-dir", str(folder / "ray"),
                 "--disable-usage-stats"],
                env={**environment, **LOOPBACK, **BUSY, "RAY_AUTH_MODE": "disabled"}, stdout=log,
                stderr=subprocess.STDOUT, cwd=folder, start_new_session=True))
        deadline = time.monotonic() + _START_S
        while STARTED not in said.read_text():
            if processes[-1].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"expected a Ray cluster, got: {said.read_text()[-2000:]}")
            time.sleep(0.1)

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(processes[-1].pid, signal.SIGKILL)
        processes[-1].wait()

    try:
        start()
        yield RayHead(f"127.0.0.1:{gcs}", f"ray://127.0.0.1:{client}", f"http://127.0.0.1:{dashboard}", folder, kill, start)
    finally:
        processes[-1].terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            processes[-1].wait(20)
        kill()
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def processes_with(text: str) -> dict[int, str]:
    """The command lines of the processes that have `text` in their command line or environment, by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                if command and (text in command or text.encode() in (entry / "environ").read_bytes()):
                    found[int(entry.name)] = command
    return found


def rays_own(stderr: str) -> list[str]:
    """What Ray itself says there: not that one waits for it, which a busy machine makes us say."""
    ours = "waiting for Ray to start "
    return [line for line in stderr.splitlines() if "ray" in line.lower() and not line.startswith(ours)]
