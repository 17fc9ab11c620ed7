"""Labelling: images of a set are given out, and what people mark on them is added, each once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from segsvc import clock
from segsvc.imaging.outlines import polygons_mask
from segsvc.ledger import ids
from segsvc.ledger import label_rows as made
from segsvc.ledger.candidates import storable
from segsvc.ledger.errors import Refused, Unknown
from segsvc.ledger.images import image_row
from segsvc.ledger.label_records import Label, LabelItem, Labelling, LabelTask, NewLabelling, NewObject, WhereDiffer
from segsvc.ledger.label_sets import SetRow, candidates_of, set_row
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import Reader
from segsvc.ledger.runs import run_row
from segsvc.ledger.tables import (
    CANDIDATES,
    ENTRIES,
    IMAGES,
    LABEL_LEASES,
    LABEL_SETS,
    LABELLINGS,
    LABELS,
    RUNS,
    SAMPLED,
)
from segsvc.ledger.work import worked
from segsvc.ledger.writer import Writing
from segsvc.quality.agreement import agreement
from segsvc.types import Box, stable_id

MOST_LEASED = 50
MOST_HELD = 500
MOST_LISTED = 500


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an image is labelled: in a set, or as an image of a run; its row, and the set's row of it."""

    image: Mapping[str, Any]
    set_: SetRow | None = None
    sampled: Mapping[str, Any] | None = None
    run_no: int | None = None
    run_id: str | None = None

    @property
    def columns(self) -> dict[str, int | None]:
        return {"set_no": self.set_.number if self.set_ is not None else None, "run_no": self.run_no}


def lease(ledger: Ledger, reader: Reader, name: str, *, n: int, holding: Sequence[str] = (), candidates: bool = False
          ) -> list[LabelItem]:
    """The next `n` images of the set for this person, in the order in which they were drawn; fewer where there are no more.

    None that the person has labelled, and none that as many others hold as are still to label it. holding: images that the
    person was given and has not labelled: they stay theirs, and are not given again. Raises Unknown for a set.
    """
    if not 0 <= n <= MOST_LEASED or len(holding) > MOST_HELD:
        raise Refused(f"lease: expected up to {MOST_LEASED} images to be given and {MOST_HELD} held, got {n} and "
                      f"{len(holding)}")
    with ledger.read() as conn:
        row = set_row(conn, name)
    numbers = ledger.write(lambda writing: _lease(writing, reader, row, n, holding))
    with ledger.read() as conn:
        return [_item(conn, reader, row, number, candidates=candidates) for number in numbers]


def find(ledger: Ledger, reader: Reader, name: str, image_id: str, *, candidates: bool = False) -> LabelItem:
    """An image of the set as this person may see it. Raises Unknown."""
    with ledger.read() as conn:
        row = set_row(conn, name)
        place = _place(conn, image_id, set_name=name, run_id=None)
        return _item(conn, reader, row, place.image["number"], candidates=candidates)


def add_object(ledger: Ledger, reader: Reader, image_id: str, new: NewObject, *, set_name: str | None = None,
               run_id: str | None = None) -> Label:
    """The object as it is stored: one more on the image, in the set or run given, else the newest set or run that has it.

    With the `request_id` of an earlier one of this person, that one, and nothing is stored. Raises Unknown, and Refused for
    what is no object of this image or set.
    """
    def work(writing: Writing) -> Label:
        conn = writing.conn
        if new.request_id is not None and (row := _sent(conn, LABELS, reader, new.request_id)) is not None:
            return made.label(row)
        place = _place(conn, image_id, set_name=set_name, run_id=run_id)
        _check_class(place, new)
        row = _object_row(writing, reader, place, new, _next_number(conn, LABELS))
        conn.execute(insert(LABELS).values(row))
        _restand(writing, place)
        return made.label({**row, "image_id": image_id})

    return ledger.write(work)


def done(ledger: Ledger, reader: Reader, image_id: str, new: NewLabelling, *, set_name: str | None = None,
         run_id: str | None = None) -> Labelling:
    """What the person said of the image, as it is stored. See `add_object` for the place, `request_id` and errors."""
    return ledger.write(lambda writing: _done(writing, reader, image_id, new, set_name, run_id, ledger.idle_cap_us))


