"""Finds what can be added by one file: readers, writers, stores, data sets and model families.

A plugin of ours is a module in `segsvc/<kind>/` that ends in `PLUGIN`; one from another package is an entry point in
the group `segsvc.<kind>` that points at such an object. An entry point wins over a file of the same name.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from enum import StrEnum
from functools import cache
from typing import Any

from segsvc.errors import ConfigError, UnknownName


class PluginKind(StrEnum):
    """The folders that hold plugins."""

    READER = "readers"
    WRITER = "writers"
    STORE = "stores"
    MODEL = "models"
    DATASET = "datasets"


@cache
def _entry_points(kind: PluginKind) -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=f"segsvc.{kind.value}")}


@cache
def _files(kind: PluginKind) -> frozenset[str]:
    package = importlib.import_module(f"segsvc.{kind.value}")
    shared: frozenset[str] = getattr(package, "NOT_PLUGINS", frozenset())
    return frozenset(module.name for module in pkgutil.iter_modules(package.__path__)
                     if not module.name.startswith("_") and module.name not in shared)


def names(kind: PluginKind) -> tuple[str, ...]:
    """The names of all plugins of this kind, sorted."""
    return tuple(sorted(_files(kind) | _entry_points(kind).keys()))


@cache
def load(kind: PluginKind, name: str) -> Any:
    """The plugin of that kind and name.

    Raises UnknownName (with the known names) where there is none, ConfigError where it is there but cannot be loaded.
    """
    if name in (points := _entry_points(kind)):
        try:
            return points[name].load()
        except Exception as error:  # code of others, which may raise anything while it is imported
            raise ConfigError(f"the {kind.value} plugin {name!r} ({points[name].value}) cannot be loaded: "
                              f"{type(error).__name__}: {error}. Reinstall or remove the package that brings it."
                              ) from error
    if name not in _files(kind):
        raise UnknownName(kind.value.removesuffix("s"), name, names(kind))
    module = f"segsvc.{kind.value}.{name}"
    try:
        return importlib.import_module(module).PLUGIN
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the {kind.value} plugin {name!r} ({module}) cannot be loaded: {error}. Install what it "
                          "needs, and see that it ends in PLUGIN.") from error


def forget() -> None:
    """Looks for plugins anew at the next call: for tests and for processes that install packages."""
    for cached in (_entry_points, _files, load):
        cached.cache_clear()
