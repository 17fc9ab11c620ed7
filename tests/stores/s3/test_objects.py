"""Objects are opened as the version that was planned, whole or by ranges; what goes wrong is tried again, then said."""

from __future__ import annotations

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from segsvc.errors import ImageError, ImageErrorKind, StoreError
from segsvc.settings import Settings
from segsvc.stores import MISSING
from segsvc.stores.s3 import PLUGIN
from segsvc.stores.s3.blob import HEAD_BYTES, WHOLE_BYTES, RangedBlob, WholeBlob
from segsvc.stores.s3.buckets import BUCKETS
from segsvc.types import ImageRef
from tests.s3_servers import Asked, S3Server, Said, UseServer, s3_error, scripted, shared_moto

URI = "s3://bucket/x.png"


def put(uri: str, data: bytes) -> ImageRef:
    folder, _, name = uri.rpartition("/")
    PLUGIN.folder(folder).put(name, data)
    return PLUGIN.find(uri)


def large(seed: int, size_bytes: int = WHOLE_BYTES * 2 + 12345) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def refused(ref: ImageRef) -> ImageError:
    with pytest.raises(ImageError) as caught:
        PLUGIN.open(ref)
    return caught.value


# -- on SeaweedFS --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_bytes", [0, 1, 100_000, WHOLE_BYTES, WHOLE_BYTES + 1])
def test_an_object_of_any_size_is_found_and_read(below: str, size_bytes: int) -> None:
    data = large(size_bytes, size_bytes)
    ref = put(f"{below}/x.png", data)
    assert (ref.uri, ref.size_bytes) == (f"{below}/x.png", size_bytes)
    assert '"' not in ref.version
    for asked in (ref, replace(ref, size_bytes=0), ImageRef(ref.uri, "", 0), ImageRef(ref.uri, "", 7)):
        blob = PLUGIN.open(asked)
        assert blob.size_bytes == size_bytes
        assert blob.read_all() == data
        assert blob.read(-5, 2) == data[:2]
        assert blob.read(size_bytes - 1, size_bytes + 100) == data[max(0, size_bytes - 1):]
        assert blob.read(9, 3) == b""
        blob.close()
        with pytest.raises(ImageError, match="closed"):
            blob.read(0, 1)


def test_a_small_object_comes_with_its_opening_and_costs_nothing_more(use: UseServer) -> None:
    with scripted(lambda asked: Said(200, b"bytes", {"etag": '"e"'})) as (server, script):
        use(server)
        blob = PLUGIN.open(ImageRef(URI, "e", 5))
        assert isinstance(blob, WholeBlob)
        assert (blob.read(1, 3), blob.read_all()) == (b"yt", b"bytes")
        assert [(asked.method, asked.headers["if-match"], asked.headers.get("range")) for asked in script.asked] == [
            ("GET", '"e"', None)]


def test_a_large_object_is_read_by_ranges_by_many_threads(below: str) -> None:
    data = large(1)
    blob = PLUGIN.open(put(f"{below}/x.tif", data))
    assert isinstance(blob, RangedBlob)
    draw = random.Random(2)
    places = [tuple(sorted(draw.sample(range(len(data)), 2))) for _ in range(24)] + [
        (place, place + 10) for place in draw.sample(range(len(data)), 24)] + [(len(data) - 3, len(data))]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda place: blob.read(*place) == data[slice(*place)], places)) == [True] * len(places)
    assert blob.read_all() == data


def test_an_object_that_was_changed_after_it_was_listed_is_refused_whole_and_in_the_middle(below: str) -> None:
    small, big = put(f"{below}/small", b"one"), put(f"{below}/big", large(3))
    blob = PLUGIN.open(big)
    put(f"{below}/small", b"two")
    put(f"{below}/big", large(4))
    for error in (refused(small), refused(big)):
        assert error.kind is ImageErrorKind.CHANGED
        assert "it was changed after it was listed. Run it again on a new OUT." in str(error)
    assert refused(small).args[0].startswith(f"expected version {small.version} of the object, got ")
    with pytest.raises(ImageError) as caught:
        blob.read(HEAD_BYTES, len(large(3)))
    assert caught.value.kind is ImageErrorKind.CHANGED


def test_what_is_not_there_is_found_missing_and_cannot_be_opened(below: str) -> None:
    ref = PLUGIN.find(f"{below}/none.png")
    assert ref == ImageRef(f"{below}/none.png", MISSING, 0)
    for version in (MISSING, "", "abc"):
        assert refused(replace(ref, version=version)).kind is ImageErrorKind.MISSING