def mine(ledger: Ledger, reader: Reader, name: str, limit: int = 50) -> list[Labelling]:
    """What the person said of images of the set, the latest first; of each image what holds."""
    if not 1 <= limit <= MOST_LISTED:
        raise Refused(f"limit: expected 1 to {MOST_LISTED}, got {limit}")
    with ledger.read() as conn:
        row = set_row(conn, name)
        latest = select(func.max(LABELLINGS.c.number)).where(
            LABELLINGS.c.set_no == row.number, LABELLINGS.c.user_id == reader.user_id).group_by(LABELLINGS.c.image_no)
        rows = conn.execute(made.LABELLINGS_WITH_PLACES.where(LABELLINGS.c.number.in_(latest)).order_by(
            LABELLINGS.c.number.desc()).limit(limit)).mappings()
        return [made.labelling(each) for each in rows]


# -- what is given out ------------------------------------------------------------------------------------------------------


def _lease(writing: Writing, reader: Reader, row: SetRow, n: int, holding: Sequence[str]) -> list[int]:
    conn, me = writing.conn, reader.user_id
    until = writing.now + row.record.lease_s * 1_000_000
    set_back = (LABEL_LEASES.c.set_no == row.number) & (LABEL_LEASES.c.until > until + clock.APART_US)
    conn.execute(delete(LABEL_LEASES).where((LABEL_LEASES.c.until <= writing.now) | set_back))
    leases: dict[int, set[int]] = {}
    for image_no, user_id in conn.execute(select(LABEL_LEASES.c.image_no, LABEL_LEASES.c.user_id).where(
            LABEL_LEASES.c.set_no == row.number)):
        leases.setdefault(image_no, set()).add(user_id)
    held = set(ids.numbers(conn, ids.IMAGE, map(storable, holding)).values())
    wanted = row.record.readers
    given, found = set(leases), list[int]()
    open_images = conn.execute(select(SAMPLED.c.image_no, SAMPLED.c.labelled_by).where(
        SAMPLED.c.set_no == row.number, SAMPLED.c.closed.is_(False)).order_by(SAMPLED.c.place))
    renewed = []
    for image_no, labelled_by in open_images:
        have = _users(labelled_by)
        others = leases.get(image_no, set()) - {me} - have if image_no in given else set[int]()
        # where two have labelled it and it is still open, they differ: a third one does
        if me in have or len(others) >= max(1, wanted - len(have)):
            continue
        if image_no in held:
            renewed.append(image_no)
        elif len(found) < n:
            found.append(image_no)
        if len(found) == n and not held - set(renewed):
            break
    for image_no in (*renewed, *found):
        conn.execute(delete(LABEL_LEASES).where(LABEL_LEASES.c.set_no == row.number, LABEL_LEASES.c.image_no == image_no,
                                                LABEL_LEASES.c.user_id == me))
        conn.execute(insert(LABEL_LEASES).values(set_no=row.number, image_no=image_no, user_id=me, until=until))
    return found


def _item(conn: Connection, reader: Reader, row: SetRow, image_no: int, *, candidates: bool) -> LabelItem:
    sampled = conn.execute(select(SAMPLED).where(SAMPLED.c.set_no == row.number, SAMPLED.c.image_no == image_no).order_by(
        SAMPLED.c.place).limit(1)).mappings().one()
    image = conn.execute(select(IMAGES).where(IMAGES.c.number == image_no)).mappings().one()
    labels = made.standing(conn, image_no, set_no=row.number, run_no=None, user_ids=[reader.user_id]).get(reader.user_id)
    return LabelItem(made.image(image), row.record.name, sampled["place"], sampled["unit"],
                     labels.labels if labels is not None else (), labels is not None and labels.labelling is not None,
                     candidates_of(sampled["candidates"]) if candidates else None)


# -- what is said -----------------------------------------------------------------------------------------------------------


