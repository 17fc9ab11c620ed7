"""Ledgers of every kind: SQLite with each of its journals, and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segsvc.ledger import intake
from segsvc.ledger.opening import Ledger, open_ledger
from segsvc.ledger.records import LOCAL, Reader, ReviewPolicy, Role, RunRecord
from segsvc.settings import RecordSettings
from tests.ledger.runs import Drawn, write_run
from tests.postgres_server import new_database, postgres_server

ANN, BOB, CAT = (Reader(number, name, Role.REVIEWER) for number, name in ((1, "ann"), (2, "bob"), (3, "cat")))
LEAD = LOCAL


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with postgres_server() as address:
        yield address


@pytest.fixture(params=["sqlite", "sqlite with a rollback journal", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a ledger may be made."""
    if request.param == "postgresql":
        return new_database(request.getfixturevalue("postgres"))
    return str(tmp_path / "ledger")


@pytest.fixture
def record(request: pytest.FixtureRequest, tmp_path: Path, place: str) -> RecordSettings:
    kind = request.node.callspec.params["place"]
    return RecordSettings(bundled_sqlite=kind != "sqlite with a rollback journal", anchors=str(tmp_path / "anchors.jsonl"))


@pytest.fixture
def ledger(place: str, record: RecordSettings) -> Iterator[Ledger]:
    """An open ledger, in which nothing is yet."""
    with open_ledger(place, serving=True, record=record) as found:
        yield found


TakeIn = Callable[..., RunRecord]


@pytest.fixture
def take_in(ledger: Ledger, tmp_path: Path) -> TakeIn:
    """Takes a run of these candidates into the ledger, reviewed by this policy."""

    def work(drawn: list[Drawn], name: str = "run", **policy: object) -> RunRecord:
        write_run(tmp_path / name, drawn)
        wanted = {"audit_share": 0.0, "gold_share": 0.0, **policy}
        return intake.import_run(ledger, str(tmp_path / name), ReviewPolicy(**wanted))  # type: ignore[arg-type]

    return work
