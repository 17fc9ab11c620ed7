"""Lists what a run is to work on, and freezes it in shards as it goes.

A plan part is written once it is known whether anything follows it, so that the last one says so: a resume knows
whether the listing was finished, and goes on after the last entry that a part covers.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote_from_bytes

from segsvc import inventory, manifests
from segsvc.errors import ConfigError
from segsvc.reach import Reach
from segsvc.stores import MISSING, Listed, Skip, store_of
from segsvc.types import ImageRef, Unit


class InputKind(StrEnum):
    """What INPUT is."""

    LISTING = "listing"  # a file, a folder or a prefix
    GLOB = "glob"
    MANIFEST = "manifest"
    INVENTORY = "inventory"  # of a bucket


@dataclass(frozen=True, slots=True)
class Input:
    """INPUT, made absolute: the same words in another folder are another input. A glob is written like a URI too."""

    kind: InputKind
    uri: str


@dataclass(frozen=True, slots=True)
class Shard:
    """A frozen piece of the plan: its units, the cursor of the last entry it covers, what was skipped up to there."""

    number: int
    units: tuple[Unit, ...]
    cursor: str
    skipped: Mapping[str, int] = field(default_factory=dict)
    is_last: bool = False


def read_input(text: str) -> Input:
    """What a user means by INPUT. Raises ConfigError where there is no such thing."""
    if "://" in text and not text.startswith("file://"):
        return _in_a_bucket(text)
    path = os.fsdecode(_file_path(text)) if text.startswith("file://") else text
    if not os.path.exists(path):
        if glob.has_magic(text) and not text.startswith("file://"):
            pattern = os.path.normpath(os.path.join(glob.escape(os.getcwd()), path))
            return Input(InputKind.GLOB, "file://" + quote_from_bytes(os.fsencode(pattern), safe="/*?[]!"))
        raise ConfigError(f"INPUT: expected a file, folder, glob or manifest; there is no {text!r}")
    if os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
        raise ConfigError(f"INPUT: expected a folder that can be read, got {text!r} without permission")
    ref = store_of("file://").find(path)
    return Input(_kind_of_file(ref) if os.path.isfile(path) else InputKind.LISTING, ref.uri)


def _in_a_bucket(uri: str) -> Input:
    """A key or prefix of exactly these words comes first, then what the words may mean otherwise."""
    store = store_of(uri)
    if glob.has_magic(uri):
        if glob.has_magic("/".join(uri.split("/")[:3])):
            raise ConfigError(f"INPUT: expected a bucket by its name before the first of *?[, got {uri!r}")
        if next(store.list(uri), None) is None:
            return Input(InputKind.GLOB, uri)
    if uri.lower().endswith((*manifests.ENDINGS, ".json")) and (ref := store.find(uri)).version != MISSING:
        return Input(_kind_of_file(ref), uri)
    return Input(InputKind.LISTING, uri)


def _kind_of_file(ref: ImageRef) -> InputKind:
    name = ref.uri.lower()
    if name.endswith(manifests.ENDINGS):
        return InputKind.MANIFEST
    return InputKind.INVENTORY if name.endswith(".json") and inventory.is_inventory(ref) else InputKind.LISTING


def listing(source: Input, *, after: str | None = None, exclude: str | None = None) -> Iterator[Listed]:
    """Everything that INPUT names, in its order, after the entry with the cursor `after`."""
    match source.kind:
        case InputKind.GLOB:
            here = source.uri.startswith("file://")
            return (_glob if here else _glob_in_a_bucket)(source.uri, after=after, exclude=exclude)
        case InputKind.MANIFEST:
            return manifests.entries(source.uri, after=after)
        case InputKind.INVENTORY:
            return inventory.entries(source.uri, after=after, exclude=exclude)
        case InputKind.LISTING:
            return store_of(source.uri).list(source.uri, after=after, exclude=exclude)


def _glob(pattern: str, *, after: str | None, exclude: str | None) -> Iterator[Listed]:
    """The run's own output is passed over without a count, which would grow as the run goes."""
    store = store_of("file://")
    passed = _file_path(after) if after is not None else None
    own = _file_path(exclude).rstrip(b"/") + b"/" if exclude is not None else None
    for path in sorted(map(os.fsencode, glob.iglob(os.fsdecode(_file_path(pattern)), recursive=True))):
        if os.path.isdir(path) or (passed is not None and path <= passed) or (own is not None and path.startswith(own)):
            continue
        cursor = store.find(os.fsdecode(path)).uri
        for entry in store.list(cursor):
            yield Listed(cursor, entry.found)


