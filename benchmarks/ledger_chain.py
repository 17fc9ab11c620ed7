"""A record of decisions is tampered with a thousand times, and each time looked at: how often is it found?

Prints a JSON list of one row. Each trial is one of: a byte of a row changed, a row changed with its hash made to fit, a row
gone, two rows swapped, a row put in, the end cut off with its batches, a batch changed, and the chain made anew after a
change. An anchor was noted at the end: what is cut off or made anew behind the last anchor nothing can tell. The peer is row
hashes alone, without batches and anchors. The time of one look at all is in the details.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from _common import Bound, Row, say, scratch, show
from _ledger_runs import write_run

from segsvc.ledger import decisions, intake, queue
from segsvc.ledger.chain import GENESIS, HASHED, batch_head, row_sha256
from segsvc.ledger.opening import open_ledger
from segsvc.ledger.records import LOCAL, NewDecision, Verdict
from segsvc.ledger.verifying import verify
from segsvc.settings import RecordSettings

# Python's own SQLite tampers: so the file is one that it can open
RECORD = RecordSettings(bundled_sqlite=False, anchor_every=20)


def make(place: Path, out: Path, count: int) -> None:
    """A ledger with so many decisions."""
    write_run(out, max(2 * count, 100))
    with open_ledger(str(place), record=RECORD) as ledger:
        run = intake.import_run(ledger, str(out))
        draw = random.Random(0)
        while count > 0:
            for item in queue.lease(ledger, LOCAL, run.run_id, n=min(count, 50)):
                decisions.decide(ledger, LOCAL, item.candidate_id, NewDecision(
                    draw.choice([Verdict.ACCEPTED, Verdict.REJECTED, Verdict.UNSURE]), note=f"note {count}", seconds=1.0),
                    if_match=item.tag)
                count -= 1


def numbers(conn: sqlite3.Connection) -> list[int]:
    return [row[0] for row in conn.execute("SELECT number FROM decisions ORDER BY number")]


def row_of(conn: sqlite3.Connection, number: int) -> dict[str, object]:
    cursor = conn.execute(f"SELECT {', '.join(HASHED)} FROM decisions WHERE number = ?", (number,))
    return dict(zip(HASHED, cursor.fetchone(), strict=True))


def changed_byte(conn: sqlite3.Connection, draw: random.Random) -> None:
    number, column = draw.choice(numbers(conn)), draw.choice([*HASHED[1:], "row_sha256"])
    value = conn.execute(f"SELECT {column} FROM decisions WHERE number = ?", (number,)).fetchone()[0]
    if isinstance(value, int):
        new: object = value ^ (1 << draw.randrange(8))
    elif value:
        raw = bytearray(value.encode())
        raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(7)
        new = raw.decode("ascii", "replace")
    else:
        new = "x" if value is None else " "
    try:
        conn.execute(f"UPDATE decisions SET {column} = ? WHERE number = ?", (new, number))
    except sqlite3.IntegrityError:  # two rows would have the same id
        changed_byte(conn, draw)


def changed_with_its_hash(conn: sqlite3.Connection, draw: random.Random) -> None:
    number = draw.choice(numbers(conn))
    row = row_of(conn, number)
    row["verdict"] = "rejected" if row["verdict"] != "rejected" else "accepted"
    conn.execute("UPDATE decisions SET verdict = ?, row_sha256 = ? WHERE number = ?",
                 (row["verdict"], row_sha256(row), number))


def gone(conn: sqlite3.Connection, draw: random.Random) -> None:
    conn.execute("DELETE FROM decisions WHERE number = ?", (draw.choice(numbers(conn)),))


def swapped(conn: sqlite3.Connection, draw: random.Random) -> None:
    one, two = draw.sample(numbers(conn), 2)
    for old, new in ((one, 10**9), (two, one), (10**9, two)):
        conn.execute("UPDATE decisions SET number = ? WHERE number = ?", (new, old))


def put_in(conn: sqlite3.Connection, draw: random.Random) -> None:
    there = numbers(conn)
    row = row_of(conn, draw.choice(there))
    row.update(number=there[-1] + 1, decision_id=f"forged{draw.random()}", request_id=None)
    names = [*row, "row_sha256"]
    conn.execute(f"INSERT INTO decisions ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
                 [*row.values(), row_sha256(row)])


def cut_off(conn: sqlite3.Connection, draw: random.Random) -> None:
    batches = [row[0] for row in conn.execute("SELECT number FROM batches ORDER BY number")]
    keep = draw.randrange(len(batches))
    last = conn.execute("SELECT last FROM batches WHERE number = ?", (keep,)).fetchone()
    conn.execute("DELETE FROM batches WHERE number > ?", (keep,))
    conn.execute("DELETE FROM decisions WHERE number > ?", (last[0] if last else 0,))


def changed_batch(conn: sqlite3.Connection, draw: random.Random) -> None:
    batches = [row[0] for row in conn.execute("SELECT number FROM batches")]
    column = draw.choice(["first", "last", "sealed_at"])
    conn.execute(f"UPDATE batches SET {column} = {column} + 1 WHERE number = ?", (draw.choice(batches),))


def made_anew(conn: sqlite3.Connection, draw: random.Random) -> None:
    changed_with_its_hash(conn, draw)
    head = GENESIS
    for number, first, last, sealed_at in conn.execute(
            "SELECT number, first, last, sealed_at FROM batches ORDER BY number").fetchall():
        hashes = [row[0] for row in conn.execute(
            "SELECT row_sha256 FROM decisions WHERE number BETWEEN ? AND ? ORDER BY number", (first, last))]
        head = batch_head(head, {"number": number, "first": first, "last": last, "sealed_at": sealed_at}, hashes)
        conn.execute("UPDATE batches SET head = ? WHERE number = ?", (head, number))


KINDS: dict[str, Callable[[sqlite3.Connection, random.Random], None]] = {
    "a byte changed": changed_byte, "a row changed with its hash": changed_with_its_hash, "a row gone": gone,
    "two rows swapped": swapped, "a row put in": put_in, "the end cut off": cut_off, "a batch changed": changed_batch,
    "the chain made anew": made_anew}


def rows_alone(file: Path) -> bool:
    """Whether row hashes alone, and numbers without a gap, tell that something is wrong."""
    conn = sqlite3.connect(file)
    try:
        there = numbers(conn)
        stored = [row[0] for row in conn.execute("SELECT row_sha256 FROM decisions ORDER BY number")]
        return there != list(range(1, len(there) + 1)) or any(
            row_sha256(row_of(conn, number)) != held for number, held in zip(there, stored, strict=True))
    finally:
        conn.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--decisions", type=int, default=120)
    arguments = parser.parse_args()
    found: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    by_rows = 0
    times: list[float] = []
    with scratch() as folder:
        whole = folder / "whole"
        make(whole, folder / "out", arguments.decisions)
        with open_ledger(str(whole), record=RECORD) as ledger:
            looked = verify(ledger)
            if looked.faults or not looked.anchors:
                raise RuntimeError(f"expected a whole chain with anchors, got {looked}")
        draw, kinds = random.Random(1), list(KINDS)
        for trial in range(arguments.trials):
            kind = kinds[trial % len(kinds)]
            place = folder / "tampered"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(whole, place)
            conn = sqlite3.connect(place / "ledger.sqlite")
            KINDS[kind](conn, draw)
            conn.commit()
            conn.close()
            begun = time.perf_counter()
            with open_ledger(str(place), record=RECORD) as ledger:
                faults = verify(ledger).faults
            times.append(time.perf_counter() - begun)
            tried[kind] += 1
            found[kind] += bool(faults)
            by_rows += rows_alone(place / "ledger.sqlite")
            if not faults:
                say(f"trial {trial}: {kind} was not found")
    total = sum(found.values())
    show([Row("tamperings found", total, "trials", by_rows, "row hashes alone", total / by_rows if by_rows else None, None,
              arguments.trials, Bound.OURS_AT_LEAST,
              {**{kind: f"{found[kind]} of {tried[kind]}" for kind in kinds}, "decisions": looked.decisions,
               "batches": looked.batches, "anchors": looked.anchors,
               "median_ms of opening and one look": round(statistics.median(times) * 1000, 1)})])


if __name__ == "__main__":
    main()
