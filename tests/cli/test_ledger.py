"""The commands of the ledger, as a user calls them: review import, users, audit verify, backup, and exports of verdicts."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

import segsvc as library
from segsvc.imaging import masks
from segsvc.ledger import decisions, users
from segsvc.ledger.opening import open_ledger
from segsvc.ledger.records import LOCAL, NewDecision, Verdict
from segsvc.types import Box
from tests.conftest import Answer, Program
from tests.scenes import boxes_scene
from tests.test_documents import check

BOXES = [Box(10, 10, 30, 20), Box(60, 10, 90, 40), Box(120, 60, 150, 100), Box(170, 5, 190, 25)]


@pytest.fixture
def place(segsvc: Program) -> Program:
    """A folder with the finished run `out`: four candidates, all of them for review, and the ledger in `segsvc-data`."""
    (segsvc.folder / "in").mkdir()
    cv2.imwrite(str(segsvc.folder / "in" / "four.png"), boxes_scene(BOXES, width_px=200, height_px=110))
    answer = segsvc("run", "in", "--model", "bright", "--out", "out")
    assert answer.code == 0, answer.stderr
    return segsvc


def decide(place: Program, number: int, new: NewDecision) -> datetime:
    """Decides the candidate of BOXES[number] behind the page's back."""
    with open_ledger(str(place.folder / "segsvc-data")) as ledger:
        return decisions.decide(ledger, LOCAL, candidate_id(place, number), new, if_match="*").decided_at


def candidate_id(place: Program, number: int) -> str:
    rows = library.open_run(str(place.folder / "out")).candidates().to_pylist()
    found: str = next(row["candidate_id"] for row in rows if row["x0"] == BOXES[number].x0)
    return found


def exported(place: Program, *flags: str) -> dict[int, dict[str, str]]:
    """The rows of a CSV export, by x0 of BOXES or of the mask that a person gave."""
    to = place.folder / f"export-{time.monotonic_ns()}.csv"
    answer = place("export", "out", "--format", "csv", "--to", to, *flags)
    assert answer.code == 0, answer.stderr
    with to.open(newline="") as file:
        return {int(row["x0"]): row for row in csv.DictReader(file)}


def test_a_run_comes_into_the_ledger_once_and_policies_are_kept(place: Program) -> None:
    first = check("review_import", place("review", "import", "out", "--json").stdout)
    assert (first["review"], first["audit"], first["policy"]["readers"]) == (4, 0, 1)
    again = place("review", "import", "out", "--readers", "2", "--blind", "--json")
    assert check("review_import", again.stdout)["policy"] == {**first["policy"], "readers": 2, "blind": True}
    kept = place("review", "import", "out", "--json")
    assert check("review_import", kept.stdout)["policy"] == check("review_import", again.stdout)["policy"]
    assert "the ledger holds this run already" in kept.stderr
    assert place("review", "import", "in").code == 2
    assert place("review", "import", "out", "--audit-share", "1.5").stderr.startswith(
        "segsvc: audit_share: expected a share from 0 to 1, got 1.5")