@pytest.mark.parametrize("uri", ["", "s3://", "s3://open", "s3://open/", "s3:///key", "s3://no bucket/x", "s3://a..b/x"])
def test_what_names_no_object_is_one_failed_image(weed: S3Server, uri: str) -> None:
    assert PLUGIN.find(uri) == ImageRef(uri, MISSING, 0)
    assert refused(ImageRef(uri, MISSING, 0)).kind is ImageErrorKind.MISSING


def test_a_version_goes_on_being_read_after_it_was_replaced_where_the_bucket_keeps_versions(use: UseServer) -> None:
    client = use(shared_moto()).client()
    client.create_bucket(Bucket="versions")
    client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    data = large(5)
    blob = PLUGIN.open(put("s3://versions/x", data))
    put("s3://versions/x", b"other")
    assert blob.read_all() == data


# -- where no real server can be made to answer so -----------------------------------------------------------------------


class Flaky:
    """Answers with `wrong` some times, then with what was asked for."""

    def __init__(self, times: int, wrong: Said, right: bytes = b"bytes") -> None:
        self.left = times
        self.wrong = wrong
        self.right = right
        self.lock = threading.Lock()

    def __call__(self, asked: Asked) -> Said:
        with self.lock:
            self.left -= 1
            if self.left >= 0:
                return self.wrong
        first, _, last = asked.headers.get("range", "").removeprefix("bytes=").partition("-")
        if not last:
            return Said(200, self.right, {"etag": '"e"'})
        part = self.right[int(first) : int(last) + 1]
        place = f"bytes {first}-{int(first) + len(part) - 1}/{len(self.right)}"
        return Said(206, part, {"etag": '"e"', "content-range": place})