def _done(writing: Writing, reader: Reader, image_id: str, new: NewLabelling, set_name: str | None, run_id: str | None,
          idle_cap_us: int) -> Labelling:
    conn = writing.conn
    if new.request_id is not None and (sent := _sent(conn, LABELLINGS, reader, new.request_id)) is not None:
        return made.labelling(_placed(conn, sent["number"]))
    place = _place(conn, image_id, set_name=set_name, run_id=run_id)
    before = made.standing(conn, place.image["number"], **place.columns, user_ids=[reader.user_id]).get(reader.user_id)
    since = before.since if before is not None else 0
    n_objects = len(before.labels) if before is not None else 0
    if new.objects is not None:
        for each in new.objects:
            _check_class(place, each)
        first = _next_number(conn, LABELS)
        rows = [_object_row(writing, reader, place, each, first + place_) for place_, each in enumerate(new.objects)]
        _check_once(place, rows)
        since, n_objects = first - 1, len(rows)
    if new.nothing != (n_objects == 0):
        raise Refused(f"nothing: expected {str(n_objects == 0).lower()} for an image on which {reader.name} marked "
                      f"{n_objects} objects, got {str(new.nothing).lower()}")
    if new.objects:
        conn.execute(insert(LABELS), rows)
    number = _next_number(conn, LABELLINGS)
    worked_us, worked_until = worked(writing, reader.user_id, shown_at=new.shown_at, seconds=new.seconds,
                                     cap_us=idle_cap_us * (1 + n_objects))
    conn.execute(insert(LABELLINGS).values(
        number=number, labelling_id=stable_id("labelling", number, image_id, reader.name, writing.now), **place.columns,
        image_no=place.image["number"], user_id=reader.user_id, reader=reader.name,
        candidates_shown=new.candidates_shown, since=since, n_objects=n_objects,
        shown_at=made.us_or_none(new.shown_at), done_at=writing.now, worked_us=worked_us, worked_until=worked_until,
        request_id=new.request_id))
    if place.set_ is not None:
        conn.execute(delete(LABEL_LEASES).where(
            LABEL_LEASES.c.set_no == place.set_.number, LABEL_LEASES.c.image_no == place.image["number"],
            LABEL_LEASES.c.user_id == reader.user_id))
    _restand(writing, place)
    return made.labelling(_placed(conn, number))


def _restand(writing: Writing, place: _Place) -> None:
    """Brings the set's row of the image to what people have said of it by now."""
    if place.set_ is None or place.sampled is None:
        return
    conn, record, image_no = writing.conn, place.set_.record, place.image["number"]
    opinions = [each for each in made.standing(conn, image_no, set_no=place.set_.number, run_no=None).values()
                if each.labelling is not None]
    agreed = agreement([made.marked(each.labels) for each in opinions]) if len(opinions) > 1 else None
    a_third = record.where_differ is WhereDiffer.THIRD and len(opinions) == 2 and agreed is not None and agreed < 1.0
    closed = len(opinions) >= record.readers and not a_third
    of_image = (SAMPLED.c.set_no == place.set_.number) & (SAMPLED.c.image_no == image_no)
    for was_closed, was_agreed in conn.execute(select(SAMPLED.c.closed, SAMPLED.c.agreement).where(of_image)).all():
        conn.execute(update(LABEL_SETS).where(LABEL_SETS.c.number == place.set_.number).values(
            labelled=LABEL_SETS.c.labelled + int(closed) - int(was_closed),
            twice=LABEL_SETS.c.twice + int(agreed is not None) - int(was_agreed is not None),
            agreement=LABEL_SETS.c.agreement + (agreed or 0.0) - (was_agreed or 0.0)))
    conn.execute(update(SAMPLED).where(of_image).values(
        labelled_by=",".join(str(each.user_id) for each in opinions), agreement=agreed, closed=closed))


def _place(conn: Connection, image_id: str, *, set_name: str | None, run_id: str | None) -> _Place:
    """Where the image is labelled. Raises Unknown, and Refused where both a set and a run are named."""
    if set_name is not None and run_id is not None:
        raise Refused(f"set, run: expected one of them, got {set_name!r} and {run_id!r}")
    image = image_row(conn, storable(image_id))
    if image is None:
        raise Unknown(f"image: expected one of the ledger, got {image_id!r}")
    if run_id is None:
        sampled = select(SAMPLED, LABEL_SETS.c.name).join(LABEL_SETS, LABEL_SETS.c.number == SAMPLED.c.set_no).where(
            SAMPLED.c.image_no == image["number"])
        if set_name is not None:
            sampled = sampled.where(LABEL_SETS.c.name == storable(set_name))
        row = conn.execute(sampled.order_by(SAMPLED.c.set_no.desc(), SAMPLED.c.place).limit(1)).mappings().first()
        if row is not None:
            return _Place(dict(image), set_row(conn, row["name"]), dict(row))
        if set_name is not None:
            set_row(conn, set_name)  # says which there are
            raise Unknown(f"image: expected one of the label set {set_name}, got {image_id!r}")
    runs = select(RUNS.c.number, RUNS.c.run_id).join(ENTRIES, ENTRIES.c.run_no == RUNS.c.number).join(
        CANDIDATES, CANDIDATES.c.number == ENTRIES.c.candidate_no).where(
            CANDIDATES.c.image_no == image["number"], RUNS.c.imported_at.is_not(None))
    if run_id is not None:
        runs = runs.where(RUNS.c.number == run_row(conn, run_id).number)
    run = conn.execute(runs.order_by(RUNS.c.number.desc()).limit(1)).first()
    if run is None:
        raise Unknown(f"image: expected one with candidates in the run {run_id}, got {image_id!r}" if run_id is not None
                      else f"image: expected one of a label set or run, got {image_id!r}")
    return _Place(dict(image), run_no=run[0], run_id=run[1])