def _glob_in_a_bucket(pattern: str, *, after: str | None, exclude: str | None) -> Iterator[Listed]:
    """The listing below the folder of the first magic character, as far as it matches.

    In a bucket a cursor is a key, and keys come in order (by their bytes, or folder by folder): the listing begins and ends
    with the pattern's literal part.
    """
    literal = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    folder = literal.rsplit("/", 1)[0] + "/"
    root = "/".join(pattern.split("/")[:3]) + "/"
    try:
        matches = re.compile(_as_expression(pattern.removeprefix(root)), re.DOTALL).fullmatch
    except re.error as error:
        raise ConfigError(f"INPUT: expected a glob, got {pattern!r} ({error})") from error
    beginning = literal.removeprefix(root)
    if after is None and literal != folder and beginning[-1] not in ("\0", "\ue000"):  # which follows what is no character
        after = beginning[:-1] + chr(ord(beginning[-1]) - 1)  # comes before all that begin so
    for entry in store_of(pattern).list(folder, after=after, exclude=exclude):
        key = entry.found.uri.removeprefix(root) if isinstance(entry.found, ImageRef) else entry.cursor
        if matches(key):
            yield entry
        elif key > beginning and not key.startswith(beginning):
            return


def _as_expression(pattern: str) -> str:
    """A glob as a regular expression: `*` and `?` stop at `/` and at a leading dot, `**` is any number of folders."""
    steps = pattern.split("/")
    expression = ""
    for step in steps[:-1]:
        expression += r"(?:(?!\.)[^/]*/)*" if step == "**" else _step(step) + "/"
    return expression + (r"(?:(?!\.)[^/]*/)*(?=[^./])[^/]+" if steps[-1] == "**" else _step(steps[-1]))


def _step(step: str) -> str:
    expression = r"(?=[^./])" if step[:1] in ("*", "?", "[") else ""  # a name has a character at least
    for part in re.findall(r"\*+|\?|\[!?\]?[^\]]*\]|.", step, re.DOTALL):
        if part[0] == "*":
            expression += "[^/]*"
        elif part == "?":
            expression += "[^/]"
        elif part[0] == "[" and len(part) > 1:
            negated = part.startswith("[!")
            chosen = re.sub(r"([\\[\]^&~|])", r"\\\1", part[2 if negated else 1: -1])
            expression += f"(?!/)[{'^' if negated else ''}{chosen}]"
        else:
            expression += re.escape(part)
    return expression


def _file_path(uri: str) -> bytes:
    from segsvc.stores.file import to_path

    return to_path(uri)


def shards(source: Input, *, shard_size: int, limit: int | None, exclude: str | None,
           after: Shard | None = None, reach: Reach | None = None) -> Iterator[Shard]:
    """The plan, shard by shard, each known to be the last or not; goes on after the shard `after`.

    Yields nothing where INPUT holds no image at all. Raises ConfigError where INPUT names an image out of `reach`.
    """
    number = after.number + 1 if after is not None else 0
    ordinal = after.units[-1].ordinal + 1 if after is not None and after.units else 0
    skipped = dict(after.skipped) if after is not None else {}
    units: list[Unit] = []
    cursor = after.cursor if after is not None else ""
    before = skipped  # as counted up to the last unit; replaced, never changed, as shards hold it
    for entry in listing(source, after=after.cursor if after is not None else None, exclude=exclude):
        if isinstance(entry.found, Skip):
            skipped = {**skipped, entry.found.value: skipped.get(entry.found.value, 0) + 1}
            continue
        if limit is not None and ordinal >= limit:
            break
        if reach is not None and source.kind is not InputKind.LISTING:  # which leaves its folder by no link
            reach.check(entry.found.uri, "INPUT: an image in it")
        if len(units) == shard_size:
            yield Shard(number, tuple(units), cursor, before)
            number, units = number + 1, []
        units.append(Unit(ordinal, entry.found))
        ordinal += 1
        cursor, before = entry.cursor, skipped
    if units:
        yield Shard(number, tuple(units), cursor, skipped, is_last=True)
    elif after is not None or skipped:
        yield Shard(number, (), cursor, skipped, is_last=True)
