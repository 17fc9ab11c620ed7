"""What `segsvc trigger` and `segsvc reconcile` work with: the rules, and the ledger, which a server may have."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Self, TypeVar

from jobs import triggers
from jobs.consuming import Consumer, Triggers
from jobs.hands import hands
from jobs.reconciling import foreseen, reconcile
from jobs.rules import Rule, RulesFile
from jobs.s3_events import LONGEST_WAIT_S, Queue, QueueAway, Received
from jobs.supervisor import Supervisor
from segsvc import logs
from segsvc.cli.errand import do
from segsvc.cli.progress import say
from segsvc.event_documents import (
    NOTHING_TAKEN,
    ExplainedDocument,
    GoneDocument,
    ReconcileDocument,
    TakenDocument,
    TriggerDocument,
    TriggeredRunDocument,
)
from segsvc.ledger import event_batches, jobs, users
from segsvc.ledger.event_errands import EndListing, HearObjects
from segsvc.ledger.event_records import Batch
from segsvc.ledger.folder_lock import Served
from segsvc.ledger.opening import open_ledger
from segsvc.reach import Reach
from segsvc.settings import settings

T = TypeVar("T")

_LOOKS_EVERY_S = 0.2
_SERVER_TAKES_S = 30.0  # until a server has made runs of what it was given
_ATTEMPTS = 3  # of a queue that is away, with --once
_HIDDEN_S = 60  # how long messages are looked at, and nobody else has them


def patiently(ask: Callable[[], T]) -> T:
    """The answer of a queue that may be away for a moment. Raises QueueAway where it stays so."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return ask()
        except QueueAway:
            time.sleep(attempt)
    return ask()


