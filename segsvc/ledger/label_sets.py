"""Label sets: made of images that were drawn, drawn on, and how far they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, literal, or_, select, update

from segsvc.errors import ConfigError
from segsvc.ledger.bulk import insert_rows
from segsvc.ledger.candidates import storable
from segsvc.ledger.errors import Unknown
from segsvc.ledger.images import image_numbers
from segsvc.ledger.label_records import DrawnImage, Frame, LabelSet, LabelTask, NewSet, ShownCandidate, WhereDiffer
from segsvc.ledger.opening import Ledger
from segsvc.ledger.prepared import Prepared
from segsvc.ledger.tables import LABEL_SETS, LABELLINGS, SAMPLED, as_time, as_us
from segsvc.ledger.writer import Writing
from segsvc.types import Box

_LATEST = 200  # labellings that the median of seconds is of
_SAMPLED = ["set_no", "place", "unit", "image_no", "uri", "split", "meta", "candidates", "fault", "labelled_by", "closed"]
_SET = Prepared(select(LABEL_SETS).where(LABEL_SETS.c.name == bindparam("name")))
_OPEN = Prepared(select(SAMPLED.c.place).where(
    SAMPLED.c.set_no == bindparam("set_no"), SAMPLED.c.closed.is_(False)).order_by(SAMPLED.c.place).limit(1))
_WORK = Prepared(select(LABELLINGS.c.worked_us).where(
    LABELLINGS.c.set_no == bindparam("set_no"), LABELLINGS.c.worked_us.is_not(None)).order_by(
        LABELLINGS.c.number.desc()).limit(_LATEST))


@dataclass(frozen=True, slots=True)
class SetRow:
    """A label set and its number in the ledger."""

    number: int
    record: LabelSet


def create(ledger: Ledger, new: NewSet, drawn: Sequence[DrawnImage], *, units: int) -> LabelSet:
    """The set, made of these images in their order, the first so many units of its frame's permutation.

    Raises ConfigError where there is one of that name.
    """
    def work(writing: Writing) -> None:
        conn = writing.conn
        if _SET.first(conn, name=new.name) is not None:
            raise ConfigError(f"--name: expected a new name, or --more to draw on, got {new.name!r}, which is a label set")
        number = (conn.execute(select(func.max(LABEL_SETS.c.number))).scalar() or 0) + 1
        frame = new.frame
        conn.execute(insert(LABEL_SETS).values(
            number=number, name=new.name, task=new.task.value, class_names=json.dumps(new.class_names, ensure_ascii=False),
            input=new.input, run_id=new.run_id, grouped_by=new.grouped_by, seed=new.seed, frame=frame.place,
            frame_sha256=frame.sha256, frame_images=frame.images, frame_units=frame.units, framed_at=as_us(frame.listed_at),
            drawn_units=units, readers=new.readers, where_differ=new.where_differ.value, lease_s=new.lease_s,
            created_at=writing.now, drawn=0, labelled=0, unreadable=0, twice=0, agreement=0.0, has_candidates=False))
        _add(conn, number, 0, drawn)

    ledger.write(work)
    return find(ledger, new.name)


def extend(ledger: Ledger, name: str, drawn: Sequence[DrawnImage], *, units: int, before: int) -> LabelSet:
    """The set with further images at its end; `units` are drawn then, and `before` were until now.

    Raises Unknown, and ConfigError where somebody else has drawn meanwhile.
    """
    def work(writing: Writing) -> None:
        conn = writing.conn
        row = set_row(conn, name)
        if row.record.drawn_units != before:
            raise ConfigError(f"label set {name}: expected {before} units to be drawn so far, got "
                              f"{row.record.drawn_units}: somebody has drawn meanwhile. Do it again.")
        _add(conn, row.number, row.record.drawn, drawn)
        conn.execute(update(LABEL_SETS).where(LABEL_SETS.c.number == row.number).values(drawn_units=units))

    ledger.write(work)
    return find(ledger, name)


def all_sets(ledger: Ledger) -> list[LabelSet]:
    """All label sets, the newest first."""
    with ledger.read() as conn:
        rows = conn.execute(select(LABEL_SETS).order_by(LABEL_SETS.c.number.desc())).mappings()
        return [_record(conn, row) for row in rows.all()]


def find(ledger: Ledger, name: str) -> LabelSet:
    """The set of that name. Raises Unknown."""
    with ledger.read() as conn:
        return set_row(conn, name).record


def set_row(conn: Connection, name: str) -> SetRow:
    """The set of that name. Raises Unknown with the newest ones."""
    row = _SET.first(conn, name=storable(name))
    if row is None:
        newest = conn.execute(select(LABEL_SETS.c.name).order_by(LABEL_SETS.c.number.desc()).limit(5)).scalars().all()
        raise Unknown(f"label set: expected one of the ledger ({', '.join(newest) or 'it has none'}), got {name!r}")
    return SetRow(row["number"], _record(conn, row))


def _record(conn: Connection, row: Mapping[Any, Any]) -> LabelSet:
    first_open = _OPEN.first(conn, set_no=row["number"])
    worked = [each["worked_us"] / 1e6 for each in _WORK.rows(conn, set_no=row["number"])]
    return LabelSet(
        name=row["name"], task=LabelTask(row["task"]), class_names=tuple(json.loads(row["class_names"])), input=row["input"],
        run_id=row["run_id"], grouped_by=row["grouped_by"], seed=row["seed"],
        frame=Frame(row["frame"], row["frame_sha256"], row["frame_images"], row["frame_units"], as_time(row["framed_at"])),
        drawn_units=row["drawn_units"], readers=row["readers"], where_differ=WhereDiffer(row["where_differ"]),
        lease_s=row["lease_s"], created_at=as_time(row["created_at"]), drawn=row["drawn"],
        labelled=row["labelled"], unreadable=row["unreadable"],
        first_open=first_open["place"] if first_open is not None else None, has_candidates=bool(row["has_candidates"]),
        median_seconds=median(worked) if worked else None,
        agreement=row["agreement"] / row["twice"] if row["twice"] else None)


def _add(conn: Connection, set_no: int, last: int, drawn: Sequence[DrawnImage]) -> None:
    numbers = image_numbers(conn, [each.image for each in drawn if each.image is not None])
    insert_rows(conn, SAMPLED, _SAMPLED, [
        (set_no, place, each.unit, numbers[each.image.image_id] if each.image is not None else None, each.uri, each.split,
         json.dumps(dict(each.meta or {}), ensure_ascii=False), _as_json(each.candidates), each.fault, "",
         each.image is None) for place, each in enumerate(drawn, start=last + 1)])
    of_set = LABEL_SETS.c
    conn.execute(update(LABEL_SETS).where(of_set.number == set_no).values(
        drawn=of_set.drawn + len(drawn), unreadable=of_set.unreadable + sum(each.image is None for each in drawn),
        has_candidates=or_(of_set.has_candidates, literal(any(each.candidates is not None for each in drawn)))))


def _as_json(candidates: Sequence[ShownCandidate] | None) -> str | None:
    if candidates is None:
        return None
    return json.dumps([asdict(each) for each in candidates], ensure_ascii=False)


def candidates_of(text: str | None) -> tuple[ShownCandidate, ...] | None:
    """The candidates in a row of `sampled`."""
    if text is None:
        return None
    return tuple(ShownCandidate(each["candidate_id"], each["class_name"], Box(**each["box"]), each["mask_rle"],
                                each["score"]) for each in json.loads(text))
