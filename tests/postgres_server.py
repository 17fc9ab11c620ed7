"""A real PostgreSQL of the tests' own, out of the packages of the system."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        latest = sorted(path for place in PLACES for path in Path("/").glob(f"{place[1:]}/{name}"))
        if not latest:
            pytest.fail(f"the tests of the ledger want a PostgreSQL: no {name} on the PATH nor in the usual places. "
                        "Install it: `apt-get install postgresql`")
        found = str(latest[-1])
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def postgres_server() -> Iterator[str]:
    """The address of a server without anything in it, `postgresql://segsvc@127.0.0.1:PORT`; it ends with the block."""
    # it does not run as root
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    become = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account is not None else {}
    folder = Path(tempfile.mkdtemp(prefix="segsvc-pg-"))
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)
    data, port = folder / "data", _free_port()
    log = folder / "log"

    def run(*arguments: str | Path) -> None:
        done = subprocess.run(list(map(str, arguments)), cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, timeout=120, check=False, **become)
        if done.returncode:
            pytest.fail(f"{arguments[0]}: {done.stderr}\n{log.read_text() if log.exists() else ''}")

    try:
        run(_program("initdb"), "-D", data, "-U", "segsvc", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        run(_program("pg_ctl"), "-D", data, "-l", log, "-w", "-o", options, "start")
        try:
            yield f"postgresql://segsvc@127.0.0.1:{port}"
        finally:
            run(_program("pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def new_database(server: str) -> str:
    """The address of a database that is empty."""
    name = f"t{uuid.uuid4().hex}"
    engine = create_engine(f"{server.replace('postgresql:', 'postgresql+pg8000:')}/postgres", isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    finally:
        engine.dispose()
    return f"{server}/{name}"
