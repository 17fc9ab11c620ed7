"""Who follows a queue is killed while messages come, doubled and shuffled: each object becomes the work of one run, once.

A few kills in `make test`; `make chaos` sets CHAOS_KILLS. The table is CHAOS_TRIGGER_TABLE (build/chaos-trigger.json).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import cv2
import pytest
from sqlalchemy import func, select

from segsvc.ledger import event_batches, events
from segsvc.ledger.opening import Ledger, open_ledger
from segsvc.ledger.tables import JOBS, S3_OBJECTS, S3_WORK
from tests.chaos.family import Family
from tests.chaos.outs import FileOut, column
from tests.chaos.watched_queue import Watched, watched
from tests.conftest import Program
from tests.s3_servers import S3Server, moto
from tests.scenes import scene

KILLS = int(os.environ.get("CHAOS_KILLS", "0")) // 2 or 4
TABLE = Path(os.environ.get("CHAOS_TRIGGER_TABLE", "build/chaos-trigger.json"))
MOST_S, A_WAVE, KEYS = 180.0, 12, 20 + 6 * KILLS
RULES = """
rules:
  - name: street
    prefix: s3://open/street/
    model: bright
    out: {out}
    flag_at: 0.5
    gather: {{seconds: 1, images: 20}}
"""
pytestmark = pytest.mark.timeout(300 + 40 * KILLS)


@dataclass(slots=True)
class Bucket:
    """A bucket that images are put into and deleted from, and a queue that is told of it: late, not in order, and twice."""

    store: S3Server
    draw: random.Random
    sqs: Any
    queue: str
    told: int = 0
    _number: int = 0
    _late: list[str] = field(default_factory=list)
    _there: dict[str, str] = field(default_factory=dict)

    def change(self, count: int, *, all_told: bool = False) -> None:
        """Puts and deletes so many; tells of them and of earlier ones, save some that are told of later."""
        messages = [*self._late, *(self._changed() for _ in range(count))]
        messages += self.draw.sample(messages, len(messages) * 3 // 10)
        self.draw.shuffle(messages)
        kept = 0 if all_told else len(messages) // 5
        self._late, messages = messages[:kept], messages[kept:]
        for first in range(0, len(messages), 10):
            self.sqs.send_message_batch(QueueUrl=self.queue, Entries=[
                {"Id": str(place), "MessageBody": body} for place, body in enumerate(messages[first : first + 10])])
        self.told += len(messages)

    def _changed(self) -> str:
        client, self._number = self.store.client(), self._number + 1
        key = f"{'other' if self.draw.random() < 0.1 else 'street'}/{self.draw.randrange(KEYS)}.png"
        if key in self._there and self.draw.random() < 0.4:
            client.delete_object(Bucket="open", Key=key)
            del self._there[key]
            return self._event("ObjectRemoved:Delete", key)
        data = cv2.imencode(".png", scene(self._number))[1].tobytes()
        self._there[key] = client.put_object(Bucket="open", Key=key, Body=data)["ETag"].strip('"')
        return self._event("ObjectCreated:Put", key, size=len(data), eTag=self._there[key])

    def _event(self, name: str, key: str, **more: object) -> str:
        return json.dumps({"Records": [{"eventName": name, "eventTime": datetime.now(UTC).isoformat(), "s3": {
            "bucket": {"name": "open"}, "object": {"key": key, "sequencer": f"{self._number:016X}", **more}}}]})

    def street(self) -> dict[str, str]:
        """What is there that the rule names: ETags by URI."""
        return {f"s3://open/{key}": etag for key, etag in self._there.items() if key.startswith("street/")}

    def is_told(self) -> bool:
        """Whether no message is left."""
        numbers = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["All"])["Attributes"]
        return not any(int(numbers[f"ApproximateNumberOfMessages{which}"]) for which in ("", "NotVisible"))


@dataclass(slots=True)
class Followers:
    """`segsvc trigger` and `segsvc serve`, either of which follows the queue and has the ledger."""

    segsvc: Program
    environment: dict[str, str]
    queue: str
    family: Family = field(default_factory=Family)
    process: subprocess.Popen[bytes] | None = None

    def start(self, which: str) -> None:
        folder = self.segsvc.folder
        words = {"trigger": ("trigger", "--queue", self.queue, "--rules", folder / "rules.yaml"),
                 "server": ("serve", "--port", "0")}[which]
        environment = {**self.segsvc.environment, **self.environment, **self.family.environment}
        if which == "server":
            environment |= {"SEGSVC_SERVE__QUEUE": self.queue, "SEGSVC_SERVE__RULES": str(folder / "rules.yaml")}
        with (folder / "log").open("ab") as log:  # a pipe that nobody reads would stop it when it is full
            self.process = subprocess.Popen(
                [sys.executable, "-m", "segsvc", *map(str, words), "--ledger", str(folder / "ledger")], cwd=folder,
                env=environment, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None
        self.family.end()


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    with moto(tmp_path / "moto") as store:
        sqs = boto3.client("sqs", endpoint_url=store.url, aws_access_key_id=store.key[0],
                           aws_secret_access_key=store.key[1], region_name="us-east-1")
        yield Bucket(store, random.Random(KILLS), sqs, sqs.create_queue(QueueName="images")["QueueUrl"])


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """The ledger, to be looked into."""
    with open_ledger(str(tmp_path / "ledger")) as found:
        found.close()  # now it is there
    with open_ledger(str(tmp_path / "ledger")) as found:
        yield found


@contextmanager
def following(segsvc: Program, bucket: Bucket, way: Watched) -> Iterator[Followers]:
    (segsvc.folder / "rules.yaml").write_text(RULES.format(out=segsvc.folder / "out"))
    followers = Followers(segsvc, bucket.store.environment, way.url)
    try:
        yield followers
    finally:
        followers.kill()


def until(found: Callable[[], bool], what: str, *, moving: Callable[[], object] = lambda: None) -> None:
    """Waits until it is so, and for as long as `moving` changes."""
    before, give_up = moving(), time.monotonic() + MOST_S
    while not found():
        if (now := moving()) != before:
            before, give_up = now, time.monotonic() + MOST_S
        assert time.monotonic() < give_up, f"stuck: {what}"
        time.sleep(0.02)


def undone(ledger: Ledger, bodies: list[str]) -> list[str]:
    """The events in messages of which the ledger does not know, nor of a later one of the same object."""
    with ledger.read() as conn:
        known = {row.uri: row.sequencer for row in conn.execute(select(S3_OBJECTS.c.uri, S3_OBJECTS.c.sequencer))}
    told = [record["s3"]["object"] for body in bodies for record in json.loads(body)["Records"]]
    return [each["key"] for each in told if each["key"].startswith("street/")
            and known.get(f"s3://open/{each['key']}", "") < each["sequencer"].lower().zfill(64)]


def work(ledger: Ledger) -> tuple[int, int]:
    """How many images have ended, and how many wait for a run or in one."""
    ended = JOBS.c.done + JOBS.c.empty + JOBS.c.failed + JOBS.c.quarantined
    with ledger.read() as conn:
        done = int(conn.execute(select(func.sum(ended))).scalar() or 0)
        open_runs = int(conn.execute(select(func.count()).where(JOBS.c.state.in_(("queued", "running")))).scalar() or 0)
    return done, open_runs + event_batches.waiting(ledger) + len(event_batches.unqueued(ledger))


def wait_for(moment: str, way: Watched, ledger: Ledger, bucket: Bucket) -> None:
    """Until just after messages were taken, or deleted, or an image has ended; or for some seconds, starting included."""
    taken, deleted, done = way.taken, way.deleted, work(ledger)[0]
    match moment:
        case "taking":
            until(lambda: way.taken > taken, "messages")
            time.sleep(bucket.draw.uniform(0, 0.03))
        case "deleting":
            until(lambda: way.deleted > deleted, "messages that are deleted")
            time.sleep(bucket.draw.uniform(0, 0.03))
        case "working":  # a run that is lost again and again before any image ended is given up, and rightly so
            until(lambda: work(ledger)[0] > done or (work(ledger)[1] == 0 and bucket.is_told()), "images that end")
            time.sleep(bucket.draw.uniform(0, 1.0))
        case _:
            time.sleep(bucket.draw.uniform(0, 3.0))


def test_whoever_follows_a_queue_is_killed_and_each_object_is_the_work_of_one_run_once(
        segsvc: Program, bright: object, bucket: Bucket, ledger: Ledger) -> None:
    draw, killed, too_early = bucket.draw, Counter[str](), list[str]()
    with watched(bucket.queue, lambda bodies: too_early.extend(undone(ledger, bodies))) as way, following(
            segsvc, bucket, way) as followers:
        for number in range(KILLS):
            which = draw.choice(("trigger", "server"))
            moment = ("taking", "deleting", "working", "starting")[number % 4]
            bucket.change(A_WAVE)
            followers.start(which)
            wait_for(moment, way, ledger, bucket)
            followers.kill()
            killed[f"{which} {moment}"] += 1
        bucket.change(A_WAVE, all_told=True)
        followers.start(draw.choice(("trigger", "server")))
        until(lambda: bucket.is_told() and work(ledger)[1] == 0, "work", moving=lambda: work(ledger))
        followers.kill()
    with ledger.read() as conn:
        queued = {(row.uri, row.etag) for row in conn.execute(select(S3_WORK.c.uri, S3_WORK.c.etag))}
        runs = {row.run_id: (row.state, row.error) for row in conn.execute(select(JOBS))}
    batches = event_batches.since(ledger, 0)
    told = [line for batch in batches for line in manifest(segsvc.folder, batch.name)]
    wrong = {
        "deleted before they were stored": too_early,
        "unlike the bucket": sorted(set(events.there(ledger, "s3://open/").items()) ^ set(bucket.street().items())),
        "lost": sorted({*bucket.street().items()} - {*told}),
        "doubled": [each for each, count in Counter(told).items() if count > 1],
        "told otherwise": sorted(queued ^ {*told}), "kept aside": [each.stray.reason for each in events.strays(ledger)],
        "without a run of their own": sorted({each.run_id for each in batches} ^ {*runs}, key=str),
        "not done": [(run_id, *ended) for run_id, ended in runs.items() if ended[0] != "succeeded"],
        "other images in a run": [batch.name for batch in batches if worked_on(segsvc.folder, batch.name) != sorted(
            uri for uri, _ in manifest(segsvc.folder, batch.name))]}
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(json.dumps({
        "kills": killed.total(), "by_moment": killed, "messages": bucket.told, "taken": way.taken, "deleted": way.deleted,
        "runs": len(runs), "images": len(told), "wrong": wrong}, indent=2) + "\n")
    assert not any(wrong.values()), wrong


def manifest(folder: Path, name: str) -> list[tuple[str, str]]:
    """What a run was given: URIs and ETags."""
    lines = (folder / "out" / "manifests" / f"{name}.jsonl").read_text().splitlines()
    return [(line["uri"], line["etag"]) for line in map(json.loads, lines)]


def worked_on(folder: Path, name: str) -> list[str]:
    """The URIs of images that stand in a run's OUT, as often as they do."""
    out = FileOut(folder / "out" / name)
    return sorted(column(out, out.names(), "images", "image_uri"))
