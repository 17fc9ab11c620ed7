"""Of each object the latest is known whatever order events come in, and a version is put into one run, once."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest

from segsvc.ledger import event_batches, events, jobs
from segsvc.ledger.event_records import Heard, Stray, TakingRule
from segsvc.ledger.job_records import NewJob
from segsvc.ledger.opening import Ledger

RULE = TakingRule('{"name": "r"}', "d" * 64, 3600.0, 1000)
AT_ONCE = TakingRule('{"name": "at once"}', "d" * 64, 0.0, 3)
PREFIX = "s3://photos/"


def put(key: str, etag: str, at: int, *, sequencer: str = "", version: str = "") -> Heard:
    return Heard(PREFIX + key, etag, 5, False, at, 0, sequencer.zfill(64) if sequencer else "", version)


def gone(key: str, at: int, *, etag: str = "", sequencer: str = "", version: str = "", one: bool = False) -> Heard:
    return Heard(PREFIX + key, etag, 0, True, at, 0, sequencer.zfill(64) if sequencer else "", version, one)


def hear(ledger: Ledger, *heard: Heard, rule: TakingRule = RULE, listing: int | None = None) -> tuple[int, int, int, int]:
    taken = events.take_in(ledger, [rule], heard, listing=listing)
    return taken.queued, taken.known, taken.gone, taken.stale


def new_job(name: str) -> NewJob:
    return NewJob(run_id=name, asked="{}", out=f"/out/{name}", input="/in", model="m", model_digest="d", asked_by="rule r")


STORIES: list[Sequence[Heard]] = [
    [put("a", "1", 10), put("a", "2", 20)],
    [put("a", "1", 10), gone("a", 20)],
    [put("a", "1", 10), gone("a", 20), put("a", "1", 30)],
    [put("a", "1", 30, sequencer="9"), put("a", "2", 20, sequencer="a"), gone("a", 10, sequencer="10")],
    [put("a", "1", 10, sequencer="ff"), gone("a", 10, sequencer="100"), put("a", "2", 10, sequencer="101")],
    [put("a", "1", 10), gone("a", 11, etag="1"), put("a", "2", 20), gone("a", 21, etag="2")]]


@pytest.mark.parametrize("story", STORIES)
def test_every_order_and_doubling_of_events_ends_alike(ledger: Ledger, story: Sequence[Heard]) -> None:
    expected = {} if story[-1].gone else {"s3://photos/a": story[-1].etag}
    for number, order in enumerate(itertools.permutations(story)):
        own = [Heard(each.uri + str(number), *(getattr(each, name) for name in list(each.__slots__)[1:]))
               for each in (*order, order[0], *order)]
        hear(ledger, *own)
        assert events.there(ledger, f"s3://photos/a{number}") == {f"{uri}{number}": etag for uri, etag in expected.items()}
    assert event_batches.waiting(ledger) == (number + 1 if expected else 0)


def test_an_old_version_that_is_deleted_leaves_the_newest(ledger: Ledger) -> None:
    hear(ledger, put("a", "1", 10, version="v1"), put("a", "2", 20, version="v2"))
    assert hear(ledger, gone("a", 30, version="v1", one=True)) == (0, 0, 0, 1)
    assert events.there(ledger, PREFIX) == {"s3://photos/a": "2"}
    hear(ledger, gone("a", 40, version="v2", one=True))
    assert events.there(ledger, PREFIX) == {}


def test_a_version_is_queued_once_for_each_model(ledger: Ledger) -> None:
    assert hear(ledger, put("a", "1", 10), put("a", "1", 10)) == (1, 1, 0, 0)
    assert hear(ledger, put("a", "1", 30)) == (0, 1, 0, 0)
    assert hear(ledger, put("a", "1", 40), rule=TakingRule(RULE.rule, "e" * 64, 3600.0, 1000)) == (1, 0, 0, 0)


def test_what_was_put_into_a_run_is_not_again_when_it_comes_back(ledger: Ledger) -> None:
    hear(ledger, put("a", "1", 10), rule=AT_ONCE)
    assert event_batches.cut_due(ledger) == 1
    assert hear(ledger, gone("a", 20), put("a", "1", 30), rule=AT_ONCE) == (0, 1, 1, 0)
    assert event_batches.cut_due(ledger) == 0


def test_objects_gather_by_number_and_by_time(ledger: Ledger) -> None:
    three = TakingRule('{"name": "three"}', "d" * 64, 3600.0, 3)
    hear(ledger, *(put(f"{place}", "1", 10) for place in range(7)), rule=three)
    assert event_batches.cut_due(ledger) == 2
    assert [batch.images for batch in event_batches.unqueued(ledger)] == [3, 3]
    assert event_batches.waiting(ledger) == 1
    events.take_in(ledger, [three], [], at_once=True)
    assert event_batches.cut_due(ledger) == 1
    images = [image.uri for batch in event_batches.unqueued(ledger) for image in event_batches.images_of(ledger, batch)]
    assert sorted(images) == [f"s3://photos/{place}" for place in range(7)]
    assert len({batch.name for batch in event_batches.unqueued(ledger)}) == 3


def test_a_batch_has_one_run_however_often_it_is_tried(ledger: Ledger) -> None:
    hear(ledger, put("a", "1", 10), rule=AT_ONCE)
    event_batches.cut_due(ledger)
    [batch] = event_batches.unqueued(ledger)
    event_batches.note_error(ledger, batch, "no room")
    assert event_batches.unqueued(ledger)[0].error == "no room"
    assert event_batches.queue(ledger, batch, new_job("1"))
    assert not event_batches.queue(ledger, batch, new_job("2"))
    assert event_batches.unqueued(ledger) == []
    assert [job.run_id for job in jobs.page(ledger).jobs] == ["1"]


def test_a_listing_brings_what_is_known_to_what_is_there(ledger: Ledger) -> None:
    hear(ledger, put("a", "1", 10), put("b", "1", 10), put("c", "1", 10), gone("d", 10))
    began = events.begin_listing() + 1
    listed = [put("a", "1", began * 1000), put("b", "2", began * 1000), put("d", "1", began * 1000),
              put("e", "1", began * 1000)]
    assert hear(ledger, *listed, listing=began) == (3, 1, 0, 0)
    assert events.end_listing(ledger, PREFIX, began) == 1
    assert events.there(ledger, PREFIX) == {f"s3://photos/{key}": etag for key, etag in zip("abde", "1211", strict=True)}
    assert event_batches.waiting(ledger) == 4


def test_what_is_heard_while_a_listing_goes_on_stays(ledger: Ledger) -> None:
    began = events.begin_listing()
    hear(ledger, put("a", "2", 10), put("b", "1", 10), gone("c", 10))
    assert hear(ledger, put("a", "1", began * 1000), put("c", "1", began * 1000), listing=began) == (0, 0, 0, 2)
    assert events.end_listing(ledger, PREFIX, began) == 0
    assert events.there(ledger, PREFIX) == {"s3://photos/a": "2", "s3://photos/b": "1"}


def test_a_deletion_with_the_time_of_its_put_is_heard_after_a_listing(ledger: Ledger) -> None:
    began = events.begin_listing()
    hear(ledger, put("a", "1", began * 1000), listing=began)
    hear(ledger, gone("a", 11, etag="1"))
    assert events.there(ledger, PREFIX) == {}


def test_a_message_that_nobody_can_read_is_kept_once_and_counted(ledger: Ledger) -> None:
    stray = Stray("expected JSON", "no", "ab" * 32, 2)
    for _ in range(3):
        assert events.take_in(ledger, [RULE], [], strays=[stray]).kept_aside == 1
    [kept] = events.strays(ledger)
    assert (kept.stray, kept.times) == (stray, 3)


@pytest.mark.parametrize("seed", range(2))
def test_doubled_shuffled_and_lost_events_and_a_listing_come_to_what_is_there(ledger: Ledger, seed: int) -> None:
    chance = random.Random(seed)
    there: dict[str, str] = {}
    told: list[Heard] = []
    for at in range(1, 400):
        key = f"{chance.randrange(60)}.png"
        if key in there and chance.random() < 0.4:
            del there[key]
            told.append(gone(key, at, sequencer=f"{at:x}"))
        else:
            there[key] = f"e{at}"
            told.append(put(key, there[key], at, sequencer=f"{at:x}"))
    told = [each for each in told if chance.random() >= 0.05]
    told += chance.sample(told, len(told) * 3 // 10)
    chance.shuffle(told)
    for first in range(0, len(told), 10):
        hear(ledger, *told[first : first + 10], rule=AT_ONCE)
        if chance.random() < 0.2:
            event_batches.cut_due(ledger)
    began = events.begin_listing() + 1
    hear(ledger, *(put(key, etag, began * 1000) for key, etag in there.items()), listing=began, rule=AT_ONCE)
    events.end_listing(ledger, PREFIX, began)
    event_batches.cut_due(ledger)
    assert events.there(ledger, PREFIX) == {PREFIX + key: etag for key, etag in there.items()}
    images = [(image.uri, image.etag) for batch in event_batches.unqueued(ledger)
              for image in event_batches.images_of(ledger, batch)]
    assert len(images) == len(set(images))
    assert {(PREFIX + key, etag) for key, etag in there.items()} <= set(images)
