"""Where an export goes: a file or a folder, looked at before any work and replaced whole.

Names on disk are made of our own ids. A file is written beside its place and moved there; the files of a folder are
written in a folder inside it and moved up at the end, the index last: a folder with an index holds one whole export.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from segsvc.errors import ConfigError, RunError

INDEX_NAME = "index.csv"
EXPORT_SUFFIXES = frozenset({".csv", ".geojson", ".jpg", ".json", ".parquet", ".png", ".tif", ".zip"})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_OWN = ".segsvc-"  # how the names of files begin that are there only while an export is written
_serial = itertools.count()


@contextmanager
def writing(to: Path) -> Iterator[None]:
    """Translates what goes wrong with a disk while `to` is written.

    Raises RunError for a disk that is full or fails, ConfigError for a place that cannot be written.
    """
    try:
        yield
    except OSError as error:
        failed = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else to
        where = "" if failed == to or failed.name.startswith(_OWN) else f" ({failed})"
        if error.errno in _FULL:
            raise RunError(f"writing {to} stopped: {error.strerror}{where}. What stood there before is kept; make room "
                           "and write it again.") from error
        raise ConfigError(f"expected a place that can be written, got {to}: {error.strerror or error}{where}. "
                          "Choose another.") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Translates what goes wrong with a disk while an export is read back into ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"expected an export at {path}, which cannot be read: {error.strerror or error}") from error


def file_target(to: Path, *, format_name: str, suffixes: tuple[str, ...], default_name: str,
                is_ours: Callable[[Path], bool]) -> Path:
    """The file to be written: `to` itself if it ends in one of `suffixes`, else `default_name` in the folder `to`.

    Raises ConfigError for a suffix of another format, and for a folder that holds something else than an earlier
    export of this format, which `is_ours` tells by the file that is there.
    """
    with writing(to):
        if to.suffix.lower() in suffixes and not to.is_dir():
            return to
        _check_folder_name(to, format_name, f"a file that ends in {' or '.join(suffixes)}, or a folder")
        inside = to / default_name
        if to.is_dir() and next(to.iterdir(), None) is not None and not (inside.is_file() and is_ours(inside)):
            raise ConfigError(f"expected an empty folder or an earlier {format_name} export, got {to}, which holds "
                              f"other files. Name a file (such as {inside}) or another folder.")
        return inside


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file open for writing that takes the place of `path` as the block ends: whole, or not at all.

    Missing folders above it are made. Raises ConfigError and RunError as `writing` does.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.parent / f"{_OWN}{os.getpid()}-{next(_serial)}.tmp"
        try:
            with beside.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(to: Path, *, format_name: str, columns: Sequence[str],
                     own_names: re.Pattern[str]) -> Iterator[Path]:
    """A folder to write files and `index.csv` into; as the block ends they take the place of an earlier export in `to`.

    `own_names` is the whole name of every file that this format may write beside the index, `columns` what the index's
    first line begins with. Raises ConfigError for a folder that holds anything else, and as `writing` does.
    """
    with writing(to):
        staging = to / f"{_OWN}export-{format_name}"
        _check_folder(to, format_name=format_name, columns=columns, own_names=own_names, staging=staging)
        if staging.is_dir():
            shutil.rmtree(staging)
        existed = to.is_dir()
        staging.mkdir(parents=True)
        try:
            yield staging
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            if not existed:
                to.rmdir()
            raise
        _move_up(staging, to)


def _move_up(staging: Path, to: Path) -> None:
    """Replaces an earlier export: while files are mixed there is no index; the staging folder says whose they are."""
    (to / INDEX_NAME).unlink(missing_ok=True)
    with os.scandir(to) as entries:
        stale = [entry.name for entry in entries if entry.name != staging.name and not (staging / entry.name).exists()]
    for name in stale:
        (to / name).unlink()
    for name in os.listdir(staging):  # noqa: PTH208 -- names alone, there may be millions
        if name != INDEX_NAME:
            (staging / name).replace(to / name)
    (staging / INDEX_NAME).replace(to / INDEX_NAME)
    staging.rmdir()


def _check_folder_name(to: Path, format_name: str, expected: str) -> None:
    if to.is_file() or (to.suffix.lower() in EXPORT_SUFFIXES and not to.is_dir()):
        what = "which is a file" if to.is_file() else f"which ends in {to.suffix}"
        raise ConfigError(f"expected {expected} for a {format_name} export, got {to}, {what}.")


def _check_folder(to: Path, *, format_name: str, columns: Sequence[str], own_names: re.Pattern[str],
                  staging: Path) -> None:
    _check_folder_name(to, format_name, "a folder")
    if not to.is_dir():
        return
    index = to / INDEX_NAME
    ours = staging.is_dir() or (index.is_file() and first_line(index).startswith(",".join(columns)))
    with os.scandir(to) as entries:
        for entry in entries:
            if not (ours and (entry.name in (INDEX_NAME, staging.name) or own_names.fullmatch(entry.name))):
                raise ConfigError(f"expected an empty folder or an earlier {format_name} export, got {to}, which holds "
                                  f"{entry.name!r}. Choose another --to, or empty it.")


def first_line(path: Path) -> str:
    """The first line of a text file, at most 64 KiB of it, without its end; what is no UTF-8 is replaced."""
    with path.open("rb") as file:
        return file.readline(65536).decode("utf-8", "replace").rstrip("\r\n")
