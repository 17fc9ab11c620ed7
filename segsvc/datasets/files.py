"""What lies at the place of a data set, on a disk or in a bucket: images by their relative paths, tables by name."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from segsvc import plugins
from segsvc.datasets import DatasetFiles, Split
from segsvc.errors import ConfigError
from segsvc.readahead import in_order
from segsvc.stores import MISSING, Skip, store_of
from segsvc.types import ImageRef

TABLE_ENDINGS = (".csv", ".json")
SPLITS = frozenset(split.value for split in Split)
ANNOTATIONS = "annotations.json"
IMAGES, MASKS = "images", "masks"
CLASSES = "classes.txt"
EXAMPLE_WIDTH_PX, EXAMPLE_HEIGHT_PX = 32, 24
_LOCAL = "file://"


class PlacedFiles:
    """The `DatasetFiles` of a folder, a prefix, or a table (.csv, .json), whose folder is then the root."""

    def __init__(self, place: str, *, is_table: bool) -> None:
        """place: the URI, without a slash at its end."""
        self._place = place
        self._root, _, name = place.rpartition("/") if is_table else (place, "", "")
        self._name = os.fsdecode(unquote_to_bytes(name)) if place.startswith(_LOCAL) else name
        self._tables: dict[str, bytes | None] = {}

    @property
    def place(self) -> str:
        return self._place

    @property
    def is_table(self) -> bool:
        return self._name != ""

    @property
    def files(self) -> Mapping[str, ImageRef]:
        return self._listed[0]

    @property
    def skipped(self) -> Mapping[str, int]:
        """Without the tables that were read so far."""
        of_no_image = self._listed[1].get(Skip.ENDING.value, 0) - sum(data is not None for data in self._tables.values())
        counts = {**self._listed[1], Skip.ENDING.value: of_no_image}
        return {why: count for why, count in counts.items() if count > 0}

    @cached_property
    def _listed(self) -> tuple[Mapping[str, ImageRef], Mapping[str, int]]:
        found: dict[str, ImageRef] = {}
        skipped: dict[str, int] = {}
        for entry in store_of(self._root).list(self._root + "/"):
            if isinstance(entry.found, Skip):
                skipped[entry.found.value] = skipped.get(entry.found.value, 0) + 1
            else:
                found[relative_path(entry.found.uri, self._root)] = entry.found
        ordered = sorted(found.items(), key=lambda item: os.fsencode(item[0]))
        return MappingProxyType(dict(ordered)), skipped

    @cached_property
    def empty_folders(self) -> tuple[str, ...]:
        """Those of a disk, without hidden ones; a bucket has no folders."""
        if not self._root.startswith(_LOCAL):
            return ()
        root = os.fsdecode(unquote_to_bytes(self._root.removeprefix(_LOCAL)))
        found = []
        for folder, below, names in os.walk(root):
            below[:] = [name for name in below if not name.startswith(".")]
            if not below and not names:
                found.append(os.path.relpath(folder, root))
        return tuple(sorted(found, key=os.fsencode))

    def table(self, path: str) -> bytes | None:
        """Each is read once. Raises ConfigError where it is there and cannot be read."""
        if path not in self._tables:
            name = "/".join(step for step in (self._name, path) if step)
            try:
                self._tables[path] = store_of(self._root).folder(self._root).read(name)
            except (OSError, ValueError) as error:  # ValueError: a NUL in the name
                raise ConfigError(f"{name}: expected a table that can be read, got: {error}") from error
        return self._tables[path]

    def refer(self, targets: Sequence[str]) -> list[tuple[ImageRef, bool]]:
        """What a table names, absolute or relative to the root, and whether it is there.

        Raises ConfigError for a scheme that is not known, or a bucket that cannot be used.
        """
        uris = [self._absolute(target) for target in targets]
        at_once = max(store_of(uri).in_flight for uri in (self._root, *uris[:1]))
        found = in_order(lambda uri: store_of(uri).find(uri), uris, at_once=at_once)
        return [(ref, ref.version != MISSING) for ref in found]

    def _absolute(self, target: str) -> str:
        if "://" in target:
            return target
        if self._root.startswith(_LOCAL):
            folder = os.fsdecode(unquote_to_bytes(self._root.removeprefix(_LOCAL)))
            return str(Path(folder, target))
        scheme, _, rest = self._root.partition("://")
        bucket, _, prefix = rest.partition("/")
        key = posixpath.normpath(posixpath.join("/", prefix, target)).lstrip("/")
        return f"{scheme}://{bucket}/{key}"


def files_of(place: str) -> PlacedFiles:
    """What lies at a place that a user names: a folder, a prefix, or a table. Raises ConfigError where nothing does."""
    what = "DATASET: expected a folder of labelled images, a .csv or a COCO .json"
    is_named_table = place.lower().endswith(TABLE_ENDINGS)
    store = store_of(place)
    if "://" not in place or place.startswith(_LOCAL):
        path = Path(os.fsdecode(unquote_to_bytes(place.removeprefix(_LOCAL))) if place.startswith(_LOCAL) else place)
        try:
            exists, is_folder = path.exists(), path.is_dir()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{what}; {place!r} cannot be looked at: {error}") from error
        if not exists or not place:
            raise ConfigError(f"{what}; there is no {place!r}")
        if not is_folder and not is_named_table:
            raise ConfigError(f"{what}; got the file {place!r}")
        if is_folder and not os.access(path, os.R_OK | os.X_OK):
            raise ConfigError(f"{what}; got {place!r} without permission to read it")
        return PlacedFiles(store.find(str(path)).uri.rstrip("/"), is_table=not is_folder)
    if is_named_table and store.find(place).version != MISSING:
        return PlacedFiles(place, is_table=True)
    return PlacedFiles(place.rstrip("/"), is_table=False)


def relative_path(uri: str, root: str) -> str:
    """The path of a file below the root, both URIs; the whole URI of one that lies elsewhere."""
    if not uri.startswith(root + "/"):
        return uri
    below = uri[len(root) + 1:]
    return os.fsdecode(unquote_to_bytes(below)) if root.startswith(_LOCAL) else below


def shown_path(uri: str, place: str) -> str:
    """How messages name a file of the data set at `place`: relative where it lies below, or beside a table."""
    root = place.rpartition("/")[0] if place.lower().endswith(TABLE_ENDINGS) else place
    below = relative_path(uri, root)
    return printable(unquote(below) if below.startswith(_LOCAL) else below)


def image_named(files: DatasetFiles, folder: str, name: str) -> ImageRef | None:
    """The image that a table in `folder` ("" for the root) calls `name`; None where it is not there.

    Names come as other tools write them: with the backslashes of Windows, percent-encoded, or without the `images/` that
    the files were put into.
    """
    plain = name.replace("\\", "/")
    for written in dict.fromkeys((name, plain, unquote(plain))):
        for below in (folder, posixpath.join(folder, IMAGES)):
            if (found := files.files.get(posixpath.normpath(posixpath.join(below, written)))) is not None:
                return found
    return None


def is_uri(name: str) -> bool:
    """Whether a name is a whole URI of a store that is known."""
    return "://" in name and name.split("://", 1)[0] in plugins.names(plugins.PluginKind.STORE)


def printable(text: str) -> str:
    """The text without what UTF-8 cannot hold: names of files are bytes, and JSON may hold half of a pair."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def split_of(folder: str) -> Split | None:
    """The split that a folder of this name stands for."""
    return Split(folder) if folder in SPLITS else None