WRONG = {
    "500": s3_error("InternalError", 500), "502": Said(502, b"<html>"), "503": s3_error("SlowDown", 503), "504": Said(504),
    "429": Said(429), "408": Said(408), "a timeout by 400": s3_error("RequestTimeout", 400),
    "reset before the answer": Said(cut=-1), "cut in the middle": Said(200, b"bytes", {"etag": '"e"'}, cut=2),
    "too short": Said(200, b"byt", {"etag": '"e"'}), "too long": Said(200, b"bytes!!", {"etag": '"e"'}),
    "no HTTP length": Said(200, b"byte", {"etag": '"e"', "content-length": "x"}),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_what_goes_wrong_now_and_then_is_tried_again(use: UseServer, wrong: Said) -> None:
    with scripted(Flaky(2, wrong)) as (server, script):
        use(server)
        assert PLUGIN.open(ImageRef(URI, "e", 5)).read_all() == b"bytes"
        assert len(script.asked) == 3


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_an_object_that_goes_wrong_each_time_is_one_failed_image_while_the_store_answers(use: UseServer,
                                                                                         wrong: Said) -> None:
    with scripted(lambda asked: wrong if asked.method == "GET" else Said()) as (server, script):
        use(server, SEGSVC_S3__ATTEMPTS="3")
        error = refused(ImageRef(URI, "e", 5))
        assert error.kind is ImageErrorKind.IO
        assert "3 times" in str(error)
        assert Counter(asked.method for asked in script.asked) == {"GET": 3, "HEAD": 1}


def test_a_store_that_answers_nothing_any_more_ends_the_run(use: UseServer) -> None:
    with scripted(lambda asked: Said(200, b"bytes", {"etag": '"e"'})) as (server, script):
        use(server, SEGSVC_S3__ATTEMPTS="2")
        PLUGIN.open(ImageRef(URI, "e", 5))
        script.answer = lambda asked: Said(cut=-1)
        with pytest.raises(StoreError, match=r"expected an answer from http://127.* closed, 2 times"):
            PLUGIN.open(ImageRef(URI, "e", 5))
    with pytest.raises(StoreError, match=r"expected a store at http://127.* refused, 2 times"):
        PLUGIN.open(ImageRef(URI, "e", 5))


@pytest.mark.parametrize(("content_range", "part"), [
    ("bytes 0-4/9", b"bytes"), ("bytes 1-5/5", b"bytes"), ("bytes 0-3/5", b"bytes"), ("", b"bytes"),
    ("bytes 0-2/5", b"byt")])
def test_a_range_of_another_place_or_size_is_not_taken(use: UseServer, content_range: str, part: bytes) -> None:
    with scripted(lambda asked: Said(206, part, {"etag": '"e"', "content-range": content_range})) as (server, _):
        use(server, SEGSVC_S3__ATTEMPTS="2")
        assert refused(ImageRef(URI, "e", 5)).kind is ImageErrorKind.IO


def test_an_answer_with_another_etag_is_another_version_even_where_the_store_knows_no_conditions(use: UseServer) -> None:
    with scripted(lambda asked: Said(200, b"bytes", {"etag": '"other"'})) as (server, _):
        use(server)
        error = refused(ImageRef(URI, "e", 5))
        assert error.kind is ImageErrorKind.CHANGED
        assert "expected version e of the object, got other: it was changed" in str(error)


def test_a_range_that_breaks_off_in_the_middle_of_a_large_object_is_tried_again(use: UseServer) -> None:
    data = large(6)
    answer = Flaky(0, Said(206, b"short", {"etag": '"e"', "content-range": f"bytes 0-{len(data) - 1}/{len(data)}"}), data)
    with scripted(answer) as (server, _):
        use(server)
        blob = PLUGIN.open(ImageRef(URI, "e", len(data)))
        answer.left = 2
        assert blob.read_all() == data


def test_further_ranges_name_the_version_and_do_without_where_that_right_is_missing(use: UseServer) -> None:
    data = large(7, WHOLE_BYTES + 1)
    honest = Flaky(0, Said(), data)

    def answer(asked: Asked) -> Said:
        if "versionId" in asked.target:
            return s3_error("AccessDenied", 403)
        said = honest(asked)
        return replace(said, headers={**said.headers, "x-amz-version-id": "v/1"})

    with scripted(answer) as (server, script):
        use(server)
        assert PLUGIN.open(ImageRef(URI, "e", len(data))).read(WHOLE_BYTES - 5, WHOLE_BYTES + 1) == data[-6:]
        assert [asked.target.partition("?")[2] for asked in script.asked] == ["", "versionId=v%2F1", ""]


@pytest.mark.parametrize(("said", "kind", "words"), [
    (s3_error("AccessDenied", 403), ImageErrorKind.PERMISSION, "expected the right s3:GetObject"),
    (s3_error("InvalidObjectState", 403), ImageErrorKind.PERMISSION, "archived"),
    (s3_error("NoSuchKey", 404), ImageErrorKind.MISSING, "there is none"),
    (s3_error("MethodNotAllowed", 405), ImageErrorKind.MISSING, "there is none"),
    (s3_error("PreconditionFailed", 412), ImageErrorKind.CHANGED, "it was changed"),
    (s3_error("KeyTooLongError", 400), ImageErrorKind.IO, "KeyTooLongError, HTTP 400"),
])
def test_what_is_wrong_with_one_object_is_one_failed_image(use: UseServer, said: Said, kind: ImageErrorKind,
                                                           words: str) -> None:
    with scripted(lambda asked: said) as (server, script):
        use(server)
        error = refused(ImageRef(URI, "e", 5))
        assert (error.kind, len(script.asked)) == (kind, 1)
        assert words in str(error)
        assert "hushhush" not in str(error)


def test_a_busy_store_is_asked_for_less_at_once_until_it_answers_again(use: UseServer) -> None:
    with scripted(Flaky(1, s3_error("SlowDown", 503))) as (server, _):
        use(server, SEGSVC_S3__IN_FLIGHT="16")
        PLUGIN.open(ImageRef(URI, "e", 5))
        gate = BUCKETS.of("bucket").gate
        assert gate.limit == 8
        for _ in range(200):
            PLUGIN.open(ImageRef(URI, "e", 5))
        assert gate.limit == 16
        assert PLUGIN.in_flight == 16


def test_no_more_gets_are_under_way_than_the_setting_says(use: UseServer) -> None:
    under_way, most, lock = [0], [0], threading.Lock()

    def both_are_here() -> None:
        under_way[0] -= 2

    pair = threading.Barrier(2, both_are_here)  # counted off before either is answered: an answer lets the next one in

    def answer(asked: Asked) -> Said:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        pair.wait(30)
        return Said(200, b"bytes", {"etag": '"e"'})

    with scripted(answer) as (server, _):
        use(server, SEGSVC_S3__IN_FLIGHT="2")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: PLUGIN.open(ImageRef(URI, "e", 5)), range(16)))
    assert most == [2]


def test_threads_that_read_the_settings_at_once_have_one_client(use: UseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(lambda asked: Said(200, b"bytes", {"etag": '"e"'})) as (server, _):
        use(server)
        monkeypatch.setattr("segsvc.stores.s3.buckets.settings", Settings)  # as each of them would read its own
        with ThreadPoolExecutor(8) as pool:
            clients = list(pool.map(lambda _: BUCKETS.of("bucket"), range(32)))
        assert len(set(map(id, clients))) == 1
        monkeypatch.setenv("SEGSVC_S3__IN_FLIGHT", "3")
        assert BUCKETS.of("bucket") is not clients[0]
