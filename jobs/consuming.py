"""Takes the messages of a queue into a ledger, for as long as it is told to; a queue that is away is asked again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from jobs.rules import Rules, RulesFile
from jobs.s3_events import Queue
from jobs.triggers import Gatherer, heard
from segsvc.errors import ConfigError, SegsvcError
from segsvc.event_documents import NOTHING_TAKEN, TakenDocument
from segsvc.ledger.event_errands import HearObjects
from segsvc.ledger.opening import Ledger

log = logging.getLogger("jobs.consuming")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_WAIT_S = 2.0  # for messages, where somebody may want to end this meanwhile
_LOOKS_EVERY_S = 1.0  # for what has gathered

Take = Callable[[HearObjects], TakenDocument]


@dataclass(slots=True)
class Consumer:
    """The messages of a queue. take: stores what they tell. away: why nothing can be taken just now, None where it can."""

    queue: Queue
    rules: Callable[[], Rules]
    take: Take
    away: str | None = None
    messages: int = 0
    taken: TakenDocument = NOTHING_TAKEN
    _pause_s: float = field(default=0.0)

    def step(self, wait_s: float, *, at_once: bool = False) -> bool:
        """Takes the next messages, and deletes them once they are stored; False where none came within `wait_s`.

        Raises ConfigError, LedgerError where that cannot be done now: the messages come again.
        """
        received = self.queue.receive(wait_s)
        if not received:
            return False
        taken = self.take(heard([each.body for each in received], self.rules(), at_once=at_once))
        left = self.queue.delete(received)
        self.messages += len(received) - left
        self.taken = self.taken + taken
        log.info("messages: %d; queued %d, known %d, gone %d, stale %d, unmatched %d, ignored %d, kept aside %d",
                 len(received), taken.queued, taken.known, taken.gone, taken.stale, taken.unmatched, taken.ignored,
                 taken.kept_aside)
        return True

    def follow(self, closing: threading.Event, *, wait_s: float = _WAIT_S, say: Callable[[str], None] = log.warning) -> None:
        """Takes messages until it is told to end; says once when that fails, and once when it goes on."""
        while not closing.wait(self._pause_s):
            try:
                self.step(wait_s)
            except (SegsvcError, OSError) as error:
                if closing.is_set():
                    return
                if self.away is None:
                    say(f"{error} It is tried again until it works.")
                self.away = str(error)
                self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), _LONGEST_PAUSE_S)
                continue
            if self.away is not None:
                say("The queue is back.")
            self.away, self._pause_s = None, 0.0


class Triggers:
    """What a server does about objects: it takes what is posted, follows a queue if one is set, and makes runs of both.

    rules: None where none are set; then nothing can be taken, and what has gathered before becomes runs all the same.
    """

    def __init__(self, ledger: Ledger, *, rules: RulesFile | None, queue: Queue | None, wake: Callable[[], None]) -> None:
        self._ledger = ledger
        self._rules = rules
        self._closing = threading.Event()
        self._gatherer = Gatherer(ledger, wake)
        self._threads = [threading.Thread(target=self._gather, name="triggers", daemon=True)]
        self._consumer: Consumer | None = None
        if queue is not None and rules is not None:
            self._consumer = Consumer(queue, rules.current, self._take)
            self._threads.append(threading.Thread(
                target=self._consumer.follow, args=(self._closing,), name="queue", daemon=True))

    @property
    def queue_state(self) -> str | None:
        """Whether the queue answers: `ok` or `away`; None where none is set."""
        if self._consumer is None:
            return None
        return "ok" if self._consumer.away is None else "away"

    def post(self, body: bytes) -> TakenDocument | None:
        """Takes in what a store has posted; None where no rules are set. Raises ConfigError, LedgerError."""
        return self._take(heard([body], self._rules.current())) if self._rules is not None else None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends once what is under way is stored; messages that were not taken in come again."""
        self._closing.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _take(self, errand: HearObjects) -> TakenDocument:
        return errand.run(self._ledger, log.info)

    def _gather(self) -> None:
        while not self._closing.wait(_LOOKS_EVERY_S):
            try:
                self._gatherer.step()
            except (SegsvcError, OSError) as error:  # the ledger may refuse now what goes well a moment later
                log.warning("%s", error)


def check_together(queue: str | None, rules: object | None) -> None:
    """Raises ConfigError where a queue is set without rules."""
    if queue is not None and rules is None:
        raise ConfigError("settings: expected serve.rules with serve.queue, got serve.queue alone. docs/triggers.md shows a "
                          "file of rules.")
