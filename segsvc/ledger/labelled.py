"""What is true of the images of a label set, out of what people said of them."""

from __future__ import annotations

import json

from sqlalchemy import select

from segsvc.errors import ConfigError
from segsvc.ledger import label_rows
from segsvc.ledger.label_records import Label, LabelledImage, LabelSet, Opinion, WhereDiffer
from segsvc.ledger.label_sets import set_row
from segsvc.ledger.opening import Ledger
from segsvc.ledger.tables import IMAGES, SAMPLED
from segsvc.quality.agreement import consensus


def images(ledger: Ledger, name: str, *, places: tuple[int, int] | None = None) -> list[LabelledImage]:
    """The images of the set in drawn order, without those that cannot be read.

    places: only those from the first to the last of these places, counted from 1. Raises Unknown, and ConfigError where
    some of them are still to be labelled: what is labelled already is no random sample of the set, as quick ones are
    labelled first; a stretch of the drawn order is.
    """
    with ledger.read() as conn:
        row = set_row(conn, name)
        first, last = _checked(row.record, places)
        sampled = select(SAMPLED, SAMPLED.c.place.label("position"), *(IMAGES.c[each] for each in (
            "image_id", "version", "width_px", "height_px", "frames"))).join(
                IMAGES, IMAGES.c.number == SAMPLED.c.image_no).where(SAMPLED.c.set_no == row.number)
        sampled = sampled.where(SAMPLED.c.place.between(first, last))
        found = []
        for each in conn.execute(sampled.order_by(SAMPLED.c.place)).mappings().all():
            said = label_rows.standing(conn, each["image_no"], set_no=row.number, run_no=None).values()
            found.append(LabelledImage(
                label_rows.image(each), each["position"], each["unit"], each["split"], json.loads(each["meta"]),
                tuple(Opinion(one.labelling, one.labels) for one in said if one.labelling is not None)))
    return found


def agreed(record: LabelSet, image: LabelledImage) -> list[Label]:
    """The objects that hold of an image, by the set's rule where people differ."""
    opinions = [label_rows.marked(each.labels) for each in image.opinions]
    wanted = 2 if record.where_differ is WhereDiffer.THIRD and len(opinions) > 1 else 1
    return [image.opinions[person].labels[place] for person, place in consensus(opinions, at_least=wanted)]


def _checked(record: LabelSet, places: tuple[int, int] | None) -> tuple[int, int]:
    """The first and last place. Raises ConfigError where not all in between are labelled."""
    usable = record.drawn if record.first_open is None else record.first_open - 1
    left = "1 is left" if record.left == 1 else f"{record.left} are left"
    if not usable:
        raise ConfigError(f"label set {record.name}: expected labelled images, got {record.drawn}, the first of which is "
                          f"not labelled yet; {left}. Label them by `segsvc serve`, at /label.")
    if places is None and record.left:
        raise ConfigError(f"label set {record.name}: expected all {record.drawn} images to be labelled, {left}. The first "
                          f"{usable} in drawn order are: label:{record.name}@{usable}. Label the rest by `segsvc serve`, at "
                          "/label.")
    first, last = places or (1, record.drawn)
    if not 1 <= first <= last <= usable:
        raise ConfigError(f"label set {record.name}: expected places from 1 to {usable}, as so many of its images are "
                          f"labelled in drawn order, got {first} to {last}")
    return first, last
