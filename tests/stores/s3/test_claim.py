"""One run works on an OUT in a bucket at a time; another takes over once the first is done or gone."""

from __future__ import annotations

import email.utils
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event

import pytest

from segsvc.errors import StoreError
from segsvc.stores.s3 import PLUGIN
from segsvc.stores.s3.claim import CLAIM, Claim
from segsvc.stores.s3.folder import S3Folder
from tests.s3_servers import Asked, Said, UseServer, s3_error, scripted
from tests.stores.s3.test_folder import Bucket, Once


def holder(folder: S3Folder) -> dict[str, object]:
    found = json.loads(folder.read(CLAIM) or b"{}")
    assert isinstance(found, dict)
    return found


def put_holder(folder: S3Folder, **other: object) -> None:
    """Writes a claim as another holder would, of a process of this machine that ended long ago."""
    mine = PLUGIN.folder(folder.uri + "-mine")
    assert mine.claim()
    fields = {**holder(mine), "holder": "another", "pid": 2**22 + 1, "started": 1, **other}
    mine.release()
    folder.put(CLAIM, json.dumps(fields).encode())


def test_a_claim_holds_until_it_is_given_back(below: str) -> None:
    first, second = PLUGIN.folder(below), PLUGIN.folder(below)
    assert first.claim()
    assert first.claim()
    assert not second.claim()
    second.release()
    assert not second.claim()
    first.release()
    assert first.read(CLAIM) is None
    assert second.claim()
    assert not first.claim()
    second.release()


def test_its_holder_asks_again_without_a_request(use: UseServer) -> None:
    with scripted(Bucket()) as (server, script):
        use(server)
        folder = PLUGIN.folder("s3://bucket/out")
        assert folder.claim()
        asked = len(script.asked)
        assert all(folder.claim() for _ in range(100))
        assert len(script.asked) == asked
        folder.release()


def test_of_many_one_gets_it(below: str) -> None:
    folders = [PLUGIN.folder(below) for _ in range(6)]
    met = threading.Barrier(6)
    won: list[S3Folder] = []

    def work(folder: S3Folder) -> None:
        met.wait(30)
        if folder.claim():
            won.append(folder)

    threads = [threading.Thread(target=work, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(won) == 1
    won[0].release()


def hold(uri: str, held: Event, go_on: Event) -> None:
    folder = PLUGIN.folder(uri)
    if folder.claim():
        held.set()
        go_on.wait(60)


def test_a_process_of_this_machine_that_was_killed_holds_nothing_any_more(below: str) -> None:
    context = multiprocessing.get_context("spawn")
    held, go_on = context.Event(), context.Event()
    other = context.Process(target=hold, args=(below, held, go_on), daemon=True)
    other.start()
    try:
        assert held.wait(60)
        folder = PLUGIN.folder(below)
        assert not folder.claim()
    finally:
        other.kill()
        other.join()
    assert folder.claim()
    folder.release()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_holds_nothing_of_its_parents_and_asks_by_connections_of_its_own(below: str) -> None:
    folder = PLUGIN.folder(below)
    assert folder.claim()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            folder.release()
            code = 0 if not folder.claim() and folder.read(CLAIM) is not None else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert folder.claim()
    assert folder.read(CLAIM) is not None
    folder.release()


@pytest.mark.parametrize(("fields", "gone"), [
    ({}, True), ({"pid": os.getpid()}, True), ({"host": "elsewhere"}, False), ({"boot": "another"}, False),
    ({"pid_space": 1}, False), ({"pid": "no number"}, False)])
def test_a_holder_is_gone_where_its_very_process_is_and_only_on_its_own_machine(below: str, fields: dict[str, object],
                                                                                gone: bool) -> None:
    """A process of the same number that started at another time is another one."""
    folder = PLUGIN.folder(below)
    put_holder(folder, **fields)
    assert folder.claim() is gone
    folder.release()


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]"])
def test_a_claim_that_cannot_be_read_holds_until_it_is_stale(below: str, body: bytes) -> None:
    folder = PLUGIN.folder(below)
    folder.put(CLAIM, body)
    assert not folder.claim()


@pytest.mark.parametrize(("age_s", "taken"), [(29, False), (31, True)])
def test_a_claim_that_is_not_renewed_is_taken_over_by_the_servers_clock(use: UseServer, age_s: int, taken: bool) -> None:
    """The server's clock is years off: only what it says itself counts."""
    now = 1_000_000_000
    bucket = Bucket()

    def answer(asked: Asked) -> Said:
        said = bucket(asked)
        return Said(said.status, said.body, {**said.headers, "date": email.utils.formatdate(now, usegmt=True),
                                             "last-modified": email.utils.formatdate(now - age_s, usegmt=True)})

    with scripted(answer) as (server, _):
        use(server)
        folder = PLUGIN.folder("s3://bucket/out")
        folder.put(CLAIM, b'{"holder": "another", "host": "elsewhere"}')
        assert folder.claim() is taken
        folder.release()


def waited_for(what: Callable[[], bool]) -> bool:
    """Whether it comes true within a minute; looks often."""
    until = time.monotonic() + 60
    while not (there := what()) and time.monotonic() < until:
        time.sleep(0.005)
    return there


def test_a_claim_is_renewed_as_another_version_each_time(below: str) -> None:
    folder = PLUGIN.folder(below)
    claim = Claim(folder, renew_s=0.01)
    assert claim.take()
    first = folder.tag(CLAIM)
    assert waited_for(lambda: int(str(holder(folder).get("renewals", 0))) >= 3)
    assert folder.tag(CLAIM) != first
    claim.give_back()
    assert folder.read(CLAIM) is None


def test_a_claim_that_another_took_is_lost(below: str) -> None:
    folder = PLUGIN.folder(below)
    claim = Claim(folder, renew_s=0.01)
    assert claim.take()
    put_holder(folder, host="elsewhere")
    assert waited_for(lambda: not claim.take())
    claim.give_back()
    assert holder(folder)["holder"] == "another"


def test_a_claim_that_someone_removed_is_made_again(below: str) -> None:
    folder = PLUGIN.folder(below)
    claim = Claim(folder, renew_s=0.01)
    assert claim.take()
    mine = holder(folder)["holder"]
    folder.delete(CLAIM)
    assert waited_for(lambda: holder(folder).get("holder") == mine)
    assert claim.take()
    claim.give_back()


def test_a_store_that_fails_for_a_while_does_not_end_the_claim(use: UseServer) -> None:
    bucket = Bucket()
    with scripted(bucket) as (server, script):
        use(server, SEGSVC_S3__ATTEMPTS="1")
        folder = PLUGIN.folder("s3://bucket/out")
        claim = Claim(folder, renew_s=0.01)
        assert claim.take()
        bucket.before = lambda asked: Said(500)
        asked = len(script.asked)
        assert waited_for(lambda: len(script.asked) > asked + 6)
        assert claim.take()
        with pytest.raises(StoreError):
            folder.read(CLAIM)
        bucket.before = None
        before = holder(folder)["renewals"]
        assert waited_for(lambda: holder(folder)["renewals"] != before)
        bucket.before = lambda asked: Said(500)
        claim.give_back()  # says nothing more than a line in the log


def test_a_busy_store_is_asked_for_a_new_claim_as_often_as_for_anything_else(use: UseServer) -> None:
    with scripted(Bucket(before=Once(s3_error("SlowDown", 503), times=4))) as (server, _):
        use(server)
        folder = PLUGIN.folder("s3://bucket/out")
        assert folder.claim()
        folder.release()
