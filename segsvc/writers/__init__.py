"""One file per output format: what a run found, written for other tools.

A writer's PLUGIN has `name`, `encode(export, to) -> ExportCount`, `decode(path) -> pyarrow.Table` (what `encode` wrote,
read back: the columns in `keeps`, one row a candidate) and `keeps: frozenset[str]`, the candidate columns that survive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from segsvc.types import Source

if TYPE_CHECKING:
    import pyarrow as pa

NOT_PLUGINS = frozenset({"paths"})


@dataclass(frozen=True, slots=True)
class ExportPart:
    """One shard's images and those of its candidates that are to be exported, in the plan's order.

    `images` has the columns of `segsvc.results.IMAGES_SCHEMA`; `candidates` those of
    `segsvc.results.CANDIDATES_VIEW_SCHEMA` (the stored columns, then `probability` and `band`), then the export's `decided`.
    """

    images: pa.Table
    candidates: pa.Table


@dataclass(frozen=True, slots=True)
class Export:
    """What a writer is given: parts as a stream (may be iterated again), the classes, and a way to the pixels.

    `images()` streams the images of all parts, part by part, without looking at candidates.
    `open_image(image_uri, image_version)` gives the `Source` of that very version, or raises ImageError. decided: the
    columns of text, which tables show, that say what people decided; empty where no ledger holds the run.
    """

    classes: tuple[str, ...]
    parts: Callable[[], Iterator[ExportPart]]
    images: Callable[[], Iterator[pa.Table]]
    open_image: Callable[[str, str], Source]
    decided: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportCount:
    """What was written, and how many images could not be opened where the format needs their pixels."""

    images: int
    candidates: int
    files: int
    unreadable_images: int = 0


class Writer(Protocol):
    """What a writer's PLUGIN offers."""

    @property
    def name(self) -> str: ...
    @property
    def keeps(self) -> frozenset[str]: ...
    def encode(self, export: Export, to: Path) -> ExportCount: ...
    def decode(self, path: Path) -> pa.Table: ...
