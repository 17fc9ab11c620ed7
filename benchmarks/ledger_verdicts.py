"""Ten reviewers decide at once, fifty verdicts a second for a minute, on a ledger of a million candidates.

Prints a JSON list of rows: the time until a verdict is confirmed (p95), and until the next candidates are given; how many
verdicts were lost, doubled, or met a locked database; and how many confirmed verdicts are gone after the process was killed
(-9) amid the same, again and again. The peer is one transaction a verdict by Python's sqlite3 on this disk, one at a time.
Each reviewer asks for five candidates, decides them one by one at the pace, sends one in four twice (as a browser does that
did not hear the answer), and asks for more. A child process holds the ledger, and tells each confirmed verdict when it is.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from _common import Bound, Row, say, scratch, show
from _ledger_runs import write_run
from sqlalchemy import select

from segsvc.errors import SegsvcError
from segsvc.ledger import decisions, intake, queue, runs
from segsvc.ledger.opening import Ledger, open_ledger
from segsvc.ledger.records import NewDecision, Reader, Role, Verdict
from segsvc.ledger.tables import DECISIONS
from segsvc.ledger.verifying import verify
from segsvc.settings import RecordSettings

REVIEWERS, VERDICTS_A_SECOND = 10, 50
MOST_P95_MS = 50.0


class Told:
    """What the child tells, a line each, from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, kind: str, value: str | float) -> None:
        with self._lock:
            print(json.dumps([kind, value]), flush=True)


def review(ledger: Ledger, run_id: str, number: int, until: float, told: Told) -> None:
    """One reviewer: gets candidates and decides them at the pace."""
    reader = Reader(number, f"reviewer {number}", Role.REVIEWER)
    draw = random.Random(number * 1_000_003 + int(time.time() * 1000))
    every_s = REVIEWERS / VERDICTS_A_SECOND
    at = time.monotonic() + draw.random() * every_s
    while time.monotonic() < until:
        begun = time.perf_counter()
        items = queue.lease(ledger, reader, run_id, n=5)
        told("next", time.perf_counter() - begun)
        for item in items:
            time.sleep(max(0.0, at - time.monotonic()))
            at += every_s
            new = NewDecision(draw.choice([Verdict.ACCEPTED, Verdict.REJECTED]), seconds=every_s,
                              request_id=f"{item.candidate_id}-{draw.random()}")
            begun = time.perf_counter()
            try:
                decided = decisions.decide(ledger, reader, item.candidate_id, new, if_match=item.tag)
                told("decide", time.perf_counter() - begun)
                told("confirmed", decided.decision_id)
                if draw.random() < 0.25:
                    again = decisions.decide(ledger, reader, item.candidate_id, new, if_match=item.tag)
                    if again.decision_id != decided.decision_id:
                        told("error", "a verdict sent twice was stored twice")
            except SegsvcError as error:
                told("error", str(error))


