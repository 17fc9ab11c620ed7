"""A ledger that is open: its database, its writer, and what it was opened with."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from sqlalchemy import Connection, Engine

from segsvc.errors import ConfigError
from segsvc.ledger import engine as engines
from segsvc.ledger.anchors import AnchorPlace
from segsvc.ledger.attempts import Attempts
from segsvc.ledger.folder_lock import FolderLock
from segsvc.ledger.gate import Gate, OpenGate
from segsvc.ledger.migrating import migrate
from segsvc.ledger.writer import AnchorTimes, Writer, Writing
from segsvc.settings import RecordSettings, settings, user_data

T = TypeVar("T")


class Ledger:
    """An open ledger; all of its methods may be called from any thread. To be closed at the end, or used by `with`."""

    def __init__(self, place: str, folder: Path | None, engine: Engine, *, gate: Gate, url: str, record: RecordSettings
                 ) -> None:
        self.place, self.folder, self.engine = place, folder, engine
        self.idle_cap_us = round(record.idle_cap_s * 1e6)
        self.bundled_sqlite = record.bundled_sqlite
        self.anchors = AnchorPlace(record.anchors if record.anchors is not None else _default_anchors(place, folder))
        self.attempts = Attempts()
        self.answering = set[tuple[int, str]]()  # users and keys of requests that are being answered here
        self.secret = secrets.token_urlsafe(32)  # of this opening; it stands in the folder's lock
        self._gate, self._url = gate, url
        self._lock = FolderLock(folder) if folder is not None else None
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

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to read by, for a short while. Raises ConfigError where the database cannot be used."""
        with engines.translated(self.place, self.engine), self._gate.together(), self.engine.connect() as conn:
            yield conn

    def write(self, work: Callable[[Writing], T]) -> T:
        """What the work gives, once it is stored; see `Writer.run`. Raises ConfigError where another process writes."""
        return self._started().run(work)

    def claim(self) -> None:
        """Takes the right to write, which a folder has for one process. Raises ConfigError where another has it."""
        if self._lock is not None:
            self._lock.take(url=self._url, secret=self.secret)

    def _started(self) -> Writer:
        with self._starting:
            if self._writer is None:
                self.claim()
                self._writer = Writer(self.engine, self._gate, self.place, self.anchors, self._times)
            return self._writer

    def close(self) -> None:
        """Stores what waits, anchors the chain, and gives the ledger back."""
        with self._starting:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        self.engine.dispose()
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
    folder: Path | None = None
    gate: Gate = OpenGate()
    if engines.is_postgres(place):
        engine = engines.postgres_engine(place)
    else:
        folder = Path(place).absolute()
        engine, gate = _sqlite(folder, record)
    ledger = Ledger(place, folder, engine, gate=gate, url=url, record=record)
    try:
        if serving:
            ledger.claim()
        with engines.translated(place, engine):
            migrate(engine, place, before=ledger.claim)
    except BaseException:
        ledger.close()
        raise
    return ledger


def there_is_one(place: str) -> bool:
    """Whether there is a ledger at the place; a PostgreSQL counts as one."""
    return engines.is_postgres(place) or (Path(place) / engines.FILE).is_file()


def _sqlite(folder: Path, record: RecordSettings) -> tuple[Engine, Gate]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"ledger: expected a folder that can be made or written, got {folder}: {error.strerror}"
                          ) from error
    library = engines.sqlite_library(bundled=record.bundled_sqlite)
    journal = engines.journal_for(tuple(library.sqlite_version_info))
    return engines.sqlite_engine(folder / engines.FILE, library), OpenGate() if journal is engines.Journal.WAL else Gate()


def _default_anchors(place: str, folder: Path | None) -> str:
    """Beside a folder's database; for a PostgreSQL among this user's data, by a hash of its address."""
    if folder is not None:
        return str(folder / "anchors.jsonl")
    return str(user_data("anchors") / f"{hashlib.sha256(engines.shown(place).encode()).hexdigest()[:12]}.jsonl")
