"""Rows about labels as the values that go out, and what of them holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, select

from segsvc.imaging.outlines import polygons_mask
from segsvc.ledger.label_records import Label, Labelling
from segsvc.ledger.records import ImageRecord
from segsvc.ledger.rows import box_of
from segsvc.ledger.tables import IMAGES, LABEL_SETS, LABELLINGS, LABELS, RUNS, SAMPLED, as_time, as_us
from segsvc.quality.agreement import Marked
from segsvc.quality.matching import Shape
from segsvc.types import Box

# an image that a set names twice has one place: its first
LABELLINGS_WITH_PLACES = select(
    LABELLINGS, IMAGES.c.image_id, IMAGES.c.uri, LABEL_SETS.c.name.label("set_name"), RUNS.c.run_id,
    select(SAMPLED.c.place).where(SAMPLED.c.set_no == LABELLINGS.c.set_no, SAMPLED.c.image_no == LABELLINGS.c.image_no
                                  ).order_by(SAMPLED.c.place).limit(1).scalar_subquery().label("place"),
).join(IMAGES, IMAGES.c.number == LABELLINGS.c.image_no).outerjoin(
    LABEL_SETS, LABEL_SETS.c.number == LABELLINGS.c.set_no).outerjoin(RUNS, RUNS.c.number == LABELLINGS.c.run_no)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a person holds to be true of an image by now. since: labels up to that number hold no more; labelling: the
    latest one, None where the person has not said that it is done."""

    user_id: int
    reader: str
    since: int
    labels: tuple[Label, ...]
    labelling: Labelling | None


def standing(conn: Connection, image_no: int, *, set_no: int | None, run_no: int | None,
             user_ids: Sequence[int] | None = None) -> dict[int, Standing]:
    """What people hold to be true of an image, in a set or as one of a run, by their ids; whoever came first is first."""
    def here(table: Any) -> Any:
        own = table.c.user_id.in_(user_ids) if user_ids is not None else table.c.user_id.is_not(None)
        at = table.c.set_no == set_no if set_no is not None else and_(table.c.set_no.is_(None), table.c.run_no == run_no)
        return and_(table.c.image_no == image_no, at, own)

    said = conn.execute(LABELLINGS_WITH_PLACES.where(here(LABELLINGS)).order_by(LABELLINGS.c.number)).mappings().all()
    marked_ = conn.execute(select(LABELS, IMAGES.c.image_id).join(IMAGES, IMAGES.c.number == LABELS.c.image_no).where(
        here(LABELS)).order_by(LABELS.c.number)).mappings().all()
    latest = {row["user_id"]: row for row in said}
    names = dict.fromkeys((row["user_id"], row["reader"]) for row in (*said, *marked_))
    found = {}
    for user_id, reader in names:
        last = latest.get(user_id)
        since = last["since"] if last is not None else 0
        found[user_id] = Standing(user_id, reader, since, tuple(
            label(row) for row in marked_ if row["user_id"] == user_id and row["number"] > since),
            labelling(last) if last is not None else None)
    return found


def label(row: Mapping[Any, Any]) -> Label:
    """A row of labels, with its image's id."""
    polygon = json.loads(row["polygon"]) if row["polygon"] is not None else None
    return Label(row["label_id"], row["image_id"], row["reader"], as_time(row["made_at"]), row["class_name"], box_of(row),
                 tuple((x, y) for x, y in polygon) if polygon is not None else None, row["mask_rle"], row["frame"],
                 row["note"], row["candidate_id"])


def labelling(row: Mapping[Any, Any]) -> Labelling:
    """A row of `LABELLINGS_WITH_PLACES`."""
    return Labelling(
        row["labelling_id"], row["image_id"], row["uri"], row["set_name"], row["run_id"], row["place"], row["reader"],
        row["n_objects"] == 0, row["n_objects"], bool(row["candidates_shown"]), as_time(row["done_at"]),
        row["worked_us"] / 1e6 if row["worked_us"] is not None else None)


def image(row: Mapping[Any, Any]) -> ImageRecord:
    """A row of images."""
    return ImageRecord(row["image_id"], row["uri"], row["version"], row["width_px"], row["height_px"], row["frames"])


def marked(labels: Sequence[Label]) -> list[Marked]:
    """Labels as they are compared."""
    return [Marked(each.class_name, shape_of(each)) for each in labels]


def shape_of(each: Label) -> Shape | None:
    """The px of a label; None for a whole image."""
    if each.box is None:
        return None
    if each.polygon is None:
        return Shape(each.box, each.mask_rle.encode() if each.mask_rle is not None else None)
    import numpy as np

    box = each.box
    corners = np.array(each.polygon, np.float64)
    covered = polygons_mask([corners], width_px=box.x1, height_px=box.y1)  # nothing of it lies beyond
    return Shape(*covered) if covered is not None else Shape(Box(box.x0, box.y0, box.x1, box.y1))


def us_or_none(when: datetime | None) -> int | None:
    """A time as it is stored, if there is one."""
    return as_us(when) if when is not None else None
