"""From what is heard of objects to runs: messages are matched with the rules and stored; what gathered becomes a run."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jobs.asking import Desk, RunBody
from jobs.hands import place
from jobs.rules import Rule, Rules
from jobs.s3_messages import Message, ObjectEvent, read_message
from segsvc.errors import SegsvcError
from segsvc.event_documents import ExplainedDocument
from segsvc.ledger import event_batches
from segsvc.ledger.event_errands import HearObjects
from segsvc.ledger.event_records import MOST_STRAY_CHARACTERS, Batch, BatchImage, Heard, Stray
from segsvc.ledger.opening import Ledger
from segsvc.stores import store_of

log = logging.getLogger("jobs.triggers")

MOST_MESSAGE_BYTES = 2 << 20  # SQS and EventBridge send 1 MiB at most
_AGAIN_AFTER_S, _LONGEST_PAUSE_S = 5.0, 300.0
MANIFESTS = "manifests"


def heard(bodies: Sequence[str | bytes], rules: Rules, *, at_once: bool = False) -> HearObjects:
    """What messages tell, as the ledger takes it in."""
    objects: list[Heard] = []
    strays: list[Stray] = []
    ignored = unmatched = 0
    for body in bodies:
        message = _read(body)
        ignored += message.ignored
        if message.faults:
            strays.append(_stray(body, message.faults))
        for event in message.events:
            number = rules.place_of(event.uri)
            if number is None:
                unmatched += 1
            else:
                objects.append(Heard(
                    event.uri, event.etag, event.size_bytes, event.gone, event.at_ns, number, event.sequencer,
                    event.version_id, event.one_version))
    return HearObjects(rules=rules.taking(), heard=tuple(objects), strays=tuple(strays), unmatched=unmatched,
                       ignored=ignored, at_once=at_once)


def explained(body: str | bytes, rules: Rules) -> list[ExplainedDocument]:
    """What the rules say of each event of a message."""
    return [_explained(event, rules) for event in _read(body).events]


def _explained(event: ObjectEvent, rules: Rules) -> ExplainedDocument:
    number = rules.place_of(event.uri)
    if number is None:
        return ExplainedDocument(uri=event.uri, gone=event.gone, rule=None, why=rules.why_none(event.uri))
    rule = rules.rules[number]
    return ExplainedDocument(uri=event.uri, gone=event.gone, rule=rule.name,
                             why=f"below {rule.prefix}: {rule.model} into {rule.out}")


def _read(body: str | bytes) -> Message:
    if len(body) > MOST_MESSAGE_BYTES:
        return Message(faults=(f"expected a message of at most {MOST_MESSAGE_BYTES} bytes, got {len(body)}",))
    return read_message(body)


def _stray(body: str | bytes, faults: Sequence[str]) -> Stray:
    raw = body if isinstance(body, bytes) else body.encode("utf-8", "replace")
    text = raw.decode("utf-8", "replace").replace("\0", "\ufffd")
    reason = "; ".join(faults[:5]).replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return Stray(reason[:2000], text[:MOST_STRAY_CHARACTERS], hashlib.sha256(raw).hexdigest(), len(raw))


@dataclass(slots=True)
class Gatherer:
    """Makes runs of what has gathered in a ledger. wake: tells who sees to the runs that one was queued."""

    ledger: Ledger
    wake: Callable[[], None] = lambda: None
    _pauses: dict[int, tuple[float, float]] = field(default_factory=dict)  # by batch: until when, and how long it was

    def step(self) -> list[Batch]:
        """Cuts what is due into batches and queues their runs; the batches whose run was queued now."""
        event_batches.cut_due(self.ledger)
        return [batch for batch in event_batches.unqueued(self.ledger) if self._queued(batch)]

    def _queued(self, batch: Batch) -> bool:
        """Whether the batch's run was queued now; where that fails, why is noted, and it is tried again later."""
        until, pause_s = self._pauses.get(batch.number, (0.0, _AGAIN_AFTER_S))
        if time.monotonic() < until:
            return False
        rule = Rule.model_validate_json(batch.rule)
        try:
            manifest = self._manifest(rule, batch)
            body = RunBody(input=manifest, model=rule.model, out=out_of(rule, batch), recall=rule.recall,
                           precision=rule.precision, flag_at=rule.flag_at, accept_at=rule.accept_at)
            # no reach: what the rule may name was looked at when it took the objects
            new = Desk(self.ledger, None, place()).job_of(body, f"rule {rule.name}")
            done = event_batches.queue(self.ledger, batch, new)
        except (SegsvcError, OSError) as error:
            event_batches.note_error(self.ledger, batch, str(error))
            log.warning("rule %s: %d images wait, as their run could not be queued: %s", rule.name, batch.images, error)
            self._pauses[batch.number] = (time.monotonic() + pause_s, min(2 * pause_s, _LONGEST_PAUSE_S))
            return False
        self._pauses.pop(batch.number, None)
        if done:
            log.info("rule %s: run %s of %d images", rule.name, new.run_id, batch.images)
            self.wake()
        return done

    def _manifest(self, rule: Rule, batch: Batch) -> str:
        """The manifest of a batch: the same bytes each time, and written once, as a run holds it to its version."""
        folder = store_of(rule.out).folder(rule.out)
        name = f"{MANIFESTS}/{batch.name}.jsonl"
        folder.put(name, manifest(event_batches.images_of(self.ledger, batch)), if_absent=True)
        return f"{folder.uri}/{name}"


def manifest(images: Sequence[BatchImage]) -> bytes:
    """A run's INPUT: a line of JSON each image."""
    return "".join(json.dumps({"uri": each.uri, "etag": each.etag, "size": each.size_bytes}, ensure_ascii=False) + "\n"
                   for each in images).encode()


def out_of(rule: Rule, batch: Batch) -> str:
    """The folder of a batch's run."""
    return f"{rule.out.rstrip('/')}/{batch.name}"
