"""What works on the runs of a server: its own processes, or with RAY_ADDRESS jobs of that cluster."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from ipaddress import ip_address

from jobs.embedded import WarmProcess, work_here
from jobs.submit import work_by_ray
from jobs.supervisor import Hand
from segsvc.asking import Place, Say
from segsvc.errors import ConfigError
from segsvc.models.library import Model
from segsvc.settings import RuntimeChoice, settings
from segsvc.types import Runtime


class Elsewhere(Place):
    """A cluster whose nodes are not looked at: torch-cuda is taken at its word, and a GPU of this machine says nothing."""

    def runtime(self, model: Model, choice: RuntimeChoice, say: Say) -> Runtime:
        if choice is RuntimeChoice.TORCH_CUDA:
            return Runtime.TORCH_CUDA
        found = super().runtime(model, choice, say)
        return Runtime.TORCH_CPU if found is Runtime.TORCH_CUDA else found


def cluster() -> str | None:
    """The address of the cluster that runs are submitted to; None: they are worked on here."""
    address = os.environ.get("RAY_ADDRESS") or None
    return address if address != "local" else None


def place() -> Place:
    """Where runs that are asked for will be computed."""
    return Elsewhere() if cluster() is not None else Place()


def hands(say: Callable[[str], None], *, is_postgres: bool) -> list[Hand]:
    """As many as the settings say. Raises ConfigError for a cluster beyond this machine that asks nobody who he is."""
    address, count = cluster(), settings().serve.runs_at_once
    if address is None:
        return [WarmProcess(work_here) for _ in range(count)]
    if not _is_here(address) and os.environ.get("RAY_AUTH_MODE") != "token":
        raise ConfigError(f"RAY_ADDRESS: expected RAY_AUTH_MODE=token for a cluster beyond this machine ({address}), as "
                          "whoever reaches its dashboard may run code there. See docs/jobs.md.")
    say(f"Runs are submitted to the Ray cluster at {address}." + (
        "" if is_postgres else " The ledger is in a folder, which one server has: several want a PostgreSQL."))
    return [WarmProcess(work_by_ray) for _ in range(count)]


def _is_here(address: str) -> bool:
    if address == "auto":
        return True
    host = re.sub(r"^[a-z]+://", "", address).rsplit(":", 1)[0].strip("[]/")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
