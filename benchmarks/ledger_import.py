"""A million candidates come into a ledger: seconds, and the peak of memory of the process that does it.

Prints a JSON list of rows. `segsvc review import` is run on a drawn run, on SQLite and, with --postgres URL, on a PostgreSQL
too. The peer is what Python's own sqlite3 takes to put as many bare rows (id, class, box, mask and score) into one table
without an index: nothing that can be reviewed is faster than that. A second import of the same, and one after other bands,
are in the details.
"""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from _common import Bound, Row, say, scratch, show
from _ledger_runs import write_run

from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint
from segsvc.results import RunFolder
from segsvc.stores import store_of
from segsvc.views import OpenRun

MOST_S, MOST_MB = 60.0, 500.0


def take_in(out: Path, ledger: str) -> tuple[float, float, float]:
    """Seconds of `segsvc review import`, its peak of memory in MB, and its seconds of processor."""
    begun = time.perf_counter()
    program = ("import resource, sys; from segsvc.cli.main import cli\n"
               f"cli.main(['review', 'import', {str(out)!r}, '--ledger', {ledger!r}], standalone_mode=False)\n"
               "used = resource.getrusage(resource.RUSAGE_SELF)\n"
               "print(used.ru_maxrss, used.ru_utime + used.ru_stime)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    peak_kb, processor_s = done.stdout.split()[-2:]
    return time.perf_counter() - begun, int(peak_kb) / 1024, float(processor_s)


def bare_rows(out: Path, file: Path) -> float:
    """Seconds to put the run's candidates into one bare table by Python's sqlite3, 5000 a transaction."""
    begun = time.perf_counter()
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    names = "candidate_id class_name x0 y0 x1 y1 mask_rle score".split()
    connection.execute(f"CREATE TABLE candidates ({', '.join(names)})")
    for _, candidates in OpenRun(RunFolder(store_of(str(out)).folder(str(out)))).parts(None):
        for batch in candidates.select(names).to_batches(max_chunksize=5000):
            connection.execute("BEGIN")
            connection.executemany(f"INSERT INTO candidates VALUES ({', '.join('?' * len(names))})",
                                   zip(*(column.to_pylist() for column in batch.columns), strict=True))
            connection.execute("COMMIT")
    connection.close()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--postgres", help="postgresql://... of an empty database")
    arguments = parser.parse_args()
    with scratch() as folder:
        say(f"writing a run of {arguments.candidates} candidates")
        out = folder / "out"
        write_run(out, arguments.candidates, decided_share=0.1)
        peer_s = bare_rows(out, folder / "bare.sqlite")
        rows = []
        places = [("SQLite", str(folder / "ledger"))] + ([("PostgreSQL", arguments.postgres)] if arguments.postgres else [])
        for name, place in places:
            say(f"importing into {name}")
            seconds, peak_mb, processor_s = take_in(out, place)
            again_s, *_ = take_in(out, place)
            details: dict[str, str | float] = {"candidates": arguments.candidates, "processor, s": round(processor_s, 1),
                                               "the same again, s": round(again_s, 2)}
            rows.append(Row(f"import into {name}", seconds, "s", peer_s, "bare rows by sqlite3", peer_s / seconds, None,
                            MOST_S if name == "SQLite" else None, Bound.OURS_AT_MOST, details))
            rows.append(Row(f"peak memory of the import into {name}", peak_mb, "MB", None, None, None, None,
                            MOST_MB, Bound.OURS_AT_MOST))
        RunFolder(store_of(str(out)).folder(str(out))).add_operating_point(OperatingPoint(
            basis=Basis.BY_HAND, classes={"*": ClassThresholds(flag_at=0.3, accept_at=0.95)}))
        seconds, peak_mb, processor_s = take_in(out, str(folder / "ledger"))
        rows.append(Row("import after other bands, SQLite", seconds, "s", None, None, None, None, None,
                        details={"peak_mb": round(peak_mb), "processor, s": round(processor_s, 1)}))
    show(rows)


if __name__ == "__main__":
    main()
