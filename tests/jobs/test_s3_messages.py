"""What stores and their messengers send is read as what it says, and whatever else comes is a fault that says why."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.s3_messages import ObjectEvent, read_message

AT_NS = 1_793_611_812_250_000_000  # 2026-11-02T09:30:12.25Z


def record(key: str = "2026/a+b%2Bc.jpg", name: str = "ObjectCreated:Put", **thing: Any) -> dict[str, Any]:
    return {"eventVersion": "2.1", "eventSource": "aws:s3", "eventTime": "2026-11-02T09:30:12.250Z", "eventName": name,
            "s3": {"bucket": {"name": "photos"}, "object": {"key": key, "size": 5, "eTag": "abc", **thing}}}


def sent(*records: dict[str, Any]) -> str:
    return json.dumps({"Records": records})


def only(body: str) -> ObjectEvent:
    message = read_message(body)
    assert (message.faults, message.ignored, len(message.events)) == ((), 0, 1), message
    return message.events[0]


def bridged(kind: str = "Object Created", key: str = "2026/a b+c%20d.jpg", **detail: Any) -> str:
    return json.dumps({"version": "0", "detail-type": kind, "source": "aws.s3", "time": "2026-11-02T09:30:12Z", "detail": {
        "bucket": {"name": "photos"}, "object": {"key": key, "size": 5, "etag": "abc", "sequencer": "0A"}, **detail}})


def filed(event: str, key: str, *, old: dict[str, Any] | None = None, new: dict[str, Any] | None = None,
          parent: str = "") -> str:
    return json.dumps({"event_type": event, "key": key, "message": {
        "old_entry": old, "new_entry": new, "delete_chunks": True, "new_parent_path": parent, "signatures": [-14254]}})


def entry(name: str, etag: str = "abc", modified_ns: int = 7_000_000_000, **more: Any) -> dict[str, Any]:
    return {"name": name, "chunks": [{"size": 5, "modified_ts_ns": modified_ns, "fid": {"volume_id": 3}}],
            "attributes": {"file_size": 5, "mtime": 7, "md5": "XUFAKrxLKna5cZ2REBfFkg=="},
            "extended": {"Seaweed-X-Amz-ETag": base64.b64encode(etag.encode()).decode()}, **more}


def test_a_key_of_s3_is_decoded_once_and_an_etag_loses_its_quotes() -> None:
    found = only(sent(record(eTag='"abc"', sequencer="0055AED6DCD90281E5", versionId="v1")))
    assert found == ObjectEvent("s3://photos/2026/a b+c.jpg", "abc", 5, False, AT_NS, "0055aed6dcd90281e5".zfill(64), "v1")
    assert only(sent(record(key="100%2525+%C3%BC.png"))).uri == "s3://photos/100%25 ü.png"


def test_a_message_may_hold_several_records() -> None:
    message = read_message(sent(record("a.png"), record("b.png", "s3:ObjectRemoved:Delete"),
                                record("c.png", "ObjectTagging:Put")))
    assert [(each.uri, each.gone) for each in message.events] == [("s3://photos/a.png", False), ("s3://photos/b.png", True)]
    assert (message.ignored, message.faults) == (1, ())


@pytest.mark.parametrize(("name", "version", "gone", "one_version"), [
    ("ObjectCreated:CompleteMultipartUpload", "v1", False, False), ("ObjectRemoved:Delete", None, True, False),
    ("ObjectRemoved:Delete", "v1", True, True), ("ObjectRemoved:DeleteMarkerCreated", "v2", True, False),
    ("LifecycleExpiration:Delete", None, True, False)])
def test_deletions_say_whether_they_are_of_one_version(
        name: str, version: str | None, gone: bool, one_version: bool) -> None:
    found = only(sent(record(name=name, versionId=version)))
    assert (found.gone, found.one_version) == (gone, one_version)


def test_sns_wraps_a_message_as_text_and_may_leave_it_as_it_is() -> None:
    wrapped = json.dumps({"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:x", "Message": sent(record())})
    assert read_message(wrapped) == read_message(sent(record()))
    assert only(json.dumps({"Type": "Notification", "Message": bridged()})).uri == "s3://photos/2026/a b+c%20d.jpg"


def test_eventbridge_leaves_keys_as_they_are() -> None:
    found = only(bridged())
    assert (found.uri, found.gone, found.sequencer[-3:]) == ("s3://photos/2026/a b+c%20d.jpg", False, "00a")
    assert only(bridged("Object Deleted", **{"deletion-type": "Delete Marker Created"})).gone
    assert read_message(bridged("Object Tags Added")).ignored == 1


def test_a_test_event_is_ignored() -> None:
    body = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-11-02T09:30:12Z", "Bucket": "photos"})
    assert (read_message(body).ignored, read_message(body).faults) == (1, ())


def test_seaweedfs_tells_of_files_in_its_buckets() -> None:
    found = only(filed("create", "/buckets/photos/a b+ü/x.png", new=entry("x.png", modified_ns=7_500_000_000),
                       parent="/buckets/photos/a b+ü"))
    assert found == ObjectEvent("s3://photos/a b+ü/x.png", "abc", 5, False, 7_500_000_000)
    assert only(filed("update", "/buckets/photos/x.png", old=entry("x.png"), new=entry("x.png", "def"),
                      parent="/buckets/photos")).etag == "def"
    plain = entry("x.png", extended={})
    assert only(filed("create", "/buckets/photos/x.png", new=plain)).etag == "5d41402abc4b2a76b9719d911017c592"


def test_a_deletion_of_seaweedfs_comes_right_after_what_it_deletes() -> None:
    put = only(filed("create", "/buckets/photos/x.png", new=entry("x.png"), parent="/buckets/photos"))
    gone = only(filed("delete", "/buckets/photos/x.png", old=entry("x.png")))
    assert (gone.gone, gone.etag, gone.at_ns) == (True, put.etag, put.at_ns + 1)


def test_what_seaweedfs_renames_is_gone_there_and_put_here() -> None:
    message = read_message(filed("rename", "/buckets/photos/x.png", old=entry("x.png"), new=entry("y.png"),
                                 parent="/buckets/other/deep"))
    assert [(each.uri, each.gone) for each in message.events] == [
        ("s3://photos/x.png", True), ("s3://other/deep/y.png", False)]


@pytest.mark.parametrize("path", [
    "/buckets/photos/.uploads/1/0001.part", "/buckets/.system/owners/x", "/home/x", "/buckets"])
def test_seaweedfs_notes_of_its_own_are_ignored(path: str) -> None:
    parent, _, name = path.rpartition("/")
    assert read_message(filed("create", path, new=entry(name), parent=parent or "/")).ignored == 1


def test_seaweedfs_folders_are_ignored() -> None:
    folder = {"name": "deep", "is_directory": True, "attributes": {"mtime": 7}}
    assert read_message(filed("create", "/buckets/photos/deep", new=folder, parent="/buckets/photos")).ignored == 1


@pytest.mark.parametrize(("body", "why"), [
    ("no JSON", "expected JSON"), ("[1]", "expected a JSON object"), ('{"a": 1}', "'a'"), ("{}", "nothing"),
    ("[" * 100_000, "expected JSON"), ('{"Records": [7]}', "Records.0"), ('{"Records": "x"}', "'Records'"),
    (sent(record(eTag="")), "ETag"), (sent(record(key="")), "key"), (sent(record(key="%FF")), "UTF-8"),
    (sent(record(key="a%00b")), "character 0"), (sent(record(key="k" * 5000)), "4096"),
    (sent({**record(), "eventTime": "soon"}), "eventTime"), (sent({**record(), "s3": None}), "s3"),
    (bridged(key="\ud800"), "surrogate"), (bridged(bucket=None), "detail.bucket"),
    ('{"Type": "SubscriptionConfirmation", "SubscribeURL": "http://169.254.169.254/"}', "confirm"),
    ('{"Type": "Notification", "Message": "x"}', "expected JSON"),
    ('{"event_type": "create", "key": "/buckets/photos/x", "message": {"new_entry": {"name": "x"}}}', "ETag"),
    (filed("create", "/buckets/photos/x.png", new={**entry("x.png"), "extended": {"Seaweed-X-Amz-ETag": "*"}}), "base64")])
def test_what_nobody_can_read_says_why(body: str, why: str) -> None:
    message = read_message(body)
    assert message.events == ()
    assert len(message.faults) == 1
    assert why in message.faults[0], message.faults


def test_a_bucket_that_there_cannot_be_is_a_fault() -> None:
    wrong = record()
    wrong["s3"]["bucket"]["name"] = "../x"
    message = read_message(sent(record("a.png"), wrong))
    assert (len(message.events), len(message.faults)) == (1, 1)


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["Records", "Type", "Message", "detail-type", "detail", "event_type", "message", "key", "s3", "object", "bucket",
         "eventName", "eventTime", "time", "name", "new_entry", "old_entry", "extended", "Event"]), inner, max_size=6),
    max_leaves=20)


@given(_ANYTHING)
def test_no_document_ends_who_reads_it(document: Any) -> None:
    message = read_message(json.dumps(document))
    assert message.events or message.ignored or message.faults or document == {"Records": []} or (
        isinstance(document, dict) and document.get("Records") == [])
