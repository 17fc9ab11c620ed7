"""A PostgreSQL whose connection breaks after it has committed, before it has said so: nothing is lost, doubled or stuck."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from segsvc.documents import RunState
from segsvc.errors import SegsvcError
from segsvc.ledger import job_work, jobs
from segsvc.ledger.heartbeats import Heartbeats
from segsvc.ledger.opening import Ledger, open_ledger
from segsvc.ledger.verifying import verify
from segsvc.settings import RecordSettings
from tests.ledger.test_jobs import new_job
from tests.postgres_server import new_database, postgres_server

_COMMITTED = b"COMMIT\0"  # how the database says that it has


@dataclass
class Cutting:
    """A proxy before a PostgreSQL that hangs up instead of passing on that it has committed, as often as it is told to."""

    server: tuple[str, int]
    cuts: int = 0
    made: int = 0
    port: int = 0
    held: list[socket.socket] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self.server)
                self.held += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if _COMMITTED in data and self._cuts_now():
                    break
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _cuts_now(self) -> bool:
        with self._guard:
            if self.cuts == 0:
                return False
            self.cuts -= 1
            self.made += 1
            return True


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as address:
        yield address


@pytest.fixture
def cut(postgres: str, request: pytest.FixtureRequest) -> Iterator[tuple[Ledger, Cutting]]:
    """A ledger behind such a proxy."""
    place = new_database(postgres)
    parts = urlsplit(place)
    proxy = Cutting((parts.hostname or "", parts.port or 0))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.port = listener.getsockname()[1]
        threading.Thread(target=proxy.serve, args=(listener,), daemon=True).start()
        behind = parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{proxy.port}")).geturl()
        with open_ledger(behind, serving=True, record=RecordSettings()) as ledger:
            yield ledger, proxy
    for each in proxy.held:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def test_a_run_whose_commit_was_not_answered_is_found_by_its_key_and_is_there_once(cut: tuple[Ledger, Cutting]) -> None:
    ledger, proxy = cut
    assert jobs.known(ledger, 1, "k", b"body") is None
    proxy.cuts = 1
    with pytest.raises(SegsvcError, match="cannot be used"):
        jobs.submit(ledger, new_job(), user_id=1, key="k")
    assert proxy.made == 1
    jobs.forget(ledger, 1, "k")  # as the route does after a failure: a key whose run is there is kept
    again = jobs.known(ledger, 1, "k", b"body")
    assert again is not None
    assert [job.run_id for job in jobs.page(ledger).jobs] == [again.run_id]
    assert jobs.submit(ledger, new_job(), user_id=1, key="k") == again


def test_a_run_that_was_taken_unheard_is_taken_again_once_its_lease_ends(cut: tuple[Ledger, Cutting]) -> None:
    ledger, proxy = cut
    run_id = jobs.submit(ledger, new_job()).run_id
    proxy.cuts = 1
    with pytest.raises(SegsvcError, match="cannot be used"):
        job_work.take(ledger, "here", lease_s=0.1)
    assert jobs.find(ledger, run_id).state is RunState.RUNNING  # by somebody who does not know it
    assert job_work.take(ledger, "here", lease_s=60) is None
    heartbeats = Heartbeats()
    assert job_work.lose_overdue(ledger, heartbeats, lease_s=0.1) == 0
    time.sleep(0.2)
    assert job_work.lose_overdue(ledger, heartbeats, lease_s=0.1) == 1
    lease = job_work.take(ledger, "here", lease_s=60)
    assert lease is not None
    assert (lease.job.run_id, lease.job.attempt) == (run_id, 2)
    proxy.cuts = 1
    with pytest.raises(SegsvcError, match="cannot be used"):
        job_work.fail(ledger, lease, "no room")
    assert jobs.find(ledger, run_id).error == "no room"
    with pytest.raises(SegsvcError, match="taken over"):  # said again it changes nothing: the run has ended
        job_work.fail(ledger, lease, "no room")
    assert " ".join(move.state for move in jobs.moves(ledger, run_id)) == "queued running lost queued running failed"
    assert verify(ledger).faults == ()