def text_of(data: bytes, name: str) -> str:
    """A table's text, without a byte-order mark. Raises ConfigError where it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: expected text in UTF-8, got the byte {data[error.start]:#04x} at {error.start}. Save it "
                          "as UTF-8.") from error


def json_of(data: bytes, name: str) -> Any:
    """A table's JSON. Raises ConfigError where it is none."""
    try:
        return json.loads(text_of(data, name))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: expected JSON, got: {error}") from error


def annotated_folders(files: DatasetFiles) -> list[str]:
    """The folders ("" for the root) that hold COCO's annotations.json."""
    return [folder for folder in ("", *(split.value for split in Split))
            if files.table(posixpath.join(folder, ANNOTATIONS)) is not None]


def masked_folders(files: DatasetFiles) -> list[str]:
    """The folders ("" for the root, or a split) that hold a folder `masks`, or `images` where a classes.txt says of what."""
    parents: dict[str, set[str]] = {IMAGES: set(), MASKS: set()}
    for path in files.files:
        steps = path.split("/")[:-1]
        if steps and steps[0] in parents:
            parents[steps[0]].add("")
        elif len(steps) > 1 and steps[0] in SPLITS and steps[1] in parents:
            parents[steps[1]].add(steps[0])
    return sorted(parents[MASKS] | {folder for folder in parents[IMAGES] if any(
        files.table(posixpath.join(at, CLASSES)) is not None for at in ("", folder))})


def write_example_image(path: Path, *, seed: int) -> None:
    """Writes a grey image of noise, another for each seed, for the example of a layout."""
    import cv2
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 200, (EXAMPLE_HEIGHT_PX, EXAMPLE_WIDTH_PX), np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, noise)[1].tobytes())
