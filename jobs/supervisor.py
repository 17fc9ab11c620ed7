"""The thread of a server that sees to the runs: it takes those that wait, has them worked on, and notes how they end.

The ledger alone says where a run stands: whatever dies, this server too, a run whose lease has ended is queued again, and
its published parts are not made twice.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from jobs.embedded import Cancelled, Died, Failed, Said, Succeeded, Told, document_of
from segsvc import logs
from segsvc.asking import Asked
from segsvc.documents import RunDocument
from segsvc.errors import SegsvcError
from segsvc.ledger import job_work
from segsvc.ledger.errors import Lost
from segsvc.ledger.heartbeats import Heartbeats
from segsvc.ledger.intake import import_run
from segsvc.ledger.job_records import Lease
from segsvc.ledger.opening import Ledger

log = logging.getLogger("jobs.supervisor")

_TICK_S = 0.05
_LOOKS_EVERY_S = 1.0  # for runs that another server queued, and for those whose holder was lost


class Hand(Protocol):
    """Something that works on one run at a time: processes of this machine, or a Ray cluster."""

    def warm(self) -> None: ...
    def begin(self, asked: Asked) -> None: ...
    def cancel(self) -> None: ...
    def listen(self) -> list[Said]: ...
    def end(self) -> None: ...


@dataclass(slots=True)
class _Held:
    """A run in a hand."""

    lease: Lease
    hand: Hand
    beat_at: float
    told: Told | None = None
    cancelling: bool = False
    done: RunDocument | None = None  # as it is being taken into the ledger
    intake: Future[None] | None = None


def _ids(lease: Lease) -> AbstractContextManager[None]:
    return logs.bound(run_id=lease.job.run_id, attempt=lease.job.attempt)


def _amounts(document: RunDocument) -> dict[str, int]:
    images, candidates = document.images, document.candidates
    return {"images": images.listed, "failed": images.failed + images.quarantined, "candidates": candidates.review}


class Supervisor:
    """Sees to the runs of a ledger until it is closed. hands: what may work on a run at the same time."""

    def __init__(self, ledger: Ledger, hands: list[Hand], *, lease_s: float) -> None:
        self._ledger = ledger
        self._free = hands
        self._lease_s = lease_s
        self._holder = f"{socket.gethostname()}:{os.getpid()}"
        self._held: list[_Held] = []
        self._heartbeats = Heartbeats()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._intakes = ThreadPoolExecutor(1, thread_name_prefix="intake")
        self._thread = threading.Thread(target=self._loop, name="runs", daemon=True)

    def start(self) -> None:
        """Begins. Runs that a server before this one has left are taken up again."""
        self._thread.start()

    def wake(self) -> None:
        """A run was queued or is to be cancelled: it is looked at now."""
        self._wake.set()

    def close(self) -> None:
        """Ends what is worked on; those runs are queued again for whoever serves the ledger next."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        looked_at = -_LOOKS_EVERY_S
        for hand in self._free:
            hand.warm()
        while not self._closing.is_set():
            now = time.monotonic()
            if self._wake.is_set() or now - looked_at >= _LOOKS_EVERY_S:
                self._wake.clear()
                looked_at = now
                self._safely(self._look)
            for held in list(self._held):
                with _ids(held.lease):
                    self._safely(partial(self._attend, held))
            self._wake.wait(_TICK_S if self._held else _LOOKS_EVERY_S)
        self._intakes.shutdown()
        for held in self._held:
            held.hand.end()
            self._safely(partial(job_work.give_back, self._ledger, held.lease))
        for hand in self._free:
            hand.end()

    def _safely(self, work: Callable[[], None]) -> None:
        """Does it, or says why not: what the ledger or a store refuses now may go well a moment later."""
        try:
            work()
        except (SegsvcError, OSError) as error:
            log.warning("refused, to be tried again: %s", error)
            time.sleep(_TICK_S)

    def _look(self) -> None:
        """Takes runs from who is lost, and as many that wait as there are free hands; hears who is to be cancelled."""
        tokens = [held.lease.token for held in self._held]
        lost = job_work.lose_overdue(self._ledger, self._heartbeats, lease_s=self._lease_s, but=tokens,
                                     all_of_others=not self._ledger.is_postgres)
        if lost:
            log.warning("runs whose holder was not heard of any more: %d", lost)
        while self._free and (lease := job_work.take(self._ledger, self._holder, lease_s=self._lease_s)) is not None:
            hand = self._free.pop()
            self._held.append(_Held(lease, hand, time.monotonic()))
            with _ids(lease):
                log.info("run taken")
                hand.begin(Asked.model_validate_json(lease.job.asked))
        for held in self._held:
            held.beat_at = 0.0  # whether it is to be cancelled is asked with the next sign of life

    def _attend(self, held: _Held) -> None:
        if held.intake is not None and held.intake.done():
            self._taken_in(held, held.intake)
            return
        said = held.hand.listen() if held.intake is None else []
        ends = [each for each in said if not isinstance(each, Told)]
        told = next((each for each in reversed(said) if isinstance(each, Told)), None)
        held.told = told or held.told
        try:
            if ends:
                self._end(held, ends[0])
            elif told is not None or time.monotonic() - held.beat_at > self._lease_s / 3:
                self._beat(held)
        except Lost as error:  # somebody else works on it by now
            log.warning("run lost: %s", error)
            held.hand.end()
            self._let_go(held)

    def _beat(self, held: _Held) -> None:
        told = held.told
        cancelling = job_work.beat(
            self._ledger, held.lease, lease_s=self._lease_s, images=told.images if told is not None else None,
            eta_s=told.eta_s if told is not None else None)
        held.beat_at = time.monotonic()
        if cancelling and not held.cancelling:
            held.cancelling = True
            held.hand.cancel()

    def _end(self, held: _Held, said: Said) -> None:
        match said:
            case Succeeded():  # only once the ledger holds its review band
                held.done = document = document_of(said)
                log.info("run done, its review band is taken in", extra=_amounts(document))
                held.intake = self._intakes.submit(self._take_in, document.out)
                return
            case Failed(why):
                log.warning("run failed")
                job_work.fail(self._ledger, held.lease, why)
            case Cancelled():
                log.info("run cancelled")
                job_work.cancelled(self._ledger, held.lease)
            case Died(how):
                log.warning("run lost, as its process died")
                job_work.lose(self._ledger, held.lease, how)
        self._let_go(held)
        self._wake.set()

    def _take_in(self, out: str) -> None:
        import_run(self._ledger, out)

    def _taken_in(self, held: _Held, intake: Future[None]) -> None:
        error = intake.exception()
        try:
            if error is None and held.done is not None:
                job_work.succeed(self._ledger, held.lease, held.done)
                log.info("run succeeded")
            else:
                log.error("candidates could not be taken into the ledger", exc_info=error)
                job_work.fail(self._ledger, held.lease, f"its candidates could not be taken into the ledger: {error}")
        except Lost as lost:
            log.warning("run lost: %s", lost)
        self._let_go(held)
        self._wake.set()

    def _let_go(self, held: _Held) -> None:
        self._held.remove(held)
        self._free.append(held.hand)
