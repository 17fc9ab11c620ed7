"""What tests of listings share: files to be listed, what a plan of them is, and a bucket in memory."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from segsvc import plugins, stores
from segsvc.plan import Input, Shard, listing, shards
from segsvc.stores import Skip
from segsvc.types import ImageRef
from tests.conftest import PLUGINS


def make(folder: Path, *names: str | bytes) -> Path:
    """Files of those names, each with its name in it."""
    for name in names:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))  # noqa: PTH118 (names of any bytes)
        Path(os.fsdecode(path)).parent.mkdir(parents=True, exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(os.fsencode(name))
    return folder


def entries(source: Input, *, exclude: str | None = None) -> list[ImageRef]:
    """The images that are listed."""
    return [entry.found for entry in listing(source, exclude=exclude) if isinstance(entry.found, ImageRef)]


def skipped(source: Input, *, exclude: str | None = None) -> dict[str, int]:
    """What is passed over, counted."""
    found: dict[str, int] = {}
    for entry in listing(source, exclude=exclude):
        if isinstance(entry.found, Skip):
            found[entry.found.value] = found.get(entry.found.value, 0) + 1
    return found


def planned(source: Input, *, size: int = 2, limit: int | None = None, exclude: str | None = None) -> list[Shard]:
    return list(shards(source, shard_size=size, limit=limit, exclude=exclude))


def assert_resumes_anywhere(source: Input, *, size: int = 2, limit: int | None = None, exclude: str | None = None) -> None:
    """However many shards were planned before, what is planned after them is the same."""
    whole = planned(source, size=size, limit=limit, exclude=exclude)
    assert [shard.number for shard in whole] == list(range(len(whole)))
    assert [shard.is_last for shard in whole] == [False] * (len(whole) - 1) + [True]
    ordinals = [unit.ordinal for shard in whole for unit in shard.units]
    assert ordinals == list(range(len(ordinals)))
    for at, shard in enumerate(whole[:-1]):
        rest = list(shards(source, shard_size=size, limit=limit, exclude=exclude, after=shard))
        assert rest == whole[at + 1:]


@contextmanager
def bucket_in_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The store of `bucket://`, empty, as a file in `segsvc/stores/` would bring it."""
    with monkeypatch.context() as patched:
        patched.setattr(stores, "__path__", [*stores.__path__, str(PLUGINS / "segsvc_test_stores")])
        importlib.invalidate_caches()
        plugins.forget()
        yield plugins.load(plugins.PluginKind.STORE, "bucket")
    sys.modules.pop("segsvc.stores.bucket", None)
    plugins.forget()
