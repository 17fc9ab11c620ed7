"""One file per URI scheme: where images are found, and where bytes are read and put.

A store's PLUGIN has `scheme`, `list(uri, after, exclude)` (a stream of `Listed`), `find(uri)`, `open(ref)` and
`folder(uri)`, a place for the parts of a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from segsvc import plugins
from segsvc.errors import ConfigError, UnknownName
from segsvc.types import Blob, ImageRef

NOT_PLUGINS: frozenset[str] = frozenset()
MISSING = "missing"  # the version of what is not there
PROBE = ".probe"  # the file of `PartFolder.probe`


class Skip(StrEnum):
    """Why something in a listing is not a unit; each is counted."""

    ENDING = "not_an_image_by_its_ending"
    HIDDEN = "hidden"
    LINK = "link_out_of_the_folder"
    CLOSED = "folder_without_permission"
    SPECIAL = "not_a_regular_file"
    OWN_OUTPUT = "the_run's_own_output"
    OLD = "old_version_or_delete_marker"  # in an inventory


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a listing: an image, or why it is none. A listing goes on after the entry with this `cursor`."""

    cursor: str
    found: ImageRef | Skip


class PartFolder(Protocol):
    """A place that holds named files, each there whole or not at all. Names are relative, with `/`.

    Where the place as a whole fails, methods raise StoreError, or OSError for a disk.
    """

    @property
    def uri(self) -> str: ...
    @property
    def in_flight(self) -> int:
        """How many reads and puts are worth having under way at once."""

    def read(self, name: str) -> bytes | None:
        """The bytes; None where there is no such file."""

    def tag(self, name: str) -> str | None:
        """What tells this version of the file from others (an ETag); None where there is no such file."""

    def put(self, name: str, data: bytes, *, if_absent: bool = False, if_tag: str | None = None) -> bool:
        """Puts the whole file; with `if_absent` only where there is none, with `if_tag` only in place of that version.

        False where that did not hold, and then nothing was put.
        """

    def names(self, prefix: str) -> list[str]:
        """The names below `prefix/`, sorted."""

    def delete(self, name: str) -> None:
        """Removes the file, if it is there."""

    def probe(self) -> None:
        """Puts a file and removes it, with what folders it took: raises where that cannot be done, and leaves nothing."""

    def is_empty(self) -> bool: ...
    def claim(self) -> bool:
        """Whether this process alone may work here now: until `release`, or until it ends, however it ends.

        Asked again by its holder it stays true, or turns false where the claim was lost to another.
        """

    def release(self) -> None: ...
    def sweep(self) -> None:
        """Removes what writers that died have left."""


class Store(Protocol):
    """What a store's PLUGIN offers."""

    @property
    def scheme(self) -> str: ...
    @property
    def in_flight(self) -> int:
        """How many images are worth having opened at once: 1 where opening takes no time."""

    def list(self, uri: str, *, after: str | None = None, exclude: str | None = None) -> Iterator[Listed]: ...
    def find(self, uri: str) -> ImageRef:
        """The version that is there now; `MISSING` where there is none."""

    def open(self, ref: ImageRef) -> Blob: ...
    def folder(self, uri: str) -> PartFolder: ...


# Endings that say "no image": documents, tables, code, archives. Anything else is looked into.
NO_IMAGE_ENDINGS = frozenset(
    (".7z .bash .bz2 .c .cfg .conf .cpp .css .csv .db .doc .docx .env .gz .h .htm .html .ini .ipynb .java .js .json "
     ".jsonl .lock .log .md .npy .npz .odt .parquet .pdf .pkl .pt .pth .py .pyc .rar .rst .rtf .safetensors .sh .sqlite "
     ".tar .tex .tgz .toml .ts .tsv .txt .xls .xlsx .xml .xz .yaml .yml .zip").split())


def is_no_image(name: str) -> bool:
    """Whether the ending of a file's name says that it is no image."""
    dot = name.rfind(".")
    return dot > name.rfind("/") and name[dot:].lower() in NO_IMAGE_ENDINGS


def is_hidden(step: str) -> bool:
    """Whether a step of a key hides what it leads to: it begins with a dot, and is not `.` or `..`."""
    return step[:1] == "." and step not in (".", "..")


def store_of(uri: str) -> Store:
    """The store of a URI's scheme (a path without one is a file's). Raises ConfigError with the known schemes."""
    scheme = uri.split("://", 1)[0] if "://" in uri else "file"
    try:
        store: Store = plugins.load(plugins.PluginKind.STORE, scheme)
    except UnknownName as error:
        known = ", ".join(f"{name}://" for name in error.known)
        raise ConfigError(f"expected a path or a URI of {known}; got {uri!r}") from error
    return store
