"""What runs on a node: the outbox that the driver empties, and what a node looks at before it begins."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.actors import Order, Outbox, check_input, check_out
from segsvc.card import RunSpec
from segsvc.claims import Fatal, Finished, Next, Published, Started, Task, WorkerSpec
from segsvc.errors import RunError
from segsvc.types import ImageStatus, Runtime

WAIT_S = 20.0


def test_what_is_said_is_taken_once_and_in_order() -> None:
    outbox = Outbox("node a: ")
    task = Task(3)
    outbox.started(task, 30)
    outbox.finished(task, 30, ImageStatus.DONE)
    outbox.published(task)
    outbox.fatal("no room")
    assert outbox.take(WAIT_S) == (Started(3, 30), Finished(3, 30, ImageStatus.DONE), Published(3),
                                   Fatal("node a: no room"))
    assert outbox.take(0) == ()


def test_a_worker_that_asks_is_heard_at_once_and_gets_what_is_given() -> None:
    outbox = Outbox("")
    got: list[Task | None] = []
    worker = threading.Thread(target=lambda: got.append(outbox.next()))
    worker.start()
    assert outbox.take(WAIT_S) == (Next(),)
    outbox.give(Task(7))
    worker.join(WAIT_S)
    assert got == [Task(7)]


def test_an_image_that_is_tried_alone_begins_only_when_the_driver_has_surely_heard_it() -> None:
    outbox = Outbox("")
    began = threading.Event()

    def work() -> None:
        outbox.started(Task(1, alone=True), 5)
        began.set()

    worker = threading.Thread(target=work)
    worker.start()
    assert outbox.take(WAIT_S) == (Started(1, 5),)
    assert not began.is_set()  # the answer may still be lost on its way
    assert outbox.take(0) == ()
    assert began.wait(WAIT_S)
    worker.join()


def order_for(out: Path, *, source: str, on_a_cluster: bool = True) -> Order:
    """An order for the run in `out`, which is written there."""
    out.mkdir()
    spec = RunSpec(input=source, limit=None, shard_size=4, model="bright", model_digest="0" * 64, runtime=Runtime.TORCH_CPU)
    (out / "spec.json").write_bytes(spec.to_json().encode())
    worker = WorkerSpec(out_uri=out.as_uri(), model_folder="/nowhere", model_origin="bright", model_digest="0" * 64,
                        runtime=Runtime.TORCH_CPU, threads=1, lanes=2, decode_limit_bytes=1)
    return Order(worker, hashlib.sha256((out / "spec.json").read_bytes()).hexdigest(), on_a_cluster)


def test_a_node_that_does_not_see_out_or_sees_another_says_what_to_do(tmp_path: Path) -> None:
    order = order_for(tmp_path / "out", source=tmp_path.as_uri())
    check_out(order)
    with pytest.raises(RunError, match=r"found another run's folder there. Give an --out that all nodes see: s3://"):
        check_out(replace(order, spec_sha256="0" * 64))
    elsewhere = replace(order.spec, out_uri=(tmp_path / "elsewhere").as_uri())
    with pytest.raises(RunError, match=r"see OUT at file://.*/elsewhere, found nothing there. Give an --out"):
        check_out(replace(order, spec=elsewhere))


def test_a_node_that_does_not_see_input_says_so_instead_of_failing_each_image(tmp_path: Path) -> None:
    check_input(order_for(tmp_path / "seen", source=tmp_path.as_uri()))
    check_input(order_for(tmp_path / "bucket", source="s3://bucket/prefix"))
    gone = (tmp_path / "gone").as_uri()
    check_input(order_for(tmp_path / "here", source=gone, on_a_cluster=False))
    with pytest.raises(RunError, match=r"see INPUT at file://.*/gone, found nothing there"):
        check_input(order_for(tmp_path / "unseen", source=gone))
