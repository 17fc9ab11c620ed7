"""Parts in a bucket: put whole, on conditions that the server judges, whatever becomes of its answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from segsvc.errors import StoreError
from segsvc.stores.s3 import PLUGIN
from tests.s3_servers import Asked, S3Server, Said, UseServer, s3_error, scripted


class Bucket:
    """Objects in memory, with conditional puts; `wrong` may answer instead, before or after what was asked is done."""

    def __init__(self, *, before: Callable[[Asked], Said | None] | None = None,
                 after: Callable[[Asked], Said | None] | None = None) -> None:
        self.objects: dict[str, bytes] = {}
        self.before = before
        self.after = after
        self.lock = threading.Lock()

    def __call__(self, asked: Asked) -> Said:
        with self.lock:
            instead = self.before(asked) if self.before is not None else None
            if instead is not None:
                return instead
            said = self.done(asked)
            instead = self.after(asked) if self.after is not None else None
            return said if instead is None else instead

    def done(self, asked: Asked) -> Said:
        there = self.objects.get(asked.target)
        tag = f'"{hash(there)}"'
        if asked.method == "PUT":
            wanted = asked.headers.get("if-match")
            if (asked.headers.get("if-none-match") == "*" and there is not None) or (
                    wanted is not None and there is not None and wanted != tag):
                return s3_error("PreconditionFailed", 412)
            if wanted is not None and there is None:
                return s3_error("NoSuchKey", 404)
            self.objects[asked.target] = asked.body
            return Said()
        if there is None:
            return s3_error("NoSuchKey", 404)
        if asked.method == "DELETE":
            del self.objects[asked.target]
            return Said(204)
        return Said(200, there, {"etag": tag})


class Once:
    """Gives an answer to the first request of a method, and None to all others."""

    def __init__(self, said: Said, method: str = "PUT", times: int = 1) -> None:
        self.said = said
        self.method = method
        self.left = times

    def __call__(self, asked: Asked) -> Said | None:
        if asked.method != self.method or self.left == 0:
            return None
        self.left -= 1
        return self.said


# -- on SeaweedFS --------------------------------------------------------------------------------------------------------


def test_of_many_that_put_where_there_is_none_one_succeeds(below: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: PLUGIN.folder(below).put("part", b"%d" % number, if_absent=True), range(8)))
    assert won.count(True) == 1
    assert PLUGIN.folder(below).read("part") == b"%d" % won.index(True)


def test_a_folder_is_the_same_with_and_without_a_slash_and_may_be_the_bucket(below: str) -> None:
    PLUGIN.folder(below + "/").put("images/a", b"1")
    assert PLUGIN.folder(below).names("images") == ["images/a"]
    assert PLUGIN.folder(below + "/").uri == below
    assert PLUGIN.folder("s3://open").read(below.removeprefix("s3://open/") + "/images/a") == b"1"
    assert PLUGIN.folder("s3://open/").uri == "s3://open"


def test_a_folders_own_object_and_its_claim_do_not_fill_it(below: str, weed: S3Server) -> None:
    weed.client().put_object(Bucket="open", Key=below.removeprefix("s3://open/") + "/", Body=b"")
    folder = PLUGIN.folder(below)
    assert folder.claim()
    try:
        assert folder.is_empty()
    finally:
        folder.release()
    folder.put("plan/part", b"")
    assert not folder.is_empty()


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "s3://no bucket/x"])
def test_what_names_no_bucket_is_refused(uri: str) -> None:
    with pytest.raises(StoreError, match="expected s3://bucket/prefix"):
        PLUGIN.folder(uri)


# -- answers that are lost, and servers that know less -------------------------------------------------------------------


@pytest.mark.parametrize("lost", [Said(cut=-1), s3_error("InternalError", 500)])
def test_a_put_whose_answer_was_lost_counts_as_put_where_its_bytes_are_there(use: UseServer, lost: Said) -> None:
    bucket = Bucket(after=Once(lost))
    with scripted(bucket) as (server, _):
        use(server)
        folder = PLUGIN.folder("s3://bucket/out")
        assert folder.put("spec.json", b"mine", if_absent=True)
        bucket.after = Once(lost)
        assert folder.put("spec.json", b"newer", if_tag=folder.tag("spec.json"))
        assert folder.read("spec.json") == b"newer"


def test_a_put_that_another_was_quicker_with_does_not_count_although_it_was_tried_again(use: UseServer) -> None:
    bucket = Bucket(before=Once(Said(503)))
    bucket.objects["/bucket/out/spec.json"] = b"theirs"
    with scripted(bucket) as (server, _):
        use(server)
        assert not PLUGIN.folder("s3://bucket/out").put("spec.json", b"mine", if_absent=True)


def test_two_conditional_puts_at_once_are_asked_for_again(use: UseServer) -> None:
    with scripted(Bucket(before=Once(s3_error("ConditionalRequestConflict", 409), times=2))) as (server, script):
        use(server)
        assert PLUGIN.folder("s3://bucket/out").put("a", b"1", if_absent=True)
        assert [asked.method for asked in script.asked] == ["PUT"] * 3


def test_where_the_server_knows_no_conditions_it_is_looked_first(use: UseServer) -> None:
    def no_conditions(asked: Asked) -> Said | None:
        conditional = asked.method == "PUT" and {"if-match", "if-none-match"} & asked.headers.keys()
        return s3_error("NotImplemented", 501) if conditional else None

    with scripted(Bucket(before=no_conditions)) as (server, script):
        use(server)
        folder = PLUGIN.folder("s3://bucket/out")
        assert folder.put("a", b"1", if_absent=True)
        assert not folder.put("a", b"2", if_absent=True)
        tag = folder.tag("a")
        assert folder.put("a", b"3", if_tag=tag)
        assert not folder.put("a", b"4", if_tag=tag)
        assert not folder.put("none", b"4", if_tag=tag)
        assert folder.read("a") == b"3"
        assert sum(bool({"if-match", "if-none-match"} & asked.headers.keys()) for asked in script.asked) == 1


def test_a_version_that_was_removed_is_not_replaced(use: UseServer) -> None:
    with scripted(Bucket()) as (server, _):
        use(server)
        folder = PLUGIN.folder("s3://bucket/out")
        assert not folder.put("a", b"1", if_tag="tag")
        assert folder.tag("a") is None
        assert folder.read("a") is None
        folder.delete("a")


def test_what_is_put_is_encrypted_and_paid_for_as_the_settings_say(use: UseServer) -> None:
    with scripted(Bucket()) as (server, script):
        use(server, SEGSVC_S3__SSE="aws:kms", SEGSVC_S3__SSE_KMS_KEY_ID="the-key", SEGSVC_S3__REQUESTER_PAYS="true")
        PLUGIN.folder("s3://bucket/out").put("report.html", b"1")
        PLUGIN.folder("s3://bucket/out").read("report.html")
        put, get = (asked.headers for asked in script.asked)
        assert put["x-amz-server-side-encryption"] == "aws:kms"
        assert put["x-amz-server-side-encryption-aws-kms-key-id"] == "the-key"
        assert put["content-type"] == "text/html; charset=utf-8"
        assert put["x-amz-request-payer"] == get["x-amz-request-payer"] == "requester"
        assert "x-amz-server-side-encryption" not in get


@pytest.mark.parametrize("act", [
    lambda folder: folder.put("a", b"1"), lambda folder: folder.read("a"), lambda folder: folder.tag("a"),
    lambda folder: folder.names("a"), lambda folder: folder.delete("a"), lambda folder: folder.is_empty(),
    lambda folder: folder.claim()])
@pytest.mark.parametrize(("said", "words"), [
    (s3_error("AccessDenied", 403), "access is denied (AccessDenied, HTTP 403)"),
    (s3_error("ExpiredToken", 400), "got expired ones (ExpiredToken)"),
    (Said(404, b"<html>not here</html>"), "expected an S3 store at"),
    (Said(503), "the answer HTTP 503, 2 times"),
])
def test_what_goes_wrong_with_a_part_is_an_error_of_the_store(use: UseServer, act: Callable[[object], object], said: Said,
                                                              words: str) -> None:
    with scripted(lambda asked: said) as (server, _):
        use(server, SEGSVC_S3__ATTEMPTS="2")
        with pytest.raises(StoreError) as caught:
            act(PLUGIN.folder("s3://bucket/out"))
        assert words in str(caught.value)
        assert "hushhush" not in str(caught.value)


@pytest.mark.parametrize("once", [
    Said(206, b"all of", {"content-range": "bytes 0-11/12"}),  # a length that was understated
    Said(404, b"<?xml version='1.0'?><Error><Co"),  # the end of an error got lost
])
def test_an_answer_that_cannot_be_whole_is_asked_for_again(use: UseServer, once: Said) -> None:
    with scripted(Bucket(before=Once(once, "GET"))) as (server, script):
        use(server)
        folder = PLUGIN.folder("s3://bucket/out")
        folder.put("spec.json", b"all of it is")
        assert folder.read("spec.json") == b"all of it is"
        assert [asked.method for asked in script.asked] == ["PUT", "GET", "GET"]


def test_a_file_without_bytes_is_read_as_one(below: str) -> None:
    folder = PLUGIN.folder(below)
    folder.put("failures.jsonl", b"")
    assert folder.read("failures.jsonl") == b""
    assert folder.read("images/part-00000.parquet") is None