def _check_class(place: _Place, new: NewObject) -> None:
    """Raises Refused for an object of another class, or of another kind, than the set is about."""
    if place.set_ is None:
        return
    record = place.set_.record
    if new.class_name not in record.class_names:
        raise Refused(f"class_name: expected a class of the label set {record.name} ({', '.join(record.class_names)}), got "
                      f"{new.class_name!r}")
    is_whole = new.box is None and new.polygon is None
    if is_whole != (record.task is LabelTask.CLASSES):
        raise Refused(f"box, polygon, mask_rle: expected {'none' if not is_whole else 'one'} of them in the label set "
                      f"{record.name}, which is about {record.task.value}, got {'none' if is_whole else 'one'}")


def _check_once(place: _Place, rows: Iterable[Mapping[str, Any]]) -> None:
    whole = [row["class_name"] for row in rows if row["x0"] is None]
    if len(set(whole)) < len(whole):
        raise Refused(f"objects: expected each class of a whole image once, got {', '.join(whole)}")


def _object_row(writing: Writing, reader: Reader, place: _Place, new: NewObject, number: int) -> dict[str, Any]:
    """The object as a row of labels. Raises Refused where it does not lie within the image."""
    box = _box(place.image, new)
    return {"number": number, "label_id": stable_id("label", number, place.image["image_id"], reader.name, writing.now),
            **place.columns, "image_no": place.image["number"], "user_id": reader.user_id, "reader": reader.name,
            "made_at": writing.now, "class_name": new.class_name, "frame": new.frame, "x0": box.x0 if box else None,
            "y0": box.y0 if box else None, "x1": box.x1 if box else None, "y1": box.y1 if box else None,
            "polygon": json.dumps(new.polygon) if new.polygon is not None else None, "mask_rle": new.mask_rle,
            "candidate_id": new.candidate_id, "note": new.note, "request_id": new.request_id}


def _box(image: Mapping[str, Any], new: NewObject) -> Box | None:
    width, height, frames = image["width_px"], image["height_px"], image["frames"]
    if not 0 <= new.frame < max(1, frames):
        raise Refused(f"frame: expected 0 to {max(1, frames) - 1}, got {new.frame}")
    if new.polygon is not None:
        import numpy as np

        try:
            covered = polygons_mask([np.array(new.polygon, np.float64)], width_px=width, height_px=height)
        except ValueError as error:
            raise Refused(f"polygon: {error}") from error
        if covered is None:
            raise Refused(f"polygon: expected one that covers px of the image, {width} x {height} px, got one that covers "
                          "none")
        return covered[0]
    box = new.box
    if box is not None and (min(box.x0, box.y0) < 0 or box.x1 > width or box.y1 > height):
        raise Refused(f"box: expected one within the image of {width} x {height} px, got "
                      f"{box.x0}, {box.y0} to {box.x1}, {box.y1}")
    return box


def _sent(conn: Connection, table: Any, reader: Reader, request_id: str) -> Mapping[str, Any] | None:
    wanted = select(table, IMAGES.c.image_id).join(IMAGES, IMAGES.c.number == table.c.image_no).where(
        table.c.user_id == reader.user_id, table.c.request_id == request_id)
    found: Mapping[str, Any] | None = conn.execute(wanted).mappings().one_or_none()  # type: ignore[assignment]
    return found


def _placed(conn: Connection, number: int) -> Mapping[Any, Any]:
    return conn.execute(made.LABELLINGS_WITH_PLACES.where(LABELLINGS.c.number == number)).mappings().one()


def _next_number(conn: Connection, table: Any) -> int:
    return (conn.execute(select(func.max(table.c.number))).scalar() or 0) + 1


def _users(labelled_by: str) -> set[int]:
    return {int(each) for each in labelled_by.split(",") if each}
