"""Reads what stores and their messengers send about objects: S3's notifications, as they are or wrapped by SNS,
EventBridge's events, and what SeaweedFS' filer posts. Pure: a message in, what it tells out.

Keys are decoded once: S3 encodes them as in a URL (`+` is a space), EventBridge and SeaweedFS do not. Whatever else comes is
no error but a fault of the message, which tells what was expected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, Field, ValidationError

from jobs.filer_messages import FilerMessage
from segsvc.card import describe
from segsvc.errors import ConfigError
from segsvc.stores.s3.buckets import split_uri, uri_of

MOST_RECORDS = 10_000  # in one message
MOST_KEY_BYTES = 4096  # S3 allows 1024
_SEQUENCER_DIGITS = 64
_WRAPS = 3  # how deep a message may be wrapped: EventBridge and S3 by SNS
_HEX = re.compile(r"[0-9a-fA-F]{1,64}")


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """An object that was put or deleted; see `segsvc.ledger.event_records.Heard` for the fields."""

    uri: str
    etag: str
    size_bytes: int
    gone: bool
    at_ns: int
    sequencer: str = ""
    version_id: str = ""
    one_version: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """What a message tells. ignored: how many of its records concern no object; faults: what nobody could read of it."""

    events: tuple[ObjectEvent, ...] = ()
    ignored: int = 0
    faults: tuple[str, ...] = ()


class _Bucket(BaseModel):
    name: str


class _S3Object(BaseModel):
    key: str
    size: int = Field(default=0, ge=0)
    etag: str = Field(default="", alias="eTag")
    version_id: str | None = Field(default=None, alias="versionId")
    sequencer: str | None = None


class _S3(BaseModel):
    bucket: _Bucket
    object: _S3Object


class _Record(BaseModel):
    """One of S3's notification (https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html)."""

    name: str = Field(alias="eventName")
    time: datetime = Field(alias="eventTime")
    s3: _S3


class _BridgeObject(BaseModel):
    key: str
    size: int = Field(default=0, ge=0)
    etag: str = ""
    version_id: str | None = Field(default=None, alias="version-id")
    sequencer: str | None = None


class _Detail(BaseModel):
    bucket: _Bucket
    object: _BridgeObject
    deletion: str | None = Field(default=None, alias="deletion-type")


class _BridgeEvent(BaseModel):
    """EventBridge's event (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html)."""

    kind: str = Field(alias="detail-type")
    time: datetime
    detail: _Detail


def read_message(body: str | bytes) -> Message:
    """What a message tells, whatever it is."""
    return _read(body, _WRAPS)


def _read(body: str | bytes, wraps: int) -> Message:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        return _fault(f"expected JSON, got {_shown(body)} ({type(error).__name__})")
    if not isinstance(document, dict):
        return _fault(f"expected a JSON object, got {_shown(body)}")
    try:
        return _told(document, wraps)
    except ValidationError as error:
        return _fault(describe(error))
    except ConfigError as error:
        return _fault(str(error))


def _told(document: Mapping[str, Any], wraps: int) -> Message:  # noqa: PLR0911 - a table
    if isinstance(document.get("Records"), list):
        return _records(document["Records"])
    if document.get("Event") == "s3:TestEvent":
        return Message(ignored=1)
    if "detail-type" in document:
        return _bridged(_BridgeEvent.model_validate(document))
    if "event_type" in document and "message" in document:
        return _filed(FilerMessage.model_validate(document))
    if document.get("Type") == "Notification" and isinstance(document.get("Message"), str):
        if wraps == 0:
            return _fault(f"expected a message that is wrapped at most {_WRAPS} times")
        return _read(document["Message"], wraps - 1)
    if document.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        return _fault("expected a notification, got SNS' wish to be confirmed. Addresses in messages are not visited: "
                      "confirm it by `aws sns confirm-subscription` with its Token.")
    return _fault("expected S3's Records, SNS' Notification, EventBridge's detail-type or SeaweedFS' event_type, got a "
                  f"document with {', '.join(map(repr, list(document)[:8])) or 'nothing'}")