def child(place: str, seconds: float, *, bundled: bool) -> None:
    """Reviews until the time is over, or until killed."""
    told = Told()
    with open_ledger(place, serving=True, record=RecordSettings(bundled_sqlite=bundled)) as ledger:
        run_id = runs.all_runs(ledger)[0].run_id
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=review, args=(ledger, run_id, number, until, told), daemon=True)
                   for number in range(1, REVIEWERS + 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def start(place: str, seconds: float, *, bundled: bool) -> subprocess.Popen[str]:
    arguments = [sys.executable, __file__, "--child", place, "--seconds", str(seconds)]
    return subprocess.Popen([*arguments, *([] if bundled else ["--rollback"])], stdout=subprocess.PIPE, text=True)


def heard(process: subprocess.Popen[str]) -> dict[str, list[str | float]]:
    """What the child told until it ended; a line that was cut is left out."""
    found: dict[str, list[str | float]] = {"next": [], "decide": [], "confirmed": [], "error": []}
    output, _ = process.communicate()
    for line in output.splitlines():
        try:
            kind, value = json.loads(line)
        except ValueError:
            continue
        found[kind].append(value)
    return found


def stored(place: str) -> Counter[str]:
    """All verdicts of people in the ledger, by candidate and reader with time: the same twice is one doubled."""
    with open_ledger(place) as ledger, ledger.read() as conn:
        rows = conn.execute(select(DECISIONS.c.decision_id, DECISIONS.c.candidate_id, DECISIONS.c.user_id).where(
            DECISIONS.c.decider == "person")).all()
    return Counter({row[0]: 1 for row in rows}) + Counter(f"{row[1]}:{row[2]}" for row in rows)


def bare_commits(file: Path, count: int = 200) -> float:
    """p95 of one small transaction by Python's sqlite3 with a rollback journal, each flushed, in ms."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE verdicts (number INTEGER PRIMARY KEY, candidate TEXT, verdict TEXT)")
    times = []
    for number in range(count):
        begun = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO verdicts VALUES (?, ?, ?)", (number, "x" * 32, "accepted"))
        connection.execute("COMMIT")
        times.append(time.perf_counter() - begun)
    connection.close()
    return p95_ms(times)


def p95_ms(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[94] * 1000


def minute(place: str, seconds: float, *, bundled: bool, peer_ms: float) -> list[Row]:
    """The figures of so many seconds of review."""
    before = stored(place)
    found = heard(start(place, seconds, bundled=bundled))
    after = stored(place)
    confirmed = [str(each) for each in found["confirmed"]]
    lost = sum(each not in after for each in confirmed)
    doubled = sum(1 for each, count in (after - before).items() if ":" in each and count > 1)
    locked = sum("locked" in str(each) for each in found["error"])
    name = "SQLite" if bundled else "SQLite with a rollback journal"
    details: dict[str, str | float] = {"verdicts": len(confirmed), "a second": round(len(confirmed) / seconds, 1),
                                       "errors": "; ".join(sorted({str(each) for each in found["error"]}))[:300]}
    rows = []
    for kind, figure in (("decide", "verdict confirmed"), ("next", "next candidates given")):
        times = [float(each) for each in found[kind]]
        rows.append(Row(f"{figure}, p95, {name}", p95_ms(times), "ms", peer_ms if kind == "decide" else None,
                        "one small transaction by sqlite3, p95" if kind == "decide" else None,
                        peer_ms / p95_ms(times) if kind == "decide" else None, None, MOST_P95_MS, Bound.OURS_AT_MOST,
                        {**details, "median_ms": round(statistics.median(times) * 1000, 2)}))
    rows += [Row(f"verdicts {what}, {name}", count, "verdicts", None, None, None, None, 0, Bound.OURS_AT_MOST)
             for what, count in (("lost", lost), ("doubled", doubled), ("that met a locked database", locked))]
    return rows


def kills(place: str, count: int, *, bundled: bool) -> Row:
    """How many confirmed verdicts are gone after so many kills amid the review."""
    draw = random.Random(0)
    gone = confirmed = 0
    faults: list[str] = []
    for _ in range(count):
        process = start(place, 60.0, bundled=bundled)
        threading.Timer(3.0 + draw.random() * 3.0, process.send_signal, (signal.SIGKILL,)).start()
        found = heard(process)
        there = stored(place)
        confirmed += len(found["confirmed"])
        gone += sum(str(each) not in there for each in found["confirmed"])
        with open_ledger(place) as ledger:
            faults += [fault.says for fault in verify(ledger).faults]
        say(f"killed after {len(found['confirmed'])} confirmed verdicts; {gone} are gone")
    return Row(f"confirmed verdicts gone after {count} kills, {'SQLite' if bundled else 'SQLite with a rollback journal'}",
               gone, "verdicts", None, None, None, None, 0, Bound.OURS_AT_MOST,
               {"confirmed": confirmed, "faults of the chain": len(faults)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rollback", action="store_true", help="with Python's own SQLite")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    bundled = not arguments.rollback
    if arguments.child:
        child(arguments.child, arguments.seconds, bundled=bundled)
        return
    with scratch() as folder:
        place = str(folder / "ledger")
        say(f"a ledger of {arguments.candidates} candidates")
        write_run(folder / "out", arguments.candidates)
        with open_ledger(place, record=RecordSettings(bundled_sqlite=bundled)) as ledger:
            intake.import_run(ledger, str(folder / "out"))
        say(f"{REVIEWERS} reviewers for {arguments.seconds:g} s")
        rows = minute(place, arguments.seconds, bundled=bundled, peer_ms=bare_commits(folder / "bare.sqlite"))
        show([*rows, kills(place, arguments.kills, bundled=bundled)])


if __name__ == "__main__":
    main()
