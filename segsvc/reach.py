"""What a program may name: folders and buckets that whoever runs the server has listed, with all that lies in them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segsvc.errors import ConfigError

_MAGIC = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class Reach:
    """roots: folders, as they are without links. buckets: names, or `name/prefix/`."""

    roots: tuple[str, ...]
    buckets: tuple[str, ...]

    @classmethod
    def of(cls, roots: Sequence[str | Path], buckets: Sequence[str]) -> Reach:
        """As the settings name them."""
        return cls(tuple(os.path.realpath(root) for root in roots), tuple(buckets))

    def check(self, place: str, what: str) -> None:
        """Raises ConfigError where the path or URI lies elsewhere; links are followed, a glob is as far as it is literal."""
        scheme, found, rest = place.partition("://")
        if found and scheme != "file":
            if not any(_lies_in(rest, bucket) for bucket in self.buckets):
                raise ConfigError(f"{what}: expected a place in the buckets that this server may use "
                                  f"({', '.join(self.buckets) or 'none'}), got {place!r}. Its settings serve.roots and "
                                  "serve.buckets list them.")
            return
        path = os.path.realpath(_literal(_path(place)))
        if not any(path == root or path.startswith(root.rstrip("/") + "/") for root in self.roots):
            raise ConfigError(f"{what}: expected a place in the folders that this server may use "
                              f"({', '.join(self.roots) or 'none'}), got {place!r}. Its settings serve.roots and "
                              "serve.buckets list them.")


def _lies_in(rest: str, bucket: str) -> bool:
    """Whether `bucket/key` is in the bucket, or below its prefix."""
    name, _, key = rest.partition("/")
    wanted, _, prefix = bucket.removeprefix("s3://").partition("/")
    return name == wanted and key.startswith(prefix)


def _path(place: str) -> str:
    from segsvc.stores.file import to_path

    return os.fsdecode(to_path(place)) if place.startswith("file://") else place


def _literal(path: str) -> str:
    """The folder down to which a glob is literal; a path that is there is no glob."""
    if os.path.lexists(path) or not _MAGIC.search(path):
        return path
    return os.path.dirname(_MAGIC.split(path, maxsplit=1)[0]) or "."  # noqa: PTH120 - a path that may be no text
