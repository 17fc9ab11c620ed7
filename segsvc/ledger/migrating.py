"""Brings a ledger to the form that this version knows, by Alembic's migrations."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Engine, inspect, text

from segsvc.errors import ConfigError
from segsvc.ledger.engine import shown

HEAD = "0008"  # the newest migration


def migrate(engine: Engine, place: str, *, before: Callable[[], None]) -> None:
    """Runs the migrations that are missing, in one transaction; `before` is called first where there are any.

    Raises ConfigError where a later version of segsvc made the ledger.
    """
    with engine.connect() as conn:
        if _form(conn) == HEAD:
            return
    before()
    with engine.execution_options(writes=True).connect() as conn, conn.begin():
        there = _form(conn)
        if there == HEAD:  # another process was first
            return
        if there is None and inspect(conn).has_table("decisions"):
            raise ConfigError(f"ledger: expected a ledger, got {shown(place)} with other tables in it")
        _upgrade(conn, place, there)


def _form(conn: Connection) -> str | None:
    if not inspect(conn).has_table("alembic_version"):
        return None
    found: str | None = conn.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _upgrade(conn: Connection, place: str, there: str | None) -> None:
    from alembic import command  # loaded only where there is something to do
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "segsvc.ledger:migrations")
    config.attributes["connection"] = conn
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if there is not None and there not in known:
        raise ConfigError(f"ledger: expected a ledger of this version of segsvc or an earlier one, got {shown(place)} in "
                          f"the form {there!r}. Install the version that made it.")
    command.upgrade(config, HEAD)
