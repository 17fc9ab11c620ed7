"""A listing is everything below a prefix, once, in the bucket's own order, whatever the keys are; and goes on anywhere."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qs, quote_plus, urlsplit
from xml.sax.saxutils import escape

import pytest

from segsvc.errors import StoreError
from segsvc.stores import Listed, Skip
from segsvc.stores.s3 import PLUGIN
from segsvc.stores.s3.listing import parsed_page
from segsvc.types import ImageRef
from tests.s3_servers import Asked, S3Server, Said, UseServer, s3_error, scripted, shared_moto

ODD = ["a b", "a+b", "a%b", "a%20b", "a//x", "a/./x", "a/../x", "../x", "./x", "ünï", "\x01ctl", "\x7f", "q?x", "h#x",
       "k" * 1024, "&<>'\"", "/lead", "//lead", "\U0001f600", "\ufffe", "~t", "x:y@z;,=!*()[]{}|\\^`$", "tab\tx", " lead",
       "trail ", "a=b&c=d", "é" * 512, "deep/" * 100 + "x"]
FOLDED = ["new\nline", "car\rriage", "a b", "a+b", "%41", "q?x", "h#x", "\x01", "ünï/日本"]


@pytest.fixture
def bucket(use: UseServer) -> Iterator[str]:
    """An empty bucket of the test's own on moto's server, which keeps any key as it is."""
    server = use(shared_moto())
    name = f"own-{next(_numbers)}"
    server.client().create_bucket(Bucket=name)
    yield name


_numbers = itertools.count()


def put(bucket: str, keys: Sequence[str]) -> None:
    folder = PLUGIN.folder(f"s3://{bucket}")
    for key in keys:
        folder.put(key, key.encode()[:20])


def keys_of(entries: Iterator[Listed]) -> list[str]:
    return [entry.cursor for entry in entries]


def test_any_key_is_listed_found_and_opened_as_it_is_and_can_be_gone_on_from(bucket: str) -> None:
    put(bucket, ODD)
    entries = list(PLUGIN.list(f"s3://{bucket}"))
    keys = [entry.cursor for entry in entries]
    assert keys == sorted(ODD, key=str.encode)
    assert keys == [each["Key"] for each in shared_moto().client().list_objects_v2(Bucket=bucket)["Contents"]]
    for number, entry in enumerate(entries):
        assert isinstance(entry.found, ImageRef)
        assert entry.found.uri == f"s3://{bucket}/{entry.cursor}"
        assert PLUGIN.find(entry.found.uri) == entry.found
        assert PLUGIN.open(entry.found).read_all() == entry.cursor.encode()[:20]
        assert keys_of(PLUGIN.list(f"s3://{bucket}", after=entry.cursor)) == keys[number + 1:]


def test_keys_with_line_breaks_come_through(below: str) -> None:
    prefix = below.removeprefix("s3://open/")
    put("open", [f"{prefix}/{key}" for key in FOLDED])
    entries = list(PLUGIN.list(below))
    assert sorted(entry.cursor for entry in entries) == sorted(f"{prefix}/{key}" for key in FOLDED)
    for entry in entries:
        assert isinstance(entry.found, ImageRef)
        assert PLUGIN.open(entry.found).size_bytes == entry.found.size_bytes == len(entry.cursor.encode()[:20])


def test_seaweeds_own_order_is_kept_from_wherever_it_is_gone_on(below: str, weed: S3Server) -> None:
    """It keeps folders: what is below `a/` comes before `a-b`, which sorted keys would put first."""
    prefix = below.removeprefix("s3://open/")
    put("open", [f"{prefix}/{key}" for key in ("a/b", "a-b", "a.png", "a0", "c/d/e", "c/d.png", "c.png", "z/y")])
    theirs = [each["Key"] for each in weed.client().list_objects_v2(Bucket="open", Prefix=prefix + "/")["Contents"]]
    ours = keys_of(PLUGIN.list(below))
    assert ours == theirs
    for number, key in enumerate(ours):
        assert keys_of(PLUGIN.list(below, after=key)) == ours[number + 1:]


def test_an_exact_key_is_the_one_object_and_a_folder_wins_over_a_beginning(bucket: str) -> None:
    put(bucket, ["a/one.png", "a/two.png", "a.png", "ab/x.png", "abc.png", "b.txt"])
    assert keys_of(PLUGIN.list(f"s3://{bucket}/a.png")) == ["a.png"]
    assert keys_of(PLUGIN.list(f"s3://{bucket}/a.png", after="a.png")) == []
    for uri in (f"s3://{bucket}/a", f"s3://{bucket}/a/"):
        assert keys_of(PLUGIN.list(uri)) == ["a/one.png", "a/two.png"]
    assert keys_of(PLUGIN.list(f"s3://{bucket}/ab")) == ["ab/x.png"]
    assert keys_of(PLUGIN.list(f"s3://{bucket}/abc")) == ["abc.png"]
    assert keys_of(PLUGIN.list(f"s3://{bucket}/a/t")) == ["a/two.png"]
    assert keys_of(PLUGIN.list(f"s3://{bucket}/none")) == []
    assert [entry.found for entry in PLUGIN.list(f"s3://{bucket}/b.txt")] == [Skip.ENDING]


def test_what_is_no_image_is_listed_with_the_reason(bucket: str) -> None:
    put(bucket, ["in/.hidden.png", "in/.git/x.png", "in/a.png", "in/b.txt", "in/c/", "in/c/d.json", "in/c/.e"])
    assert [(entry.cursor, entry.found if isinstance(entry.found, Skip) else "") for entry in
            PLUGIN.list(f"s3://{bucket}/in")] == [
        ("in/.git/x.png", Skip.HIDDEN), ("in/.hidden.png", Skip.HIDDEN), ("in/a.png", ""), ("in/b.txt", Skip.ENDING),
        ("in/c/", Skip.SPECIAL), ("in/c/.e", Skip.HIDDEN), ("in/c/d.json", Skip.ENDING)]


def test_what_is_asked_for_by_a_dot_is_not_hidden(bucket: str) -> None:
    put(bucket, ["in/.cache/a.png", "in/.cache/.b.png", "in.png"])
    assert [isinstance(entry.found, ImageRef) for entry in PLUGIN.list(f"s3://{bucket}/in/.cache")] == [False, True]
    assert [isinstance(entry.found, ImageRef) for entry in PLUGIN.list(f"s3://{bucket}/in/.c")] == [False, True]
    assert [isinstance(entry.found, ImageRef) for entry in PLUGIN.list(f"s3://{bucket}/in.p")] == [True]


def test_the_runs_own_output_is_passed_over_without_a_count(bucket: str) -> None:
    put(bucket, ["in/a.png", "in/out/images/part-0.parquet", "in/out/x.png", "in/outer.png", "other.png"])
    for own in ("in/out", "in/out/"):
        assert keys_of(PLUGIN.list(f"s3://{bucket}/in", exclude=f"s3://{bucket}/{own}")) == ["in/a.png", "in/outer.png"]
    for elsewhere in ("file:///in/out", "s3://another/in/out"):
        assert len(keys_of(PLUGIN.list(f"s3://{bucket}/in", exclude=elsewhere))) == 4


# -- many pages, by a server that keeps its keys in a list ----------------------------------------------------------------


class Pages:
    """ListObjectsV2 over a list of keys, `most` a page; counts how many requests are under way at once."""

    def __init__(self, keys: Sequence[str], *, most: int) -> None:
        self.keys = sorted(keys)
        self.most = most
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.together: threading.Barrier | None = None
        self.fails_at: str | None = None

    def __call__(self, asked: Asked) -> Said:
        query = {name: values[0] for name, values in parse_qs(urlsplit(asked.target).query).items()}
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        if self.together is not None and "delimiter" not in query and query["max-keys"] != "1":
            self.together.wait(30)
        try:
            return self.page(query)
        finally:
            with self.lock:
                self.at_once -= 1

    def page(self, query: dict[str, str]) -> Said:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        after = query.get("continuation-token") or query.get("start-after", "")
        if self.fails_at is not None and prefix == self.fails_at:
            return s3_error("AccessDenied", 403)
        units: list[tuple[str, bool]] = []
        for key in self.keys:
            if not key.startswith(prefix) or key <= after:
                continue
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            unit = (key[: end + 1], True) if end >= 0 else (key, False)
            if unit not in units[-1:] and not (unit[1] and unit[0] <= after):
                units.append(unit)
        shown = units[: min(self.most, int(query["max-keys"]))]
        more = len(shown) < len(units)
        body = "".join(
            f"<CommonPrefixes><Prefix>{escape(quote_plus(name))}</Prefix></CommonPrefixes>" if folder else
            f"<Contents><Key>{escape(quote_plus(name))}</Key><ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>"
            for name, folder in shown)
        token = f"<NextContinuationToken>{escape(shown[-1][0])}</NextContinuationToken>" if more else ""
        return Said(200, (f"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>"
                          f"{token}{body}</ListBucketResult>").encode())


KEYS = [f"in/{folder}/{number:03d}.png" for folder in ("a", "b", "c c", "d+d") for number in range(25)] + [
    "in/aa.png", "in/zz.png", "in2/x.png"]


@pytest.mark.parametrize("most", [1000, 7, 3])
def test_folders_listed_by_threads_come_in_order_and_whole_page_by_page(use: UseServer, most: int) -> None:
    """With 3 to a page the root has more than one, and is listed as it comes."""
    pages = Pages(KEYS, most=most)
    with scripted(pages) as (server, _):
        use(server)
        wanted = sorted(key for key in KEYS if key.startswith("in/"))
        assert keys_of(PLUGIN.list("s3://bucket/in")) == wanted
        for place in (0, 24, 25, 26, 60, 100, 101):
            assert keys_of(PLUGIN.list("s3://bucket/in", after=wanted[place])) == wanted[place + 1:]


def test_folders_are_listed_at_the_same_time(use: UseServer) -> None:
    pages = Pages([key for key in KEYS if key.count("/") == 2], most=1000)
    pages.together = threading.Barrier(4)  # breaks where fewer than the four folders are asked for at once
    with scripted(pages) as (server, _):
        use(server)
        assert len(keys_of(PLUGIN.list("s3://bucket/in"))) == 100


def test_a_listing_that_is_left_lets_its_threads_end(use: UseServer) -> None:
    pages = Pages([f"in/{folder}/{number:04d}" for folder in range(10) for number in range(200)], most=10)
    with scripted(pages) as (server, script):
        use(server)
        entries = PLUGIN.list("s3://bucket/in")
        next(entries)
        entries.close()
        for thread in threading.enumerate():
            if thread.name == "s3-list":
                thread.join(30)
                assert not thread.is_alive()
        assert len(script.asked) < 120  # 8 threads, at most 8 pages ahead each; all would be 200


def test_an_error_in_a_thread_ends_the_listing_where_it_happened(use: UseServer) -> None:
    pages = Pages(KEYS, most=1000)
    pages.fails_at = "in/b/"
    with scripted(pages) as (server, _):
        use(server)
        came = []
        with pytest.raises(StoreError, match="s3:ListBucket"):
            for entry in PLUGIN.list("s3://bucket/in"):
                came.append(entry.cursor)
        assert came == sorted(key for key in KEYS if key.startswith("in/a"))


@pytest.mark.parametrize("body", [
    b"", b"<html>hello</html>", b"<!DOCTYPE html><p>x",
    b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"])
def test_what_is_no_listing_is_said_so_at_once(use: UseServer, body: bytes) -> None:
    with scripted(lambda asked: Said(200, body)) as (server, script):
        use(server)
        with pytest.raises(StoreError, match="expected a listing from an S3 store at http://127"):
            next(PLUGIN.list("s3://bucket/in"))
        assert len(script.asked) == 1


@pytest.mark.parametrize("kept", [12, 60, 200, -1])
def test_a_page_that_broke_off_is_asked_for_again(use: UseServer, kept: int) -> None:
    pages = Pages(["in/a", "in/b"], most=1000)
    broken: list[Asked] = []

    def answer(asked: Asked) -> Said:
        said = pages(asked)
        if broken:
            return said
        broken.append(asked)
        body = b'<?xml version="1.0"?>' + said.body[said.body.index(b"<ListBucketResult"):]
        return Said(said.status, body[:kept], said.headers)

    with scripted(answer) as (server, _):
        use(server)
        assert [entry.cursor for entry in PLUGIN.list("s3://bucket/in/")] == ["in/a", "in/b"]
    assert broken


def test_a_token_that_leads_nowhere_is_no_endless_listing(use: UseServer) -> None:
    body = (b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken><Contents>"
            b"<Key>in/x</Key><ETag>e</ETag><Size>1</Size></Contents></ListBucketResult>")
    with scripted(lambda asked: Said(200, body)) as (server, _):
        use(server)
        with pytest.raises(StoreError, match="expected a listing"):
            list(PLUGIN.list("s3://bucket"))


def test_a_store_that_quotes_no_keys_is_understood_too() -> None:
    page = parsed_page(b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Contents><Key>a+b%20c</Key>'
                       b'<ETag>"e"</ETag><Size>7</Size></Contents></ListBucketResult>')
    assert page is not None
    assert page.entries == [("a+b%20c", "e", 7)]
