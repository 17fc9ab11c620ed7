"""What gathered becomes one run, whatever ends between the steps to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.rules import Rule, Rules
from jobs.triggers import Gatherer, heard, manifest
from segsvc.ledger import event_batches, events, jobs
from segsvc.ledger.event_records import BatchImage
from segsvc.ledger.opening import Ledger, open_ledger


@pytest.fixture
def ledger(tmp_path: Path, in_process: Callable[[], None]) -> Iterator[Ledger]:
    with open_ledger(str(tmp_path / "ledger")) as found:
        yield found


def rules(out: Path, model: str = "bright") -> Rules:
    return Rules((Rule(name="street", prefix="s3://photos/street/", model=model, out=str(out), flag_at=0.5,
                       gather={"seconds": 0, "images": 2}),))


def put(key: str, etag: str = "e1") -> str:
    return json.dumps({"Records": [{
        "eventName": "ObjectCreated:Put", "eventTime": "2026-11-02T09:30:12.250Z",
        "s3": {"bucket": {"name": "photos"}, "object": {"key": key, "size": 5, "eTag": etag}}}]})


def take(ledger: Ledger, rules: Rules, *bodies: str) -> None:
    heard(bodies, rules).run(ledger, print)


def test_messages_become_runs_with_a_manifest_each(ledger: Ledger, tmp_path: Path) -> None:
    given = rules(tmp_path / "out")
    take(ledger, given, *(put(f"street/{place}.png") for place in range(3)), put("other/1.png"), "no JSON")
    done = Gatherer(ledger).step()
    assert [batch.images for batch in done] == [2, 1]
    found = {job.out: job for job in jobs.page(ledger).jobs}
    assert len(found) == 2
    for batch in done:
        job = found[(tmp_path / "out" / batch.name).as_uri()]
        assert (job.state.value, job.model, job.asked_by) == ("queued", "bright", "rule street")
        lines = (tmp_path / "out" / "manifests" / f"{batch.name}.jsonl").read_text().splitlines()
        assert all(json.loads(line).keys() == {"uri", "etag", "size"} for line in lines)
        assert len(lines) == batch.images
    assert Gatherer(ledger).step() == []
    assert len(events.strays(ledger)) == 1


def test_a_manifest_is_the_same_bytes_each_time_and_sorted() -> None:
    images = [BatchImage("s3://photos/b ü.png", "e2", 7), BatchImage("s3://photos/a.png", "e1", 5)]
    assert manifest(images).decode().splitlines()[0] == '{"uri": "s3://photos/b ü.png", "etag": "e2", "size": 7}'


def test_who_ends_after_the_manifest_was_written_leaves_one_run_and_one_manifest(ledger: Ledger, tmp_path: Path) -> None:
    take(ledger, rules(tmp_path / "out"), put("street/1.png"))
    event_batches.cut_due(ledger)
    [batch] = event_batches.unqueued(ledger)
    written = tmp_path / "out" / "manifests" / f"{batch.name}.jsonl"
    written.parent.mkdir(parents=True)
    written.write_bytes(manifest(event_batches.images_of(ledger, batch)))
    before = written.stat()
    assert [each.number for each in Gatherer(ledger).step()] == [batch.number]
    assert (written.stat().st_mtime_ns, written.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert len(jobs.page(ledger).jobs) == 1


def test_a_run_that_cannot_be_queued_waits_and_says_why(ledger: Ledger, tmp_path: Path) -> None:
    blocked = tmp_path / "out"
    take(ledger, rules(blocked), put("street/1.png"))
    blocked.write_text("a file where the folder was to be")
    gatherer = Gatherer(ledger)
    assert gatherer.step() == []
    [batch] = event_batches.unqueued(ledger)
    assert batch.error
    blocked.unlink()
    assert gatherer.step() == []  # not at once again
    assert len(Gatherer(ledger).step()) == 1
    assert event_batches.since(ledger, 0)[0].error is None
