"""The one writer: what is to be stored waits for its thread, and all that waits is stored by one transaction.

So many who decide at once cost one flush of the disk, not one each, and nobody meets a locked database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, insert
from sqlalchemy.exc import DBAPIError

from segsvc import clock
from segsvc.errors import SegsvcError
from segsvc.ledger.anchors import Anchor, AnchorPlace
from segsvc.ledger.bulk import inserting
from segsvc.ledger.chain import last_batch, row_sha256, seal
from segsvc.ledger.engine import as_ours
from segsvc.ledger.errors import LedgerError
from segsvc.ledger.gate import Gate
from segsvc.ledger.prepared import Prepared
from segsvc.ledger.tables import DECISIONS, TALLIES, as_us
from segsvc.types import stable_id

_LOG = logging.getLogger(__name__)
_MOST_AT_ONCE = 256
_LOOKS_EVERY_S = 5.0

T = TypeVar("T")

_ADD = Prepared(insert(DECISIONS))


@cache
def _count(database: str) -> Prepared:
    new = inserting(database, TALLIES)
    return Prepared(new.on_conflict_do_update(index_elements=["run_no", "name", "user_id"],
                                              set_={"count": TALLIES.c["count"] + new.excluded["count"]}))


@dataclass(slots=True)
class Writing:
    """A transaction of the writer: what is to be stored looks first, and may raise LedgerError, and stores then."""

    conn: Connection
    now: int  # microseconds since 1970
    _before: tuple[int, int, str] | None = None
    _row_hashes: list[str] = field(default_factory=list)
    _tallies: Counter[tuple[int, str, int]] = field(default_factory=Counter)

    def add_decision(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Stores a row of decisions, with its number, id and hash; gives it."""
        if self._before is None:
            self._before = last_batch(self.conn)
        number = self._before[1] + len(self._row_hashes) + 1
        row = {**values, "number": number, "decided_at": self.now, "decision_id": stable_id(
            "decision", number, values["run_no"], values["candidate_id"], values["reader"], self.now)}
        row["row_sha256"] = row_sha256(row)
        _ADD.run(self.conn, row)
        self._row_hashes.append(row["row_sha256"])
        return row

    def count(self, run_no: int, name: str, by: int, *, user_id: int = 0) -> None:
        """Adds to a tally."""
        self._tallies[run_no, name, user_id] += by

    def seal(self) -> tuple[int, int, str] | None:
        """Stores the tallies and the batch; gives the last batch, None where there is no new one."""
        rows = [{"run_no": run_no, "name": name, "user_id": user_id, "count": count}
                for (run_no, name, user_id), count in sorted(self._tallies.items()) if count]
        _count(self.conn.dialect.name).run_all(self.conn, rows)
        if self._before is None:
            return None
        return seal(self.conn, self._before, self._row_hashes, self.now)


class _Waits(Protocol):
    """Something to be stored, and the one who waits for it."""

    def attempt(self, writing: Writing) -> None: ...
    def answer(self) -> None: ...
    def fail(self, error: Exception) -> None: ...


class _Job:
    """Work for the writer."""

    def __init__(self, work: Callable[[Writing], Any]) -> None:
        self.work = work
        self.done: Future[Any] = Future()
        self._found: Any = None
        self._refused: LedgerError | None = None

    def attempt(self, writing: Writing) -> None:
        self._found = self._refused = None
        try:
            self._found = self.work(writing)
        except LedgerError as error:  # it has stored nothing
            self._refused = error

    def answer(self) -> None:
        if self._refused is not None:
            self.done.set_exception(self._refused)
        else:
            self.done.set_result(self._found)

    def fail(self, error: Exception) -> None:
        self.done.set_exception(error)


@dataclass(frozen=True, slots=True)
class AnchorTimes:
    """When the chain is anchored: after so many decisions or seconds, whichever comes first, and at the end."""

    decisions: int
    seconds: float


class Writer:
    """The thread that writes; `run` gives it work and waits until that is on the disk."""

    def __init__(self, engine: Engine, gate: Gate, place: str, anchors: AnchorPlace | None, times: AnchorTimes) -> None:
        self._engine = engine.execution_options(writes=True)
        self._gate, self._place, self._anchors, self._times = gate, place, anchors, times
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._sealed: tuple[int, int, str] | None = None  # not yet anchored
        self._anchored_decisions, self._anchored_at = 0, time.monotonic()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="ledger-writer", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[Writing], T]) -> T:
        """What the work gives, once it is stored. Work may be tried again, and must look before it stores."""
        job = _Job(work)
        with self._closing:
            if self._closed:
                raise LedgerError("ledger: expected an open ledger, got one that was closed")
            self._jobs.put(job)
        found: T = job.done.result()
        return found

    def close(self) -> None:
        """Stores what waits, anchors the chain, and ends."""
        with self._closing:
            already, self._closed = self._closed, True
            if not already:
                self._jobs.put(None)
        self._thread.join()

    def _loop(self) -> None:
        open_ = True
        while open_:
            jobs: list[_Job] = []
            try:
                first = self._jobs.get(timeout=_LOOKS_EVERY_S)
                while first is not None:
                    jobs.append(first)
                    if len(jobs) == _MOST_AT_ONCE:
                        break
                    first = self._jobs.get_nowait()
                open_ = first is not None
            except Empty:
                pass
            if jobs:
                self._store(jobs)
            self._anchor(at_end=not open_)

    def _store(self, jobs: list[_Job]) -> None:
        """Stores all by one transaction; where that fails, each by its own, so that one does not fail the others."""
        try:
            sealed = self._commit(jobs)
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._store([job])
                return
            jobs[0].fail(self._told(error))
            return
        if sealed is not None:
            self._sealed = sealed
        for job in jobs:
            job.answer()

    def _commit(self, jobs: list[_Job]) -> tuple[int, int, str] | None:
        with self._engine.connect() as conn, conn.begin() as transaction:
            writing = Writing(conn, as_us(clock.utc_now()))
            for job in jobs:
                job.attempt(writing)
            sealed = writing.seal()
            with self._gate.alone():
                transaction.commit()
        return sealed

    def _told(self, error: Exception) -> Exception:
        if isinstance(error, (DBAPIError, self._engine.dialect.loaded_dbapi.Error)):
            told = as_ours(error, self._place)
            told.__cause__ = error
            return told
        return error

    def _anchor(self, *, at_end: bool) -> None:
        if self._anchors is None or self._sealed is None:
            return
        batches, decisions, head = self._sealed
        due = (decisions - self._anchored_decisions >= self._times.decisions
               or time.monotonic() - self._anchored_at >= self._times.seconds)
        if not (due or at_end):
            return
        try:
            self._anchors.add(Anchor(batches, decisions, head, as_us(clock.utc_now())))
        except (SegsvcError, OSError) as error:  # it is tried again; decisions go on
            _LOG.warning("ledger: the anchor of %d decisions could not be noted in %s: %s", decisions, self._anchors.place,
                         error)
            return
        self._sealed = None
        self._anchored_decisions, self._anchored_at = decisions, time.monotonic()