def _records(records: list[Any]) -> Message:
    if len(records) > MOST_RECORDS:
        return _fault(f"expected at most {MOST_RECORDS} Records, got {len(records)}")
    found: list[ObjectEvent] = []
    faults: list[str] = []
    ignored = 0
    for number, record in enumerate(records):
        try:
            event = _of_record(_Record.model_validate(record))
        except ValidationError as error:
            faults.append(f"Records.{number}: {describe(error)}")
        except ConfigError as error:
            faults.append(f"Records.{number}: {error}")
        else:
            if event is None:
                ignored += 1
            else:
                found.append(event)
    return Message(tuple(found), ignored, tuple(faults))


def _of_record(record: _Record) -> ObjectEvent | None:
    name, thing = record.name.removeprefix("s3:"), record.s3.object
    gone = name.startswith(("ObjectRemoved:", "LifecycleExpiration:"))
    if not gone and not name.startswith("ObjectCreated:"):
        return None  # a restore, tags, a replication
    return _event(record.s3.bucket.name, _decoded(thing.key), thing.etag, thing.size, gone=gone, at=record.time,
                  sequencer=thing.sequencer, version_id=thing.version_id,
                  one_version=gone and not name.endswith("DeleteMarkerCreated"))


def _bridged(event: _BridgeEvent) -> Message:
    if event.kind not in ("Object Created", "Object Deleted"):
        return Message(ignored=1)
    thing, gone = event.detail.object, event.kind == "Object Deleted"
    return Message((_event(
        event.detail.bucket.name, thing.key, thing.etag, thing.size, gone=gone, at=event.time, sequencer=thing.sequencer,
        version_id=thing.version_id, one_version=gone and event.detail.deletion != "Delete Marker Created"),))


def _filed(message: FilerMessage) -> Message:
    changes = message.changes()
    events = tuple(_event(each.bucket, each.key, each.etag, each.size_bytes, gone=each.gone, at_ns=each.at_ns)
                   for each in changes)
    return Message(events, ignored=0 if events else 1)


def _event(bucket: str, key: str, etag: str, size_bytes: int, *, gone: bool, at: datetime | None = None, at_ns: int = 0,
           sequencer: str | None = None, version_id: str | None = None, one_version: bool = False) -> ObjectEvent:
    """Raises ConfigError where there can be no such object."""
    uri = uri_of(bucket, key)
    split_uri(uri)
    etag = etag.strip('"')
    for what, text in (("key", key), ("eTag", etag), ("versionId", version_id or "")):
        _check(what, text)
    if not key:
        raise ConfigError("expected the key of an object, got none")
    if not etag and not gone:
        raise ConfigError("expected the ETag of an object that was put, got none")
    if sequencer is not None and not _HEX.fullmatch(sequencer):
        sequencer = None
    version = version_id if version_id is not None and version_id != "null" else ""
    return ObjectEvent(
        uri, etag, size_bytes, gone, _nanoseconds(at) if at is not None else at_ns,
        sequencer.lower().zfill(_SEQUENCER_DIGITS) if sequencer is not None else "", version, one_version and version != "")


def _decoded(key: str) -> str:
    try:
        return unquote_to_bytes(key.replace("+", " ")).decode()
    except UnicodeError as error:
        raise ConfigError("expected a key that is UTF-8, encoded as in a URL, got another") from error


def _check(what: str, text: str) -> None:
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what}: expected text that is valid Unicode, got a lone surrogate") from error
    if b"\0" in raw or len(raw) > MOST_KEY_BYTES:
        raise ConfigError(f"{what}: expected at most {MOST_KEY_BYTES} bytes and no character 0, got {len(raw)} bytes")


def _nanoseconds(when: datetime) -> int:
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds) * 1000


def _shown(body: str | bytes) -> str:
    return repr(body[:40]).removeprefix("b")


def _fault(why: str) -> Message:
    return Message(faults=(why,))


def all_of(messages: Iterable[Message]) -> Message:
    """What several messages tell, in their order."""
    told = list(messages)
    return Message(tuple(event for each in told for event in each.events), sum(each.ignored for each in told),
                   tuple(fault for each in told for fault in each.faults))
