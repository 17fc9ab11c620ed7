"""What whole images tell of a run's misses: by the label set that was drawn from it, class by class."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from segsvc.ledger import label_sets, labelling
from segsvc.ledger.errors import Unknown
from segsvc.ledger.label_records import (
    DrawnImage,
    Frame,
    LabelTask,
    NewLabelling,
    NewObject,
    NewSet,
    ShownCandidate,
)
from segsvc.ledger.missed_images import missed_images
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import ImageRecord
from segsvc.quality.bounds import most_members
from segsvc.types import Box
from tests.ledger.conftest import ANN, TakeIn
from tests.ledger.runs import review

FRAME = Frame("frame.parquet", "0" * 64, 200, 200, datetime(2026, 11, 2, tzinfo=UTC))
FOUND = ShownCandidate("c" * 32, "car", Box(10, 10, 30, 30), None, 0.9)
CAR = NewObject("car", Box(10, 10, 30, 30))
APART = NewObject("car", Box(60, 10, 80, 30))
SIGN = NewObject("sign", Box(5, 50, 15, 60))


def drawn(n: int, *, unreadable: int = 0) -> list[DrawnImage]:
    found = [DrawnImage(f"file:///data/{place}.png", f"{place}", ImageRecord(
        f"{place:032x}", f"file:///data/{place}.png", "1", 100, 80, 1), candidates=(FOUND,)) for place in range(n)]
    return [*found, *(DrawnImage(f"file:///bad/{place}", f"bad {place}", None, "damaged") for place in range(unreadable))]


def make(ledger: Ledger, run_id: str, images: list[DrawnImage], **how: object) -> None:
    new = NewSet("streets", LabelTask.OBJECTS, ("car", "sign"), "/data", FRAME, seed=0, run_id=run_id)
    label_sets.create(ledger, replace(new, **how), images, units=len({each.unit for each in images}))  # type: ignore[arg-type]


def say(ledger: Ledger, place: int, *objects: NewObject) -> None:
    labelling.done(ledger, ANN, f"{place:032x}", NewLabelling(not objects, objects), set_name="streets")


def test_images_with_an_object_that_no_candidate_finds_bound_those_of_the_run(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in(review(3))
    make(ledger, run.run_id, drawn(20))
    assert missed_images(ledger, run.run_id) == ()
    say(ledger, 0, CAR)
    say(ledger, 1, CAR, APART)  # a car is missed
    say(ledger, 2, SIGN)  # no candidate shows a sign
    for place in range(3, 12):
        say(ledger, place)
    [in_part] = missed_images(ledger, run.run_id)
    assert [(each.audited.objects, each.audited.left, each.audited.counted) for each in in_part.missed.rows] == [
        (1, 8, 9), (1, 8, 9)]
    for place in range(12, 20):
        say(ledger, place, CAR)
    [done] = missed_images(ledger, run.run_id)
    assert (done.set_name, done.unit, done.missed.all_classes) == ("streets", "image", None)
    assert [(each.audited.class_name, each.audited.rejected, each.audited.drawn, each.audited.objects, each.at_most)
            for each in done.missed.rows] == [
        (name, 200, 20, 1, most_members(1, 20, 200, delta=0.025)) for name in ("car", "sign")]
    assert all(one.at_most <= before.at_most for one, before in zip(done.missed.rows, in_part.missed.rows, strict=True))
    with pytest.raises(Unknown):
        missed_images(ledger, "none")


def test_groups_are_counted_whole_and_what_cannot_be_read_counts_as_missed(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in(review(3))
    images = [replace(each, unit=f"street {place // 2}") for place, each in enumerate(drawn(6))]
    make(ledger, run.run_id, [*images, *drawn(0, unreadable=1)], grouped_by="street")
    for place in range(6):
        say(ledger, place, *([APART] if place in (0, 1) else []))
    [found] = missed_images(ledger, run.run_id)
    [car, sign] = found.missed.rows
    assert (found.unit, car.audited.drawn, car.audited.objects, car.audited.left) == ("street", 4, 1, 1)
    assert (sign.audited.objects, sign.audited.nothing, sign.audited.counted) == (0, 3, 1)


def test_sets_that_were_drawn_from_elsewhere_say_nothing_of_the_run(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in(review(3))
    make(ledger, "another", drawn(2))
    say(ledger, 0)
    assert missed_images(ledger, run.run_id) == ()
