"""Many rows at once, as each database takes them fastest."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def insert_rows(conn: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Inserts rows of values in the order of `columns`; their names come from the code alone."""
    if not rows:
        return
    quoted = conn.dialect.identifier_preparer.quote
    if conn.dialect.name == "sqlite":
        # its driver takes longer for a None or a bool than for a whole row of others
        filled = {name: [int(value) if value is True or value is False else value for value in values]
                  if isinstance(values[0], bool) else values
                  for name, values in zip(columns, zip(*rows, strict=True), strict=True)
                  if any(value is not None for value in values)}
        conn.exec_driver_sql(
            f"INSERT INTO {quoted(table.name)} ({', '.join(map(quoted, filled))}) VALUES ({', '.join('?' * len(filled))})",
            list(zip(*filled.values(), strict=True)))
        return
    into = f"{quoted(table.name)} ({', '.join(map(quoted, columns))})"
    text = "".join("\t".join(map(_copied, row)) + "\n" for row in rows)
    cursor = conn.connection.cursor()
    try:
        cursor.execute(f"COPY {into} FROM STDIN", stream=io.BytesIO(text.encode()))  # type: ignore[call-arg]
    finally:
        cursor.close()


def or_nothing(conn: Connection, table: Table) -> Insert:
    """An INSERT that passes over rows whose key is there."""
    return inserting(conn.dialect.name, table).on_conflict_do_nothing()


def inserting(database: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """The database's own INSERT, which can say what becomes of rows whose key is there."""
    return postgresql.insert(table) if database == "postgresql" else sqlite.insert(table)


def _copied(value: Any) -> str:
    """A value in the text form of PostgreSQL's COPY."""
    if value is None:
        return r"\N"
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    if isinstance(value, bool):
        return "t" if value else "f"
    return repr(value)
