"""A ledger that is open: its database, its writer, and what it was opened with."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from sqlalchemy import Connection, Engine

from segsvc.errors import ConfigError
from segsvc.ledger import engine as engines
from segsvc.ledger.anchors import AnchorPlace
from segsvc.ledger.folder_lock import FolderLock
from segsvc.ledger.gate import Gate, OpenGate
from segsvc.ledger.migrating import migrate
from segsvc.ledger.writer import AnchorTimes, Writer, Writing
from segsvc.settings import RecordSettings, settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a ledger is; `folder` is None for a PostgreSQL."""

    place: str
    folder: Path | None

    @property
    def lock(self) -> FolderLock | None:
        return FolderLock(self.folder) if self.folder is not None else None


class Ledger:
    """An open ledger; all of its methods may be called from any thread. To be closed at the end, or used by `with`."""

    def __init__(self, place: _Place, engine: Engine, *, gate: Gate, lock: FolderLock | None, url: str,
                 record: RecordSettings) -> None:
        self.place = place.place
        self.folder = place.folder
        self.idle_cap_us = round(record.idle_cap_s * 1e6)
        self.anchors = AnchorPlace(record.anchors if record.anchors is not None else _default_anchors(place))
        self._engine, self._gate, self._lock, self._url = engine, gate, lock, url
        self._times = AnchorTimes(record.anchor_every, record.anchor_minutes * 60.0)
        self._starting = threading.Lock()
        self._writer: Writer | None = None

    @property
    def shown(self) -> str:
        """Where it is, without a password."""
        return engines.shown(self.place)

    @property
    def is_postgres(self) -> bool:
        return self.folder is None

    @property
    def engine(self) -> Engine:
        return self._engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to read by, for a short while. Raises ConfigError where the database cannot be used."""
        with engines.translated(self.place), self._gate.together(), self._engine.connect() as conn:
            yield conn

    def write(self, work: Callable[[Writing], T]) -> T:
        """What the work gives, once it is stored; see `Writer.run`. Raises ConfigError where another process writes."""
        return self._started().run(work)

    def _started(self) -> Writer:
        with self._starting:
            if self._writer is None:
                if self._lock is not None:
                    self._lock.take(url=self._url)
                self._writer = Writer(self._engine, self._gate, self.place, self.anchors, self._times)
            return self._writer

    def close(self) -> None:
        """Stores what waits, anchors the chain, and gives the ledger back."""
        with self._starting:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        self._engine.dispose()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_ledger(place: str, *, serving: bool = False, url: str = "", record: RecordSettings | None = None) -> Ledger:
    """The ledger in a folder, which is made if missing, or in a PostgreSQL; brought to this version's form.

    serving: this process alone writes from now on, and serves at `url`. Without it a process that only reads may be
    beside another; the folder's lock is taken when it writes first. Raises ConfigError where the ledger cannot be used,
    or another process writes.
    """
    record = record if record is not None else settings().record
    if engines.is_postgres(place):
        where, gate = _Place(place, None), Gate()
        engine, gate = engines.postgres_engine(place), OpenGate()
    else:
        where = _Place(place, Path(place).absolute())
        engine, gate = _sqlite(where, record)
    ledger = Ledger(where, engine, gate=gate, lock=where.lock, url=url, record=record)
    try:
        if serving and ledger._lock is not None:
            ledger._lock.take(url=url)
        with engines.translated(place):
            migrate(engine, place, before=lambda: _alone(ledger))
    except BaseException:
        ledger.close()
        raise
    return ledger


def there_is_one(place: str) -> bool:
    """Whether there is a ledger at the place; a PostgreSQL counts as one."""
    return engines.is_postgres(place) or (Path(place) / engines.FILE).is_file()


def _alone(ledger: Ledger) -> None:
    if ledger._lock is not None:
        ledger._lock.take(url=ledger._url)


def _sqlite(where: _Place, record: RecordSettings) -> tuple[Engine, Gate]:
    folder = where.folder if where.folder is not None else Path()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"ledger: expected a folder that can be made or written, got {where.place}: {error.strerror}"
                          ) from error
    library = engines.sqlite_library(bundled=record.bundled_sqlite)
    journal = engines.journal_for(tuple(library.sqlite_version_info))
    return engines.sqlite_engine(folder / engines.FILE, library), OpenGate() if journal is engines.Journal.WAL else Gate()


def _default_anchors(place: _Place) -> str:
    """Beside a folder's database; for a PostgreSQL in this working folder, by the name of the database."""
    if place.folder is not None:
        return str(place.folder / "anchors.jsonl")
    return f"anchors-{hashlib.sha256(engines.shown(place.place).encode()).hexdigest()[:12]}.jsonl"
