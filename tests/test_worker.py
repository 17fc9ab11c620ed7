"""The pull loop by itself: what is done ahead, what waits for what, and what ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import pytest

from segsvc.card import ModelCard, RunSpec
from segsvc.claims import Task, WorkerSpec
from segsvc.errors import StoreError
from segsvc.plan import Shard
from segsvc.results import RunFolder
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.types import ImageRef, ImageStatus, Runtime, Unit
from segsvc.worker import Worker
from tests.listings import bucket_in_memory
from tests.scenes import scene

WAIT_S = 30.0


@dataclass
class Desk:
    """Gives tasks in order and keeps what it hears."""

    tasks: list[Task]
    heard: list[tuple[Any, ...]] = field(default_factory=list)
    asked_again: threading.Event = field(default_factory=threading.Event)
    _asked: int = 0

    def next(self) -> Task | None:
        self._asked += 1
        if self._asked > 1:
            self.asked_again.set()
        return self.tasks.pop(0) if self.tasks else None

    def started(self, task: Task, ordinal: int) -> None:
        self.heard.append(("started", task.shard, ordinal))

    def finished(self, task: Task, ordinal: int, status: ImageStatus) -> None:
        self.heard.append(("finished", task.shard, ordinal, status))

    def published(self, task: Task) -> None:
        self.heard.append(("published", task.shard))

    def fatal(self, message: str) -> None:
        self.heard.append(("fatal", message))


@dataclass
class Bench:
    """A worker on an OUT whose plan is made of images in a bucket in memory."""

    bucket: Any
    folder: RunFolder
    worker: Worker

    def plan(self, *sizes: int) -> None:
        """Shards of so many images."""
        ordinal = 0
        for number, size in enumerate(sizes):
            units = []
            for _ in range(size):
                uri = f"bucket://b/{ordinal:03d}.png"
                data = cv2.imencode(".png", scene(ordinal, width_px=64, height_px=48, objects=2))[1].tobytes()
                units.append(Unit(ordinal, ImageRef(uri, self.bucket.put(uri, data), len(data))))
                ordinal += 1
            self.folder.publish_plan(Shard(number, tuple(units), "", is_last=number == len(sizes) - 1))

    def before_open(self, hook: Callable[[ImageRef], None]) -> None:
        open_it = self.bucket.open

        def hooked(ref: ImageRef) -> Any:
            hook(ref)
            return open_it(ref)

        self.bucket.open = hooked


@pytest.fixture
def bench(tmp_path: Path, bright: ModelCard, in_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch
          ) -> Iterator[Bench]:
    with bucket_in_memory(monkeypatch) as bucket:
        folder = RunFolder(store_of(str(tmp_path)).folder(str(tmp_path)))
        folder.begin(RunSpec(input="bucket://b", shard_size=4, model="bright", model_digest=bright.digest,
                             runtime=Runtime.TORCH_CPU))
        spec = WorkerSpec(out_uri=folder.uri, model_folder=str(settings().models_dir / "bright"), model_origin="bright",
                          model_digest=bright.digest, runtime=Runtime.TORCH_CPU, threads=1, lanes=2,
                          decode_limit_bytes=1 << 30)
        yield Bench(bucket, folder, Worker(spec))


def test_images_of_a_store_that_takes_time_are_opened_many_at_once(bench: Bench) -> None:
    bench.plan(10)
    together = threading.Barrier(8)
    bench.before_open(lambda ref: together.wait(WAIT_S) and None if int(ref.uri[-7:-4]) < 8 else None)
    desk = Desk([Task(0)])
    bench.worker.pull(desk)
    assert bench.folder.part("images", 0)["status"].to_pylist() == ["done"] * 10
    assert [each for each in desk.heard if each[0] in ("published", "fatal")] == [("published", 0)]


def test_the_next_shard_is_asked_for_while_this_one_is_still_in_work(bench: Bench) -> None:
    bench.plan(4, 4)
    desk = Desk([Task(0), Task(1)])
    bench.before_open(lambda ref: None if int(ref.uri[-7:-4]) != 3 or desk.asked_again.wait(WAIT_S)
                      else pytest.fail("the last image of the first shard was waited for"))
    bench.worker.pull(desk)
    assert sorted(each for each in desk.heard if each[0] == "published") == [("published", 0), ("published", 1)]


def test_an_image_that_is_to_be_alone_begins_when_nothing_else_is_in_work(bench: Bench) -> None:
    bench.plan(5, 3)
    desk = Desk([Task(0), Task(1, alone=True, suspects=frozenset({6}))])
    bench.worker.pull(desk)
    begun = [each[2] for each in desk.heard if each[0] == "started" and each[1] == 1]
    assert begun == [6, 5, 7]  # suspects first
    first = desk.heard.index(("started", 1, 6))
    assert sum(each[0] == "finished" for each in desk.heard[:first]) == 5
    for place, each in enumerate(desk.heard[:-1]):
        if each[0] == "started" and each[1] == 1:
            after = next(later for later in desk.heard[place + 1:] if later[0] != "published")
            assert after[:3] == ("finished", 1, each[2])


def test_a_store_that_fails_as_a_whole_ends_the_run_and_no_image_fails_for_it(bench: Bench) -> None:
    bench.plan(4)

    def expired(ref: ImageRef) -> None:
        raise StoreError("expected credentials in force, got expired ones")

    bench.before_open(expired)
    desk = Desk([Task(0)])
    bench.worker.pull(desk)
    assert [each for each in desk.heard if each[0] == "fatal"] == [
        ("fatal", "expected credentials in force, got expired ones")]
    assert bench.folder.numbers("images") == []


def test_images_that_are_quarantined_are_rows_and_are_not_begun(bench: Bench) -> None:
    bench.plan(3)
    desk = Desk([Task(0, alone=True, quarantined={1: "it killed"})])
    bench.worker.pull(desk)
    assert [each[2] for each in desk.heard if each[0] == "started"] == [0, 2]
    assert bench.folder.part("images", 0)["status"].to_pylist() == ["done", "quarantined", "done"]
