"""The database: SQLite in a folder, or a PostgreSQL; how each is opened so that what it confirmed is on the disk."""

from __future__ import annotations

import os
import sqlite3
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from segsvc.errors import ConfigError
from segsvc.ledger.errors import Full, LedgerError

FILE = "ledger.sqlite"
_BUSY_S = 60.0
_CACHE_KIB = 64 * 1024
_CONNECTIONS = 8
_ONE_WRITER = 7_305_813  # the advisory lock of whoever writes, in PostgreSQL
_DISK_FULL = "53100"  # PostgreSQL's code
# first releases in which a write-ahead log that begins anew loses nothing (3.7.0 to 3.51.2 may): by branch, and all later
_MENDED = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7), (3, 51): (3, 51, 3)}


class Journal(StrEnum):
    """How SQLite makes a transaction whole."""

    WAL = "wal"  # readers and the writer do not wait for each other
    ROLLBACK = "persist"  # the old pages are kept aside; a commit is alone


def is_postgres(place: str) -> bool:
    """Whether the place of a ledger is a PostgreSQL; else it is a folder."""
    if "://" not in place:
        return False
    scheme = place.split("://", 1)[0]
    if scheme in ("postgresql", "postgres"):
        return True
    raise ConfigError(f"ledger: expected a folder or postgresql://user@host/database, got {scheme}://...")


def journal_for(version: tuple[int, ...]) -> Journal:
    """The journal that loses nothing with that release of SQLite."""
    mended = _MENDED.get((version[0], version[1]))
    return Journal.WAL if (version >= mended if mended is not None else version >= (3, 52)) else Journal.ROLLBACK


def sqlite_library(*, bundled: bool = True) -> ModuleType:
    """The SQLite that is used: the one that comes in a package of its own, where it is there, else Python's."""
    if bundled:
        try:
            import pysqlite3.dbapi2
        except ImportError:
            return sqlite3
        found: ModuleType = pysqlite3.dbapi2
        return found
    return sqlite3


def sqlite_engine(file: Path, library: ModuleType) -> Engine:
    """The database in that file; it is made if missing, for its owner alone."""
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ConfigError(f"ledger: expected a file that can be written, got {file}: {error.strerror}") from error
    engine = create_engine(URL.create("sqlite+pysqlite", database=str(file)), module=library, pool_size=_CONNECTIONS,
                           max_overflow=-1, connect_args={"timeout": _BUSY_S, "check_same_thread": False})
    journal = journal_for(tuple(library.sqlite_version_info))

    def connected(connection: Any, record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say so
        for pragma in (f"journal_mode={journal.value}", "synchronous=FULL", "foreign_keys=ON", f"cache_size=-{_CACHE_KIB}",
                       "journal_size_limit=67108864"):
            connection.execute(f"PRAGMA {pragma}")

    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


def postgres_engine(place: str) -> Engine:
    """The database at that URL. `sslmode` in it may be disable, require or verify-full."""
    try:
        url = make_url(place).set(drivername="postgresql+pg8000")
    except ArgumentError as error:
        raise ConfigError("ledger: expected postgresql://user:password@host:port/database, got a URL of another form"
                          ) from error
    contexts: dict[str, Callable[[], ssl.SSLContext | bool]] = {
        "disable": lambda: False, "require": _unverified, "verify-full": ssl.create_default_context}
    mode = url.query.get("sslmode")
    if mode is not None and mode not in contexts:
        raise ConfigError(f"ledger: expected sslmode {', '.join(contexts)}, got {mode!r}")
    arguments = {"ssl_context": contexts[mode]()} if isinstance(mode, str) else {}
    engine = create_engine(url.difference_update_query(["sslmode"]), connect_args=arguments, pool_size=_CONNECTIONS,
                           max_overflow=-1, pool_pre_ping=True)

    def begun(connection: Connection) -> None:
        if connection.get_execution_options().get("writes", False):
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_WRITER})

    event.listen(engine, "begin", begun)
    return engine


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def shown(place: str) -> str:
    """The place without its password."""
    return make_url(place).render_as_string(hide_password=True) if is_postgres(place) else place


@contextmanager
def translated(place: str, engine: Engine) -> Iterator[None]:
    """Errors of the database as ours: Full where there is no room, ConfigError where it cannot be used at all."""
    try:
        yield
    except (DBAPIError, engine.dialect.loaded_dbapi.Error) as error:
        raise as_ours(error, place) from error
    except SQLAlchemyError as error:
        raise ConfigError(f"ledger: {shown(place)} cannot be used: {error}") from error


def as_ours(error: Exception, place: str) -> LedgerError | ConfigError:
    """What is to be said of an error of the database, by SQLAlchemy or by its driver."""
    said = _said(error)
    if "disk is full" in said or "disk I/O error" in said or _DISK_FULL in said:
        return Full(f"ledger: expected room on the disk of {shown(place)}, got: {said}. Nothing was stored; make room and "
                    "send it again.")
    return ConfigError(f"ledger: {shown(place)} cannot be used: {said}")


def _said(error: Exception) -> str:
    """The database's own words, in one line and without the statement."""
    own = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    first = own.args[0] if own.args else own
    if isinstance(first, dict):  # PostgreSQL's fields: C is the code, M the message
        return f"{first.get('M', '')} ({first.get('C', '')})"
    return str(first).split("\n", 1)[0]
