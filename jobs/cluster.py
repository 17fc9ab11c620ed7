"""A Ray cluster, seen from the driver's process: an existing one, found and looked at, or one of this machine's own.

Ray is imported here inside functions: its environment is set first.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segsvc.errors import ConfigError, RunError

PACKAGES = ("segsvc", "jobs", "review_ui")  # what a cluster that lacks us is brought
RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"
_RECONNECT_S = 15  # Ray's own 60 s are long for a run that stands still
_OBJECT_STORE_BYTES = 80 * 1024 * 1024  # about the least that Ray takes: only messages cross
_DOOR_FAILED = "Starting Ray client server failed"  # says Ray where its head started no process for a client
_EXIT = re.compile(r"exit type: (\w+)")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What Ray is asked for.

    address: of an existing cluster; None starts one on this machine with `cpus` cores, its GPUs if `gpus`, its files in
    `folder`. env_vars: the settings that go with the work. runtime_env: what the user adds.
    """

    address: str | None
    folder: str
    cpus: int = 1
    gpus: bool = False
    start_timeout_s: float = 300.0
    env_vars: Mapping[str, str] = field(default_factory=dict)
    runtime_env: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Node:
    """What a node of the cluster has in all."""

    cpus: float
    gpus: float


def prepare(wanted: Wanted) -> None:
    """Sets the environment in which Ray is then imported: nothing is reported to its makers, nothing waits for ever."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault(RECONNECT, str(_RECONNECT_S))
    if wanted.address is None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # its way to say: listen on the loopback address alone
        os.environ["RAY_AUTH_MODE"] = "token"  # other users of this machine reach that address too
        os.environ["RAY_AUTH_TOKEN"] = os.urandom(32).hex()
        os.environ.pop("RAY_ADDRESS", None)
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # a process for every core, of which we use few


def patience_s() -> float:
    """How long the driver may stay silent: as Ray may wait for its head, and then some."""
    try:
        return float(os.environ[RECONNECT]) + 15
    except (KeyError, ValueError):
        return _RECONNECT_S + 15


def join(wanted: Wanted) -> None:
    """Connects to the cluster, or starts one. Raises ConfigError that says what came instead, and the versions."""
    if wanted.address is None:
        _init(wanted, address="local", num_cpus=wanted.cpus, num_gpus=None if wanted.gpus else 0, include_dashboard=False,
              object_store_memory=_OBJECT_STORE_BYTES, _temp_dir=wanted.folder)
    else:
        _init(wanted, address=wanted.address, runtime_env=_runtime_env(wanted, bring=False))


def bring_code(wanted: Wanted) -> None:
    """Connects anew and brings our packages along, where the cluster lacks them or has others.

    Raises ConfigError where the cluster has another Python, or answers nothing within the time to start.
    """
    if wanted.address is None:
        return
    import ray

    theirs = _asked(ray, wanted)
    if theirs == fingerprinter()():
        return
    ray.shutdown()
    _init(wanted, address=wanted.address, runtime_env=_runtime_env(wanted, bring=True))
    if _asked(ray, wanted) != fingerprinter()():
        raise ConfigError(f"RAY_ADDRESS: the cluster at {wanted.address} has another segsvc before the one that was "
                          "brought. Install this version in its image.")


def nodes() -> tuple[Node, ...]:
    """The cluster's living nodes."""
    import ray

    return tuple(Node(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
                 for node in _told(ray.nodes) if node["Alive"])


def is_alive() -> bool:
    """Whether the node by which this process is part of the cluster still is."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    return any(node["Alive"] for node in _told(ray.nodes) if node["NodeID"] == own)


def _told(ask: Any) -> Any:
    """What a function of Ray without types answers."""
    return ask()


def fingerprinter() -> Callable[[], str]:
    """A function that says which segsvc there is where it is called ("" for none): the digest of its sources.

    It is made anew so that Ray sends it by value: a node that lacks segsvc could not look it up by name.
    """

    def fingerprint() -> str:
        found = hashlib.sha256()
        for package in ("segsvc", "jobs"):
            spec = importlib.util.find_spec(package)
            if spec is None or not spec.submodule_search_locations:
                return ""
            root = Path(spec.submodule_search_locations[0])
            for path in sorted(root.rglob("*.py")):
                found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
        return found.hexdigest()

    return fingerprint


def _asked(ray: Any, wanted: Wanted) -> str:
    """Which segsvc a node of the cluster has."""
    remote = ray.remote(fingerprinter()).options(num_cpus=0, max_retries=0)
    try:
        answer: str = ray.get(remote.remote(), timeout=wanted.start_timeout_s)
    except ray.exceptions.GetTimeoutError as error:
        raise ConfigError(f"RAY_ADDRESS: expected the cluster at {wanted.address} to run a task within "
                          f"{wanted.start_timeout_s:g} s, it did not. `ray status` shows its nodes.") from error
    except ray.exceptions.RayError as error:
        raise ConfigError(f"RAY_ADDRESS: the cluster at {wanted.address} could not run a task: {first_line(error)}"
                          ) from error
    return answer


def _runtime_env(wanted: Wanted, *, bring: bool) -> dict[str, Any]:
    merged = dict(wanted.runtime_env)
    merged["env_vars"] = {**wanted.env_vars, **merged.get("env_vars", {})}
    if bring:
        merged["py_modules"] = [*merged.get("py_modules", []), *map(str, _own_packages())]
        merged["excludes"] = [*merged.get("excludes", []), "**/__pycache__"]
    return {name: value for name, value in merged.items() if value}


def _own_packages() -> list[Path]:
    specs = [importlib.util.find_spec(name) for name in PACKAGES]
    return [Path(spec.submodule_search_locations[0]) for spec in specs if spec and spec.submodule_search_locations]


def _init(wanted: Wanted, **arguments: Any) -> None:
    import logging

    import ray

    place = wanted.address or "this machine"

    def begin() -> None:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **arguments)

    try:
        try:
            begin()
        except ConnectionError as error:
            if _DOOR_FAILED not in str(error):
                raise
            begin()  # what crashes there rarely does so twice
    except RuntimeError as error:
        versions = re.findall(r"(?:Ray|Python): (\S+)", str(error))
        if "Version mismatch" not in str(error) or len(versions) != 4:
            raise ConfigError(_refusal(place, error)) from error
        raise ConfigError(
            f"RAY_ADDRESS: expected a cluster of Ray {versions[2]} and Python {versions[3]}, as here; the one at {place} is "
            f"of Ray {versions[0]} and Python {versions[1]}. Use an environment of its versions, or another cluster."
        ) from error
    except (ray.exceptions.RayError, ConnectionError, TimeoutError, ValueError, OSError) as error:
        raise ConfigError(_refusal(place, error)) from error


def _refusal(place: str, error: BaseException) -> str:
    if _DOOR_FAILED in str(error):
        return (f"RAY_ADDRESS: the cluster at {place} started no process for a client from outside; its head's "
                "ray_client_server.err may say why. GRPC_ENABLE_FORK_SUPPORT=0, set before `ray start`, keeps a busy head's "
                "from crashing. The same command may work now.")
    hint = "" if place.startswith("ray://") else (" This machine must be one of its nodes (`ray start --address`); from "
                                                  "outside use ray://HEAD:10001, or `ray job submit`.")
    return f"RAY_ADDRESS: Ray {installed()} could not join the cluster at {place}: {first_line(error)}.{hint}"


def installed() -> str:
    """The versions here, as messages name them."""
    import ray

    return f"{ray.__version__} (Python {platform.python_version()})"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without its last full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:300]


def how_it_ended(error: BaseException) -> str:
    """How an actor ended by what Ray says of it, in words that follow "the process"."""
    text = str(error)
    found = _EXIT.search(text)
    if found is None:
        return f"was lost ({first_line(error)})"
    if "MEMORY" in found[1]:
        return "was killed by Ray for want of memory"
    if found[1] == "NODE_DIED" or "node has died" in text:
        return "was lost with its node"
    return "died"


def resources_in_words(cpus: float, gpus: float) -> str:
    """Such as "4 CPUs and 0.5 GPUs"."""
    words = f"{cpus:g} CPU{'s' if cpus != 1 else ''}"
    return f"{words} and {gpus:g} GPU{'s' if gpus != 1 else ''}" if gpus else words


def no_resources(count: int, cpus: float, gpus: float, *, waited_s: float) -> RunError:
    """What is said where no worker gets what it needs."""
    import ray

    has, free = _told(ray.cluster_resources), _told(ray.available_resources)
    return RunError(
        f"expected resources for {count} worker{'s' if count != 1 else ''} of {resources_in_words(cpus, gpus)} each within "
        f"{waited_s:g} s, got none: the cluster has {resources_in_words(has.get('CPU', 0), has.get('GPU', 0))}, of which "
        f"{resources_in_words(free.get('CPU', 0), free.get('GPU', 0))} are free. Ask for less (--workers, --threads), or "
        "give the cluster more.")