def test_exports_honour_what_people_decided_now_and_at_a_time(place: Program) -> None:
    assert exported(place) == {}  # nothing is accepted by rule, and there is no ledger
    assert not (place.folder / "segsvc-data").exists()
    assert place("review", "import", "out").code == 0
    decide(place, 0, NewDecision(Verdict.ACCEPTED))
    then = decide(place, 1, NewDecision(Verdict.REJECTED))
    corrected = np.zeros((10, 12), np.bool_)
    corrected[2:8, 3:9] = True
    decide(place, 2, NewDecision(Verdict.EDITED, mask_rle=masks.encode(corrected).decode(), box=Box(100, 50, 112, 60)))
    decide(place, 3, NewDecision(Verdict.UNSURE))
    found = exported(place)
    assert set(found) == {10, 100}
    assert (found[100]["y1"], found[100]["area_px"], found[100]["mask_rle"]) == (
        "60", "36", masks.encode(corrected).decode())
    assert set(exported(place, "--as-of", then.isoformat())) == {10}
    assert "verdict" in found[10]
    everything = exported(place, "--verdict", "all")
    assert set(everything) == {10, 60, 100, 170}  # the corrected one as it was corrected
    assert [everything[x0]["verdict"] for x0 in (10, 60, 100, 170)] == ["accepted", "rejected", "edited", ""]
    assert everything[100]["mask_rle"] == found[100]["mask_rle"]
    rejected = everything[BOXES[1].x0]
    assert (rejected["decided_by"], datetime.fromisoformat(rejected["decided_at"])) == ("local", then)
    earlier = exported(place, "--verdict", "all", "--as-of", then.isoformat())
    assert [earlier[box.x0]["verdict"] for box in BOXES] == ["accepted", "rejected", "", ""]


def test_a_person_outweighs_a_rule(place: Program) -> None:
    assert place("band", "out", "--flag-at", "0.9", "--accept-at", "0.95").code == 0
    assert set(exported(place)) == {box.x0 for box in BOXES}
    taken_in = check("review_import", place("review", "import", "out", "--audit-share", "1", "--json").stdout)
    assert (taken_in["review"], taken_in["audit"], taken_in["accepted"]) == (0, 4, 4)
    decide(place, 2, NewDecision(Verdict.REJECTED))
    assert set(exported(place)) == {10, 60, 170}


def test_the_report_tells_decisions_by_person_and_rule(place: Program) -> None:
    assert place("report", "out").code == 0
    assert "By rule for all candidates" not in (place.folder / "out" / "report.html").read_text()
    assert place("review", "import", "out").code == 0
    decide(place, 0, NewDecision(Verdict.ACCEPTED, seconds=5.0))
    assert place("report", "out").code == 0
    page = (place.folder / "out" / "report.html").read_text()
    assert "By rule for all candidates" in page
    assert '<tr><th scope="row">local</th><td class="number">1</td>' in page


def test_audit_verify_says_what_is_wrong_and_exits_with_1(place: Program) -> None:
    assert "where there is none" in place("audit", "verify").stderr
    assert place("review", "import", "out").code == 0
    decide(place, 0, NewDecision(Verdict.ACCEPTED))
    answer = place("audit", "verify", "--json")
    assert (answer.code, check("audit", answer.stdout)["ok"]) == (0, True)
    with open_ledger(str(place.folder / "segsvc-data")) as ledger, ledger.engine.connect() as conn, conn.begin():
        conn.exec_driver_sql("UPDATE decisions SET verdict = 'rejected'")
    answer = place("audit", "verify")
    assert answer.code == 1
    assert "changed   decision 1: of local says something else than when it was written" in answer.stdout
    assert check("audit", place("audit", "verify", "--json").stdout)["faults"][0]["kind"] == "changed"


def test_users_are_made_listed_and_disabled(place: Program) -> None:
    def with_password(*arguments: str, password: str = "long enough\n") -> Answer:
        return place(*arguments, stdin=password)

    made = with_password("users", "add", "ann", "--role", "reviewer", "--json")
    assert check("user", made.stdout)["role"] == "reviewer"
    refused = with_password("users", "add", "bob", "--role", "admin", password="short\n")
    assert (refused.code, "8 to 1000 characters" in refused.stderr) == (2, True)
    token = check("token", place("users", "token", "ann", "--json").stdout)["token"]
    with open_ledger(str(place.folder / "segsvc-data")) as ledger:
        reader = users.reader_of(ledger, token)
        assert reader is not None
        assert reader.name == "ann"
    assert with_password("users", "password", "ann", password="another one\n").code == 0
    assert check("user", place("users", "disable", "ann", "--json").stdout)["disabled_at"] is not None
    assert [each["name"] for each in check("users", place("users", "list", "--json").stdout)["items"]] == ["ann"]
    assert "Known: ann" in place("users", "disable", "anne").stderr


