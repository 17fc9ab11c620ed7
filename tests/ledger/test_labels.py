"""What people mark on images of a label set, on every kind of ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from segsvc.errors import ConfigError
from segsvc.ledger import label_sets, labelled, labelling
from segsvc.ledger.errors import Refused, Unknown
from segsvc.ledger.label_records import (
    DrawnImage,
    Frame,
    LabelTask,
    NewLabelling,
    NewObject,
    NewSet,
    WhereDiffer,
)
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import ImageRecord, Reader
from segsvc.types import Box
from tests.ledger.conftest import ANN, BOB, CAT

FRAME = Frame("frame.parquet", "0" * 64, 100, 100, datetime(2026, 11, 2, tzinfo=UTC))


def _drawn(first: int, n: int) -> list[DrawnImage]:
    return [DrawnImage(f"file:///data/{place}.png", f"{place}", ImageRecord(
        f"{place:032x}", f"file:///data/{place}.png", "1", 100, 80, 1)) for place in range(first, first + n)]


def _make(ledger: Ledger, n: int = 4, *, task: LabelTask = LabelTask.OBJECTS, readers: int = 1,
          where_differ: WhereDiffer = WhereDiffer.EITHER, lease_s: int = 1800) -> None:
    new = NewSet("streets", task, ("car", "sign"), "/data", FRAME, seed=0, readers=readers, where_differ=where_differ,
                 lease_s=lease_s)
    label_sets.create(ledger, new, _drawn(1, n), units=n)


def _ids(ledger: Ledger, reader: Reader, n: int, holding: Sequence[str] = ()) -> list[str]:
    return [item.image.image_id for item in labelling.lease(ledger, reader, "streets", n=n, holding=holding)]


def _car(x0: int = 10, *, wide: int = 20) -> NewObject:
    return NewObject("car", Box(x0, 10, x0 + wide, 30))


def _say(ledger: Ledger, reader: Reader, image_id: str, *objects: NewObject, request_id: str | None = None) -> None:
    labelling.done(ledger, reader, image_id, NewLabelling(not objects, objects, request_id=request_id), set_name="streets")


def test_images_are_given_in_drawn_order_and_to_one_person_each(ledger: Ledger) -> None:
    _make(ledger)
    first = _ids(ledger, ANN, 2)
    assert first == [f"{place:032x}" for place in (1, 2)]
    assert _ids(ledger, BOB, 9) == [f"{place:032x}" for place in (3, 4)]
    assert _ids(ledger, ANN, 9, holding=first) == []
    assert _ids(ledger, ANN, 9) == first  # after a reload the page knows no more of them


def test_what_is_said_last_of_an_image_holds_and_all_of_it_is_kept(ledger: Ledger) -> None:
    _make(ledger)
    image_id = _ids(ledger, ANN, 1)[0]
    _say(ledger, ANN, image_id, _car(), _car(50))
    _say(ledger, ANN, image_id, _car(60))
    item = labelling.find(ledger, ANN, "streets", image_id)
    assert [label.box for label in item.labels] == [Box(60, 10, 80, 30)]
    assert item.labelled
    assert labelling.find(ledger, BOB, "streets", image_id).labels == ()  # blind
    assert [(each.image_id, each.n_objects) for each in labelling.mine(ledger, ANN, "streets")] == [(image_id, 1)]
    assert label_sets.find(ledger, "streets").labelled == 1


def test_objects_added_one_by_one_stand_when_it_is_said_that_the_image_is_done(ledger: Ledger) -> None:
    _make(ledger)
    image_id = _ids(ledger, ANN, 1)[0]
    polygon = NewObject("sign", polygon=((1.0, 1.0), (9.0, 1.0), (9.0, 9.0)))
    stored = labelling.add_object(ledger, ANN, image_id, polygon, set_name="streets")
    assert stored.box == Box(2, 1, 9, 8)  # of the px that it covers
    assert label_sets.find(ledger, "streets").labelled == 0
    with pytest.raises(Refused, match="nothing: expected false for an image on which ann marked 1 objects, got true"):
        labelling.done(ledger, ANN, image_id, NewLabelling(True), set_name="streets")
    said = labelling.done(ledger, ANN, image_id, NewLabelling(False), set_name="streets")
    assert (said.n_objects, said.set_name, said.position) == (1, "streets", 1)


def test_the_same_request_is_stored_once(ledger: Ledger) -> None:
    _make(ledger)
    image_id = _ids(ledger, ANN, 1)[0]
    new = NewLabelling(False, (_car(),), request_id="one")
    first = labelling.done(ledger, ANN, image_id, new, set_name="streets")
    assert labelling.done(ledger, ANN, image_id, new, set_name="streets") == first
    again = NewObject("car", Box(1, 1, 5, 5), request_id="two")
    stored = labelling.add_object(ledger, ANN, image_id, again)
    assert labelling.add_object(ledger, ANN, image_id, again) == stored
    assert len(labelling.find(ledger, ANN, "streets", image_id).labels) == 2


@pytest.mark.parametrize(("new", "says"), [
    (NewObject("lamp", Box(0, 0, 5, 5)), "expected a class of the label set streets \\(car, sign\\), got 'lamp'"),
    (NewObject("car"), "expected one of them in the label set streets, which is about objects, got none"),
    (NewObject("car", Box(90, 0, 101, 5)), "expected one within the image of 100 x 80 px, got 90, 0 to 101, 5"),
    (NewObject("car", polygon=((200.0, 1.0), (300.0, 1.0), (300.0, 9.0))), "expected one that covers px of the image"),
    (NewObject("car", Box(0, 0, 5, 5), frame=3), "frame: expected 0 to 0, got 3"),
], ids=["class", "whole image", "outside", "polygon outside", "frame"])
def test_what_is_no_object_of_the_image_is_refused_and_nothing_stored(ledger: Ledger, new: NewObject, says: str) -> None:
    _make(ledger)
    image_id = _ids(ledger, ANN, 1)[0]
    with pytest.raises(Refused, match=says):
        labelling.add_object(ledger, ANN, image_id, new)
    with pytest.raises(Refused, match=says):
        labelling.done(ledger, ANN, image_id, NewLabelling(False, (_car(), new)))
    assert labelling.find(ledger, ANN, "streets", image_id).labels == ()


def test_an_object_is_refused_as_it_is_made() -> None:
    box = Box(0, 0, 5, 5)
    faults: tuple[tuple[Callable[[], NewObject], str], ...] = (
        (lambda: NewObject("car", box, polygon=((0.0, 0.0),) * 3), "expected a polygon, or a box"),
        (lambda: NewObject("car", polygon=((0.0, 0.0),) * 2), "expected 3 to 10000 corners, got 2"),
        (lambda: NewObject("car", polygon=((0.0, float("nan")),) * 3), "finite"),
        (lambda: NewObject("car", Box(5, 5, 5, 9)), "at least 1 x 1 px, got 0 x 4"),
        (lambda: NewObject("car", mask_rle="06"), "expected the box that it lies in"),
        (lambda: NewObject(" "), "expected a class, got an empty name"))
    for made, says in faults:
        with pytest.raises(Refused, match=says):
            made()


def test_two_people_who_differ_are_both_kept_and_either_counts_or_a_third_decides(ledger: Ledger) -> None:
    _make(ledger, 2, readers=2, where_differ=WhereDiffer.THIRD)
    one, two = _ids(ledger, ANN, 2)
    assert _ids(ledger, BOB, 9) == [one, two]  # both are to be labelled by two
    assert _ids(ledger, CAT, 9) == []
    _say(ledger, ANN, one, _car(), _car(50))
    _say(ledger, BOB, one, _car(11))
    _say(ledger, ANN, two)
    _say(ledger, BOB, two)
    record = label_sets.find(ledger, "streets")
    assert (record.labelled, record.left, record.first_open) == (1, 1, 1)
    assert record.agreement == pytest.approx((2 / 3 + 1) / 2)
    assert _ids(ledger, CAT, 9) == [one]
    assert _ids(ledger, ANN, 9) == []
    _say(ledger, CAT, one, _car(12), _car(51))
    assert label_sets.find(ledger, "streets").left == 0
    images = labelled.images(ledger, "streets")
    assert [len(image.opinions) for image in images] == [3, 2]
    boxes = [each.box for each in labelled.agreed(label_sets.find(ledger, "streets"), images[0])]
    assert boxes == [Box(10, 10, 30, 30), Box(50, 10, 70, 30)]


def test_either_of_two_who_differ_counts_and_what_both_marked_counts_once(ledger: Ledger) -> None:
    _make(ledger, 1, readers=2)
    image_id = _ids(ledger, ANN, 1)[0]
    _say(ledger, ANN, image_id, _car(), _car(50))
    _say(ledger, BOB, image_id, _car(11), NewObject("sign", Box(10, 10, 30, 30)))
    record = label_sets.find(ledger, "streets")
    assert record.left == 0
    agreed = labelled.agreed(record, labelled.images(ledger, "streets")[0])
    assert [(each.class_name, each.box) for each in agreed] == [
        ("car", Box(10, 10, 30, 30)), ("car", Box(50, 10, 70, 30)), ("sign", Box(10, 10, 30, 30))]


def test_classes_of_whole_images_are_given_once_each(ledger: Ledger) -> None:
    _make(ledger, task=LabelTask.CLASSES)
    image_id = _ids(ledger, ANN, 1)[0]
    with pytest.raises(Refused, match="expected each class of a whole image once"):
        _say(ledger, ANN, image_id, NewObject("car"), NewObject("car"))
    with pytest.raises(Refused, match="expected none of them in the label set streets, which is about classes"):
        _say(ledger, ANN, image_id, _car())
    _say(ledger, ANN, image_id, NewObject("car"), NewObject("sign"))
    assert labelling.find(ledger, ANN, "streets", image_id).labelled


def test_a_set_that_is_not_finished_says_how_far_it_may_be_used(ledger: Ledger) -> None:
    _make(ledger)
    ids = _ids(ledger, ANN, 4)
    for image_id in (ids[0], ids[1], ids[3]):
        _say(ledger, ANN, image_id)
    with pytest.raises(ConfigError, match=r"expected all 4 images to be labelled, 1 is left\. The first 2 in drawn order "
                                          r"are: label:streets@2"):
        labelled.images(ledger, "streets")
    assert [image.position for image in labelled.images(ledger, "streets", places=(1, 2))] == [1, 2]
    with pytest.raises(ConfigError, match="expected places from 1 to 2, as so many of its images are labelled"):
        labelled.images(ledger, "streets", places=(1, 3))
    _say(ledger, ANN, ids[2])
    assert len(labelled.images(ledger, "streets")) == 4
    assert [image.position for image in labelled.images(ledger, "streets", places=(3, 4))] == [3, 4]


def test_images_that_could_not_be_opened_are_counted_and_never_given(ledger: Ledger) -> None:
    _make(ledger, 1)
    gone = DrawnImage("file:///data/9.png", "9", None, fault="not there")
    record = label_sets.extend(ledger, "streets", [gone, *_drawn(2, 1)], units=3, before=1)
    assert (record.drawn, record.unreadable, record.left, record.drawn_units) == (3, 1, 2, 3)
    assert _ids(ledger, ANN, 9) == [f"{place:032x}" for place in (1, 2)]
    with pytest.raises(ConfigError, match="somebody has drawn meanwhile"):
        label_sets.extend(ledger, "streets", _drawn(5, 1), units=2, before=1)


def test_names_that_are_none_are_answered_with_those_that_there_are(ledger: Ledger) -> None:
    _make(ledger)
    with pytest.raises(Unknown, match="expected one of the ledger \\(streets\\), got 'roads'"):
        label_sets.find(ledger, "roads")
    with pytest.raises(ConfigError, match="expected a new name, or --more"):
        _make(ledger)
    with pytest.raises(Unknown, match="image: expected one of the ledger, got 'ffff"):
        labelling.find(ledger, ANN, "streets", "f" * 32)


def test_seconds_of_labelling_and_of_deciding_are_never_counted_twice(ledger: Ledger) -> None:
    _make(ledger)
    one, two, _, _ = _ids(ledger, ANN, 4)
    shown = datetime.now(UTC) - timedelta(seconds=30)
    first = labelling.done(ledger, ANN, one, NewLabelling(True, (), shown_at=shown, seconds=20.0), set_name="streets")
    second = labelling.done(ledger, ANN, two, NewLabelling(True, (), shown_at=shown, seconds=25.0), set_name="streets")
    assert first.seconds == pytest.approx(20.0, abs=0.1)
    assert second.seconds == pytest.approx(5.0, abs=0.1)
    assert label_sets.find(ledger, "streets").median_seconds == pytest.approx(12.5, abs=0.1)