class Triggering:
    """A ledger that this process writes, or that a server has; to be used by `with`.

    Raises ConfigError where the rules are wrong, or name a place that may not be used.
    """

    def __init__(self, place: str, rules_file: Path) -> None:
        self._place = place
        self._stack = ExitStack()
        self._ledger = self._stack.enter_context(open_ledger(place))
        self._served: Served | None = None
        try:
            self.rules_file = RulesFile(rules_file, self._reach)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def queue(self, url: str) -> Queue:
        """The queue of that URL. Raises ConfigError."""
        return Queue(url)

    def follow(self, queue: Queue) -> None:
        """Takes messages until it is interrupted; runs go on meanwhile."""
        logs.begin()
        self._claim()
        if self._served is None:
            supervisor = self._supervising()
            gathering = self._stack.enter_context(closing(Triggers(
                self._ledger, rules=None, queue=None, wake=supervisor.wake)))
            supervisor.start()
            gathering.start()
            say(f"Events of {queue.url} become runs, which this command works on; Ctrl-C ends it.")
        else:
            say(f"Events of {queue.url} become runs, which the server at {self._served.url} works on; Ctrl-C ends it.")
        consumer = Consumer(queue, self.rules_file.current, self._take)
        with suppress(QueueAway):
            consumer.step(0.0)  # what is wrong for good ends the command
        consumer.follow(threading.Event(), wait_s=LONGEST_WAIT_S, say=say)

    def take_once(self, queue: Queue) -> TriggerDocument:
        """Takes what is in the queue, and starts its runs; where no server has the ledger, also works on them."""
        self._claim()
        consumer = Consumer(queue, self.rules_file.current, self._take)
        before = event_batches.newest(self._ledger)
        while patiently(lambda: consumer.step(1.0)):
            pass
        self._take(triggers.heard([], self.rules_file.current(), at_once=True))
        runs = self._runs(before) if self._served is None else self._runs_of_server(before)
        return TriggerDocument(queue=queue.url, messages=consumer.messages, taken=consumer.taken, runs=runs, explained=None)

    def explain(self, queue: Queue) -> TriggerDocument:
        """What the rules say of each event in the queue, which stays there."""
        rules, seen, bodies = self.rules_file.current(), list[Received](), list[str]()
        try:
            while received := patiently(lambda: queue.receive(1.0, visible_s=_HIDDEN_S)):
                seen += received
                bodies += [each.body for each in received]
        finally:
            for first in range(0, len(seen), 10):
                queue.give_back(seen[first : first + 10])
        errand = triggers.heard(bodies, rules)
        explained: list[ExplainedDocument] = [each for body in bodies for each in triggers.explained(body, rules)]
        taken = NOTHING_TAKEN.model_copy(update={
            "events": len(explained), "unmatched": errand.unmatched, "ignored": errand.ignored,
            "kept_aside": len(errand.strays)})
        return TriggerDocument(queue=queue.url, messages=len(bodies), taken=taken, runs=[], explained=explained)

    def reconcile(self, prefix: str, *, dry_run: bool) -> tuple[ReconcileDocument, list[TriggeredRunDocument]]:
        """The listing in numbers, and the runs that were queued."""
        rules = self.rules_file.current()
        reach = self._reach()
        if reach is not None:
            reach.check(prefix, "reconcile")
        if dry_run:
            return foreseen(prefix, rules, self._ledger), []
        self._claim()
        before = event_batches.newest(self._ledger)
        document = reconcile(prefix, rules, self._take, self._end)
        if self._served is not None:
            return document, self._runs_of_server(before)
        triggers.Gatherer(self._ledger).step()
        return document, self._shown(event_batches.since(self._ledger, before))

    @property
    def works(self) -> str:
        """Who works on the runs that are queued."""
        return f"The server at {self._served.url} works on them." if self._served is not None else (
            "`segsvc serve` works on them.")

    def _claim(self) -> None:
        try:
            self._ledger.claim()
        except Served as served:
            self._served = served

    def _reach(self) -> Reach | None:
        serve = settings().serve
        return Reach.of(serve.roots, serve.buckets) if users.any_users(self._ledger) else None

    def _take(self, errand: HearObjects) -> TakenDocument:
        if self._served is not None:
            return do(self._place, errand, TakenDocument)
        return errand.run(self._ledger, say)

    def _end(self, errand: EndListing) -> int:
        if self._served is not None:
            return do(self._place, errand, GoneDocument).gone
        return errand.run(self._ledger, say).gone

    def _runs(self, before: int) -> list[TriggeredRunDocument]:
        """Queues the runs and works on them until they have ended."""
        gatherer = triggers.Gatherer(self._ledger)
        waited = event_batches.unqueued(self._ledger)
        gatherer.step()
        batches = [*waited, *event_batches.since(self._ledger, before)]
        numbers = {batch.number for batch in batches}
        if numbers:
            images = sum(batch.images for batch in batches)
            say(f"{len(numbers)} run{'s' * (len(numbers) > 1)}, {images} images; Ctrl-C leaves them to `segsvc serve`.")
            self._supervising().start()
        while True:
            runs = self._shown([each for each in event_batches.since(self._ledger, 0) if each.number in numbers])
            if settings().serve.runs_at_once == 0 or not any(run.state in ("queued", "running") for run in runs):
                return runs
            time.sleep(_LOOKS_EVERY_S)

    def _runs_of_server(self, before: int) -> list[TriggeredRunDocument]:
        """The runs that the server has made of what it was given, as it begins to work on them."""
        until = time.monotonic() + _SERVER_TAKES_S
        while True:
            runs = self._shown(event_batches.since(self._ledger, before))
            is_done = event_batches.waiting(self._ledger) == 0 and all(run.run_id or run.error for run in runs)
            if is_done or time.monotonic() > until:
                return runs
            time.sleep(_LOOKS_EVERY_S)

    def _shown(self, batches: list[Batch]) -> list[TriggeredRunDocument]:
        return [self._run(batch) for batch in batches]

    def _run(self, batch: Batch) -> TriggeredRunDocument:
        rule = Rule.model_validate_json(batch.rule)
        job = jobs.find(self._ledger, batch.run_id) if batch.run_id is not None else None
        return TriggeredRunDocument(
            name=batch.name, rule=rule.name, images=batch.images, out=triggers.out_of(rule, batch), run_id=batch.run_id,
            state=job.state.value if job is not None else None,
            failed_images=job.images.failed + job.images.quarantined if job is not None else 0,
            error=job.error if job is not None else batch.error)

    def _supervising(self) -> Supervisor:
        working = hands(say, is_postgres=self._ledger.is_postgres)
        return self._stack.enter_context(closing(Supervisor(self._ledger, working, lease_s=settings().serve.lease_s)))
