"""The errors of segsvc, and what each of them stops.

SegsvcError
├── ConfigError        what was asked cannot be done; found before any work (exit 2)
│   ├── UnknownName    a name that is not known; the known ones are in the message
│   └── StoreError     a whole store cannot be used; in the middle of a run it ends the run (exit 1)
├── Differs            an imported model answers otherwise than its source (segsvc.exchange.comparison; exit 1)
├── RunError           a run that had begun cannot go on; what is published is kept (exit 1)
├── LedgerError        a request that the ledger does not do; each kind is one HTTP status (segsvc.ledger.errors; exit 1)
└── ImageError         one image cannot be read; the run goes on and the image is a failed row

Exceptions of other libraries are translated into these where a plugin meets them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import StrEnum


class SegsvcError(Exception):
    """Every error that segsvc raises on purpose."""


class ConfigError(SegsvcError):
    """What was asked for cannot be done as it was asked; nothing has been started."""


class UnknownName(ConfigError):  # noqa: N818 - it reads as what it says
    """A name of a model, format or plugin that is not known."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(names) if names else "none"
        super().__init__(f"no {kind} is called {name!r}.{hint} Known: {listed}.")
        self.kind = kind
        self.name = name
        self.known = names


class StoreError(ConfigError):
    """A store as a whole cannot be used: no credentials or expired ones, no such bucket, no rights, out of reach.

    Before any work that is a fault of the configuration; in the middle of a run it ends the run, which can be resumed.
    """


class RunError(SegsvcError):
    """A run that had begun cannot go on; published parts are kept and the run can be resumed."""


class ImageErrorKind(StrEnum):
    """Why an image could not be read; the column `error_kind` of a run's images."""

    MISSING = "missing"  # no longer there
    PERMISSION = "permission"  # there, but not ours to read
    CHANGED = "changed"  # another version than the one that was planned
    EMPTY = "empty"  # no bytes
    UNSUPPORTED = "unsupported"  # no format that we read, or a variant of one that we do not
    CORRUPT = "corrupt"  # truncated, or the decoder refused it
    TOO_LARGE = "too_large"  # would take more memory than the limit
    IO = "io"  # the disk or the network failed
    CRASHED = "crashed"  # the process that worked on it died, again and again
    INTERNAL = "internal"  # a fault of ours


class ImageError(SegsvcError):
    """One image cannot be read.

    `kind` is one of `ImageErrorKind`; the message says what was expected, what came and what to do.
    It does not hold the image's URI: whoever reports it knows which image it was.
    """

    def __init__(self, kind: ImageErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[ImageError], tuple[ImageErrorKind, str]]:
        return type(self), (self.kind, str(self))
