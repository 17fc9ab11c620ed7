"""A Ray cluster of one node on this machine that outlives the runs on it, until a test kills it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.family import Family, Victim
from tests.s3_servers import free_ports

_CORES = 2
_STORE_BYTES = 80_000_000


@dataclass(slots=True)
class Cluster:
    """`mend` starts it anew, at the same address, where its head or its node is gone."""

    environment: dict[str, str]
    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    family: Family = field(default_factory=lambda: Family(by_ray=True))

    token: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def access(self) -> dict[str, str]:
        """The environment of a program that is to use it. With a token: its ports are open to other machines."""
        return {"RAY_ADDRESS": f"127.0.0.1:{self.port}", **self._authentication}

    @property
    def _authentication(self) -> dict[str, str]:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def mend(self) -> None:
        if self.family.living(Victim.HEAD) and self.family.living(Victim.RAYLET):
            return
        self.family.end()
        client_port, agent_port = free_ports(2)
        ray = Path(sys.executable).with_name("ray")
        done = subprocess.run(
            [ray, "start", "--head", f"--port={self.port}", f"--num-cpus={_CORES}", "--include-dashboard=false",
             f"--ray-client-server-port={client_port}", f"--dashboard-agent-listen-port={agent_port}",
             f"--object-store-memory={_STORE_BYTES}", f"--temp-dir={self.folder}", "--disable-usage-stats",
             "--include-log-monitor=false"],
            env={**self.environment, **self._authentication, **self.family.environment}, capture_output=True, text=True,
            check=False)
        if done.returncode:
            raise RuntimeError(f"ray start: {done.stdout}{done.stderr}")


@contextmanager
def ray_cluster(environment: dict[str, str]) -> Iterator[Cluster]:
    """A cluster whose workers see `environment`."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: paths of sockets may have 107 bytes
    cluster = Cluster({**os.environ, **environment}, folder)
    try:
        cluster.mend()
        yield cluster
    finally:
        cluster.family.end()
        shutil.rmtree(folder, ignore_errors=True)
