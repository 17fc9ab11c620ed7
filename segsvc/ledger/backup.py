"""The whole ledger in one file, while it is in use; and a ledger out of such a file.

The file is a ledger's SQLite database, whatever the ledger itself is: so it can be restored to either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Table, select, tuple_

from segsvc.errors import ConfigError
from segsvc.ledger import engine as engines
from segsvc.ledger.bulk import insert_rows
from segsvc.ledger.migrating import migrate
from segsvc.ledger.opening import Ledger, open_ledger, there_is_one
from segsvc.ledger.tables import DECISIONS, METADATA, RUNS

_AT_ONCE = 5000


def backup(ledger: Ledger, to: Path) -> int:
    """Writes the ledger as it is at one moment into a file that is not there yet; its size in bytes.

    Raises ConfigError where the file is there or cannot be written.
    """
    if to.exists():
        raise ConfigError(f"backup: expected a file that is not there yet, got {to}")
    if not to.parent.is_dir():
        raise ConfigError(f"backup: expected a folder that is there, got {to.parent}")
    part = to.with_name(f".{to.name}.{os.getpid()}.part")
    try:
        _write(ledger, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.link(part, to)
    except FileExistsError as error:
        raise ConfigError(f"backup: expected a file that is not there yet, got {to}") from error
    finally:
        for leftover in (part, *(part.with_name(part.name + ending) for ending in ("-journal", "-wal", "-shm"))):
            leftover.unlink(missing_ok=True)
    return to.stat().st_size


def restore(file: Path, place: str) -> None:
    """Makes a ledger at a place where there is none out of a backup. Raises ConfigError."""
    if not file.is_file() or not file.read_bytes()[:16].startswith(b"SQLite format 3"):
        raise ConfigError(f"restore: expected a file that `segsvc ledger backup` wrote, got {file}")
    if there_is_one(place) and not engines.is_postgres(place):
        raise ConfigError(f"restore: expected a place without a ledger, got {place}. Move that one away first.")
    with open_ledger(place) as ledger:
        source = engines.sqlite_engine(file, engines.sqlite_library())
        try:
            migrate(source, str(file), before=lambda: None)
            ledger.write(lambda writing: _copy_if_empty(source, writing.conn, place))
        finally:
            source.dispose()


def _write(ledger: Ledger, part: Path) -> None:
    library = engines.sqlite_library(bundled=ledger.bundled_sqlite)
    if not ledger.is_postgres:
        with ledger.read() as conn:
            target = library.connect(str(part))
            try:
                driver: Any = conn.connection.driver_connection
                driver.backup(target)  # all pages in one step: as they are at one moment
                target.execute("PRAGMA journal_mode=DELETE").fetchall()
            finally:
                target.close()
        return
    made = engines.sqlite_engine(part, library)
    try:
        migrate(made, str(part), before=lambda: None)
        with made.execution_options(writes=True).connect() as conn, conn.begin():
            _copy(ledger.engine, conn)
    finally:
        made.dispose()


def _copy_if_empty(source: Engine, conn: Connection, place: str) -> None:
    if any(conn.execute(select(table.c[0]).limit(1)).first() is not None for table in (RUNS, DECISIONS)):
        raise ConfigError(f"restore: expected a ledger without runs and decisions, got {engines.shown(place)}")
    _copy(source, conn)


def _copy(source: Engine, to: Connection) -> None:
    """Copies all tables as they are at one moment."""
    level = {"isolation_level": "REPEATABLE READ"} if source.dialect.name == "postgresql" else {}
    with source.connect().execution_options(**level) as conn:
        for table in METADATA.sorted_tables:
            names = [column.name for column in table.columns]
            for page in _pages(conn, table):
                insert_rows(to, table, names, [tuple(row.values()) for row in page])


def _pages(conn: Connection, table: Table) -> Iterator[list[RowMapping]]:
    key = list(table.primary_key.columns)
    after: tuple[Any, ...] | None = None
    while True:
        wanted = select(table).order_by(*key).limit(_AT_ONCE)
        if after is not None:
            wanted = wanted.where(tuple_(*key) > tuple_(*after))
        page = list(conn.execute(wanted).mappings())
        if not page:
            return
        yield page
        after = tuple(page[-1][column.name] for column in key)
