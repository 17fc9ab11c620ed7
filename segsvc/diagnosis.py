"""Looks at the machine: what segsvc would meet here, and what must be mended."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from segsvc.documents import Check
from segsvc.errors import ConfigError, StoreError
from segsvc.loaded import available_cores
from segsvc.models.library import find_model, model_names
from segsvc.settings import settings

_NEEDED = ("numpy", "opencv-python-headless", "openvino", "torch", "torchvision", "segmentation-models-pytorch", "timm",
           "pyarrow", "imagecodecs", "pillow", "simplejpeg", "safetensors", "numba", "boto3")
_OPTIONAL = ("ray", "fastapi")
_FREE_BYTES = 2 * 1024**3
# A fault of SQLite in WAL mode may lose a committed write with two connections; mended in these releases.
_WAL_MENDED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))


def diagnose() -> list[Check]:
    """Everything that was looked at; a check that is not ok says what to do."""
    checks = [check for look in (_python, _packages, _sqlite, _store) for check in look()]
    try:
        settings()
    except ConfigError as error:
        return [*checks, Check(name="settings", ok=False, found=str(error),
                               advice="mend that setting; runtimes, folders, buckets and models were not looked at")]
    return [*checks, *(check for look in (_runtime, _folders, _s3, _models, _assets) for check in look())]


def _python() -> Iterator[Check]:
    ok = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Check(name="python", ok=ok, found=f"{platform.python_version()} on {platform.platform()}",
                advice=None if ok else "segsvc needs Python 3.11 to 3.13")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    yield Check(name="machine", ok=True, found=f"{available_cores()} cores, {memory:.0f} GiB of memory")


def _packages() -> Iterator[Check]:
    missing, found = [], []
    for package in _NEEDED:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    yield Check(name="packages", ok=not missing, found=", ".join(found),
                advice=f"pip install {' '.join(missing)}" if missing else None)
    for package in _OPTIONAL:
        try:
            yield Check(name=package, ok=True, found=version(package))
        except PackageNotFoundError:
            yield Check(name=package, ok=True, found="not installed (optional)")


def _runtime() -> Iterator[Check]:
    from segsvc.models.runtime import has_cuda

    if has_cuda():
        cards = [line.split(":", 1)[1].strip() for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
                 for line in path.read_text().splitlines() if line.startswith("Model:")]
        yield Check(name="gpu", ok=True, found=", ".join(cards) or "one that PyTorch can use")
    else:
        yield Check(name="gpu", ok=True, found=f"none that PyTorch can use; runtime {settings().runtime.value}: a CPU")


def wal_is_safe(release: tuple[int, ...]) -> bool:
    """Whether SQLite of that release keeps every committed write in WAL mode."""
    if release < (3, 7, 0) or release >= _WAL_MENDED[0]:
        return True
    return any(release[:2] == mended[:2] and release >= mended for mended in _WAL_MENDED)


def _sqlite() -> Iterator[Check]:
    safe = wal_is_safe(sqlite3.sqlite_version_info)
    mode = "WAL may be used" if safe else "has the WAL reset fault: the ledger will use a rollback journal"
    yield Check(name="sqlite", ok=True, found=f"{sqlite3.sqlite_version}, {mode}")


def _store() -> Iterator[Check]:
    try:
        with tempfile.TemporaryDirectory() as folder:
            first, second = Path(folder, "a"), Path(folder, "b")
            first.write_bytes(b"x")
            os.link(first, second)
        yield Check(name="store", ok=True, found="files: hard links work, parts are published whole")
    except OSError as error:
        yield Check(name="store", ok=False, found=f"files: {error.strerror}",
                    advice="OUT needs a file system with hard links")


def _s3() -> Iterator[Check]:
    """Where buckets would be asked for and as whom; nothing is asked of them, and no secret is shown."""
    from segsvc.stores.s3.endpoint import look_around

    try:
        found = look_around(settings().s3)
    except StoreError as error:
        yield Check(name="s3", ok=False, found=str(error), advice="mend that; files on this machine need none of it")
        return
    who = {None: "no credentials found (public buckets: set s3.anonymous)", "anonymous": "requests are not signed"}
    yield Check(name="s3", ok=True, found=f"boto3 {found.boto3}, {found.endpoint}, region {found.region}, "
                + who.get(found.source, f"credentials from {found.source}"))


def _folders() -> Iterator[Check]:
    for name, folder in (("models_dir", settings().models_dir), ("assets_dir", settings().assets_dir),
                         ("cache_dir", settings().cache_dir)):
        above = next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))
        writable = os.access(above, os.W_OK | os.X_OK)
        free = shutil.disk_usage(above).free
        ok = writable and free >= _FREE_BYTES
        advice = None if ok else (f"give write access to {above}, or set SEGSVC_{name.upper()}" if not writable else
                                  "make room, or set another folder")
        yield Check(name=name, ok=ok, found=f"{folder}, {free / 1024**3:.0f} GiB free"
                    + ("" if writable else ", not writable"), advice=advice)


def _models() -> Iterator[Check]:
    for name in model_names():
        try:
            model = find_model(name)
            model.check_weights()
            yield Check(name=f"model {name}", ok=True, found=f"{model.digest[:12]}, weights as their sha256")
        except ConfigError as error:
            yield Check(name=f"model {name}", ok=False, found=str(error),
                        advice=f"copy the model again, or remove its folder from {settings().models_dir}")


def _assets() -> Iterator[Check]:
    from segsvc.assets import missing_assets

    missing = missing_assets(settings().assets_dir, settings().models_dir)
    yield Check(name="set-up", ok=True, found="models and images of the demo are there" if not missing else
                f"not fetched: {', '.join(missing)}",
                advice="`segsvc models pull` fetches them" if missing else None)
