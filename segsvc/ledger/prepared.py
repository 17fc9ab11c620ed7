"""Statements that are run many times a second: compiled once a database, and given to its driver as they are.

SQLAlchemy takes ten times as long to put a small statement together anew, and to describe its result, as SQLite to run it.
Values go in and out as the driver has them: numbers, strings, None, and bools as 0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Delete, Insert, Select, Update

Values = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Compiled:
    """The text for a database, the names of its values in their order, and those that the statement brings itself."""

    text: str
    names: tuple[str, ...]
    fixed: Values

    def placed(self, values: Values) -> list[Any]:
        return [values[name] if name in values else self.fixed[name] for name in self.names]


class Prepared:
    """A statement whose values are `bindparam`s, or for an INSERT all columns of its table."""

    def __init__(self, statement: Select[Any] | Insert | Update | Delete) -> None:
        self._statement = statement
        self._columns = tuple(statement.selected_columns.keys()) if isinstance(statement, Select) else ()
        self._compiled: dict[str, _Compiled] = {}  # by the database's name

    def rows(self, conn: Connection, **values: Any) -> list[dict[str, Any]]:
        """All rows of a SELECT, by the names of its columns."""
        compiled = self._for(conn)
        cursor = conn.connection.cursor()
        try:
            cursor.execute(compiled.text, compiled.placed(values))
            return [dict(zip(self._columns, row, strict=True)) for row in cursor.fetchall()]
        finally:
            cursor.close()

    def first(self, conn: Connection, **values: Any) -> dict[str, Any] | None:
        """The first row; None where there is none."""
        found = self.rows(conn, **values)
        return found[0] if found else None

    def run(self, conn: Connection, values: Values) -> None:
        """Runs what changes rows."""
        self.run_all(conn, [values])

    def run_all(self, conn: Connection, rows: Iterable[Values]) -> None:
        """Runs it for each of these."""
        compiled = self._for(conn)
        cursor = conn.connection.cursor()
        try:
            for row in rows:
                cursor.execute(compiled.text, compiled.placed(row))
        finally:
            cursor.close()

    def _for(self, conn: Connection) -> _Compiled:
        dialect = conn.dialect
        found = self._compiled.get(dialect.name)
        if found is None:
            made = self._statement.compile(dialect=dialect)
            fixed = {name: bind.effective_value for bind, name in made.bind_names.items() if not bind.required}
            found = self._compiled[dialect.name] = _Compiled(str(made), tuple(made.positiontup or ()), fixed)
        return found


def padded(values: Sequence[T], count: int) -> dict[str, T]:
    """Values for a list of `count` bindparams `n0` to `n<count - 1>`: the last is repeated where there are fewer."""
    return {f"n{place}": values[min(place, len(values) - 1)] for place in range(count)}