def test_a_backup_is_restored_elsewhere(place: Program) -> None:
    assert place("review", "import", "out").code == 0
    decide(place, 0, NewDecision(Verdict.ACCEPTED))
    made = check("ledger_file", place("ledger", "backup", "copy.sqlite", "--json").stdout)
    assert made["size_bytes"] == (place.folder / "copy.sqlite").stat().st_size
    assert place("ledger", "backup", "copy.sqlite").code == 2
    check("ledger_file", place("ledger", "restore", "copy.sqlite", "--ledger", "again", "--json").stdout)
    assert place("audit", "verify", "--ledger", "again", "--anchors", "segsvc-data/anchors.jsonl").code == 0
    assert "a place without a ledger" in place("ledger", "restore", "copy.sqlite", "--ledger", "again").stderr


def test_known_answers_are_taken_from_a_csv(place: Program) -> None:
    assert place("review", "import", "out").code == 0
    (place.folder / "gold.csv").write_text(f"candidate_id,verdict\n{candidate_id(place, 0)},accepted\n")
    assert check("gold", place("review", "gold", "out", "gold.csv", "--json").stdout)["answers"] == 1
    (place.folder / "gold.csv").write_text(f"candidate_id,verdict\n{candidate_id(place, 0)},maybe\n")
    assert "line 2: expected the verdict accepted or rejected, got 'maybe'" in place(
        "review", "gold", "out", "gold.csv").stderr
    (place.folder / "gold.csv").write_text("id\n1\n")
    assert "expected the columns candidate_id and verdict" in place("review", "gold", "out", "gold.csv").stderr


def test_the_ledger_of_the_environment_is_used_unless_the_flag_says_another(place: Program) -> None:
    environment = {"SEGSVC_LEDGER": "by-environment"}
    assert place("review", "import", "out", environment=environment).code == 0
    assert place("review", "import", "out", "--ledger", "by-flag", environment=environment).code == 0
    assert (place.folder / "by-environment" / "ledger.sqlite").is_file()
    assert (place.folder / "by-flag" / "ledger.sqlite").is_file()
    assert not (place.folder / "segsvc-data").exists()


def test_what_was_confirmed_is_there_after_the_process_was_killed(place: Program) -> None:
    assert place("review", "import", "out").code == 0
    program = ("from segsvc.ledger import decisions\nfrom segsvc.ledger.opening import open_ledger\n"
               "from segsvc.ledger.records import LOCAL, NewDecision, Verdict\n"
               "with open_ledger('segsvc-data', serving=True) as ledger:\n"
               "    while True:\n"
               f"        made = decisions.decide(ledger, LOCAL, {candidate_id(place, 0)!r}, NewDecision(Verdict.UNSURE),\n"
               "                                if_match='*')\n"
               "        print(made.decision_id, flush=True)\n")
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", program], cwd=place.folder, stdout=subprocess.PIPE, text=True,
                                   env=dict(place.environment))
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        process.wait()
        process.stdout.close()
        confirmed = {line.strip() for line in lines if line.endswith("\n")}
        with open_ledger(str(place.folder / "segsvc-data")) as ledger, ledger.read() as conn:
            there = {row[0] for row in conn.exec_driver_sql("SELECT decision_id FROM decisions")}
        assert confirmed
        assert confirmed <= there
    assert place("audit", "verify").code == 0


def test_the_time_of_an_export_may_be_before_anything_was_decided(place: Program, tmp_path: Path) -> None:
    assert place("review", "import", "out").code == 0
    decide(place, 0, NewDecision(Verdict.ACCEPTED))
    assert exported(place, "--as-of", "2020-01-01") == {}
    assert set(exported(place, "--as-of", datetime.now(UTC).isoformat())) == {10}
