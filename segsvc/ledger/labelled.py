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


def images(ledger: Ledger, name: str, *, first: int | None = None) -> list[LabelledImage]:
    """The images of the set in drawn order, all or the first so many, without those that cannot be read.

    Raises Unknown, and ConfigError where some of them are still to be labelled: what is labelled already is no random
    sample of the set, as quick ones are labelled first; the first ones in drawn order are.
    """
    with ledger.read() as conn:
        row = set_row(conn, name)
        _check_finished(row.record, first)
        sampled = select(SAMPLED, SAMPLED.c.place.label("position"), *(IMAGES.c[each] for each in (
            "image_id", "version", "width_px", "height_px", "frames"))).join(
                IMAGES, IMAGES.c.number == SAMPLED.c.image_no).where(SAMPLED.c.set_no == row.number)
        if first is not None:
            sampled = sampled.where(SAMPLED.c.place <= first)
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


def _check_finished(record: LabelSet, first: int | None) -> None:
    usable = record.drawn if record.first_open is None else record.first_open - 1
    hint = f" The first {usable} in drawn order are: label:{record.name}@{usable}." if usable else ""
    if first is not None and not 1 <= first <= usable:
        raise ConfigError(f"label set {record.name}: expected 1 to {usable}, got {first}: so many of its images, in drawn "
                          "order, are labelled" if usable else f"label set {record.name}: expected labelled images, the "
                          f"first in drawn order is not labelled yet ({record.left} of {record.drawn} are left)")
    if first is None and record.left:
        are = "1 is left" if record.left == 1 else f"{record.left} are left"
        raise ConfigError(f"label set {record.name}: expected all {record.drawn} images to be labelled, {are}.{hint} Label "
                          "the rest by `segsvc serve`, at /label.")
