"""A ledger is opened so that what it confirms is kept: by one writer, with the journal that loses nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from segsvc.errors import ConfigError
from segsvc.ledger import backup, decisions, intake, progress
from segsvc.ledger.anchors import Anchor
from segsvc.ledger.engine import Journal, journal_for, postgres_engine, shown, sqlite_engine, sqlite_library
from segsvc.ledger.errors import Full
from segsvc.ledger.gate import Gate
from segsvc.ledger.opening import Ledger, open_ledger, there_is_one
from segsvc.ledger.records import NewDecision, ReviewPolicy, Verdict
from segsvc.ledger.tables import METADATA
from segsvc.ledger.verifying import verify
from segsvc.settings import RecordSettings
from tests.ledger.conftest import ANN, TakeIn
from tests.ledger.runs import review, write_run
from tests.postgres_server import new_database


@pytest.mark.parametrize(("version", "journal"), [
    ((3, 40, 1), Journal.ROLLBACK), ((3, 44, 5), Journal.ROLLBACK), ((3, 44, 6), Journal.WAL),
    ((3, 45, 9), Journal.ROLLBACK), ((3, 50, 6), Journal.ROLLBACK), ((3, 50, 7), Journal.WAL),
    ((3, 51, 2), Journal.ROLLBACK), ((3, 51, 3), Journal.WAL),
    ((3, 52, 0), Journal.WAL), ((4, 0, 0), Journal.WAL)])
def test_a_write_ahead_log_is_used_only_where_it_loses_nothing(version: tuple[int, ...], journal: Journal) -> None:
    assert journal_for(version) is journal


@pytest.mark.parametrize("bundled", [True, False])
def test_sqlite_flushes_every_commit_and_uses_the_journal_of_its_release(tmp_path: Path, bundled: bool) -> None:
    library = sqlite_library(bundled=bundled)
    if not bundled:
        assert library is sqlite3
    record = RecordSettings(bundled_sqlite=bundled)
    with open_ledger(str(tmp_path / "ledger"), record=record) as ledger, ledger.read() as conn:
        assert conn.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert conn.exec_driver_sql("PRAGMA journal_mode").scalar() == journal_for(tuple(library.sqlite_version_info)).value
    assert (tmp_path / "ledger" / "ledger.sqlite").stat().st_mode & 0o777 == 0o600


def test_migrations_make_the_tables_that_the_code_knows(ledger: Ledger) -> None:
    with ledger.read() as conn:
        found = inspect(conn)
        for table in METADATA.sorted_tables:
            columns = {each["name"]: each["nullable"] for each in found.get_columns(table.name)}
            assert columns == {column.name: column.nullable for column in table.columns}
            assert found.get_pk_constraint(table.name)["constrained_columns"] == [
                column.name for column in table.primary_key.columns]
            assert {(each["name"], tuple(each["column_names"])) for each in found.get_indexes(table.name)
                    if not each["unique"]} == {(each.name, tuple(each.columns.keys())) for each in table.indexes}


def test_a_ledger_is_opened_again_with_all_that_was_in_it(tmp_path: Path, place: str, record: RecordSettings) -> None:
    write_run(tmp_path / "run", review(3))
    with open_ledger(place, record=record) as ledger:
        run = intake.import_run(ledger, str(tmp_path / "run"), ReviewPolicy(audit_share=0.0))
        decisions.decide(ledger, ANN, review(3)[0].candidate_id(0), NewDecision(Verdict.ACCEPTED), if_match="*")
    with open_ledger(place, record=record) as ledger:
        assert progress.progress(ledger, run.run_id, ANN).done == 1
        assert verify(ledger).faults == ()


def test_beside_a_server_others_read_and_are_told_who_writes(tmp_path: Path) -> None:
    place = str(tmp_path / "ledger")
    write_run(tmp_path / "run", review(1))
    with open_ledger(place, serving=True, url="http://127.0.0.1:8000"):
        with open_ledger(place) as other:
            assert verify(other).decisions == 0
            with pytest.raises(ConfigError, match=r"a server does \(http://127\.0\.0\.1:8000, process \d+\); one process"):
                intake.import_run(other, str(tmp_path / "run"))
        with pytest.raises(ConfigError, match="stop that server first"):
            open_ledger(place, serving=True)
    with open_ledger(place) as other:
        assert intake.import_run(other, str(tmp_path / "run")).review == 1


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    place = str(tmp_path / "ledger")
    program = ("import sys, time\nfrom segsvc.ledger.opening import open_ledger\n"
               f"ledger = open_ledger({place!r}, serving=True, url='http://x')\nprint('open', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(ConfigError, match=f"process {process.pid}"):
            open_ledger(place, serving=True)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    open_ledger(place, serving=True).close()


def test_a_full_disk_is_said_nothing_is_half_written_and_it_goes_on(ledger: Ledger, take_in: TakeIn) -> None:
    if ledger.is_postgres:
        pytest.skip("SQLite says how large its file may become; of PostgreSQL's disk the server decides")
    run = take_in(review(3))
    ids = [each.candidate_id(place) for place, each in enumerate(review(3))]

    def limit(pages: str) -> None:  # of the connection that the writer takes from the pool
        with ledger.engine.connect() as conn:
            conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    limit("1")
    with pytest.raises(Full, match=r"disk is full.*Nothing was stored; make room and send it again"):
        decisions.decide(ledger, ANN, ids[0], NewDecision(Verdict.UNSURE, note="x" * 4000), if_match="*")
        decisions.decide(ledger, ANN, ids[1], NewDecision(Verdict.UNSURE, note="x" * 4000), if_match="*")
        decisions.decide(ledger, ANN, ids[2], NewDecision(Verdict.UNSURE, note="x" * 4000), if_match="*")
    assert verify(ledger).faults == ()
    limit("1073741823")
    decisions.decide(ledger, ANN, ids[2], NewDecision(Verdict.ACCEPTED), if_match="*")
    assert progress.progress(ledger, run.run_id, ANN).done == 1
    assert verify(ledger).faults == ()


def test_work_that_fails_does_not_fail_what_was_stored_beside_it(ledger: Ledger, take_in: TakeIn) -> None:
    take_in(review(20))
    done: list[object] = []

    def wrong() -> None:
        with pytest.raises(ZeroDivisionError):
            ledger.write(lambda writing: 1 // 0)

    def right(place: int) -> None:
        done.append(decisions.decide(ledger, ANN, review(20)[place].candidate_id(place), NewDecision(Verdict.ACCEPTED),
                                     if_match="*"))

    threads = [threading.Thread(target=work, args=arguments) for place in range(20)
               for work, arguments in ((right, (place,)), (wrong, ()))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 20
    assert verify(ledger).faults == ()


def test_a_gate_lets_many_together_or_one_alone_and_the_one_goes_first() -> None:
    gate, inside, said = Gate(), threading.Event(), []

    def alone() -> None:
        with gate.alone():
            said.append("alone")

    def together() -> None:
        with gate.together():
            said.append("together")

    with gate.together(), gate.together():
        first = threading.Thread(target=alone)
        first.start()
        while not gate._wanted:
            time.sleep(0.001)
        second = threading.Thread(target=together)
        second.start()
        assert not inside.wait(0.05)
        assert said == []
    first.join()
    second.join()
    assert said == ["alone", "together"]


def test_a_backup_is_restored_to_either_database(ledger: Ledger, take_in: TakeIn, tmp_path: Path, postgres: str) -> None:
    run = take_in(review(8))
    for place, each in enumerate(review(8)[:5]):
        decisions.decide(ledger, ANN, each.candidate_id(place), NewDecision(Verdict.ACCEPTED, note="ä\t\\N"), if_match="*")
    file = tmp_path / "backup.sqlite"
    assert backup.backup(ledger, file) == file.stat().st_size
    with pytest.raises(ConfigError, match="a file that is not there yet"):
        backup.backup(ledger, file)
    whole = verify(ledger)
    for place in (str(tmp_path / "again"), new_database(postgres)):
        backup.restore(file, place)
        with open_ledger(place, record=RecordSettings(anchors=str(tmp_path / "none"))) as again:
            assert verify(again).head == whole.head
            assert verify(again).faults == ()
            assert progress.progress(again, run.run_id, ANN) == progress.progress(ledger, run.run_id, ANN)
        with pytest.raises(ConfigError, match=r"expected a (place|ledger) without"):
            backup.restore(file, place)
    with pytest.raises(ConfigError, match="expected a file that `segsvc ledger backup` wrote"):
        backup.restore(tmp_path / "run" / "run.json", str(tmp_path / "third"))
    assert not there_is_one(str(tmp_path / "third"))


def test_what_is_no_ledger_is_refused_with_what_was_expected(tmp_path: Path, postgres: str) -> None:
    (tmp_path / "file").write_text("x")
    for place, says in ((str(tmp_path / "file"), "a folder that can be made"), ("mysql://x/y", "postgresql://user@host"),
                        ("postgresql://u:secret@127.0.0.1:1/x", r"postgresql://u:\*\*\*@127\.0\.0\.1:1/x cannot be used"),
                        (f"{postgres}/none", "does not exist"),
                        ("postgresql://u@127.0.0.1/x?sslmode=maybe", "sslmode disable, require, verify-full")):
        with pytest.raises(ConfigError, match=says):
            open_ledger(place)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "ledger.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match="file is not a database"):
        open_ledger(str(tmp_path / "other"))
    assert "secret" not in shown("postgresql://u:secret@h/x")


def test_a_ledger_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    open_ledger(str(tmp_path / "ledger")).close()
    engine = sqlite_engine(tmp_path / "ledger" / "ledger.sqlite", sqlite3)
    with engine.execution_options(writes=True).connect() as conn, conn.begin():
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigError, match=r"in the form '9999'\. Install the version that made it"):
        open_ledger(str(tmp_path / "ledger"))


def test_a_url_may_ask_for_tls() -> None:
    engine = postgres_engine("postgresql://u@127.0.0.1/x?sslmode=require")
    assert "sslmode" not in str(engine.url)
    engine.dispose()


def test_anchors_of_a_postgresql_lie_among_the_users_data_by_default(
        tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    place = new_database(postgres)
    with open_ledger(place, serving=True) as ledger:
        assert Path(ledger.anchors.place).parent == tmp_path / "data" / "segsvc" / "anchors"
        ledger.anchors.add(Anchor(1, 1, "0" * 64, 0))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
