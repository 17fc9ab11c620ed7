"""What people marked on the images of a run beside its candidates, such as objects that the model missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, union

from segsvc.ledger import label_rows
from segsvc.ledger.label_records import Label
from segsvc.ledger.opening import Ledger
from segsvc.ledger.runs import run_row
from segsvc.ledger.tables import IMAGES, LABELLINGS, LABELS
from segsvc.quality.agreement import consensus


@dataclass(frozen=True, slots=True)
class ImageLabels:
    """The objects that somebody marked on an image; whole: somebody said that these are all there are."""

    labels: tuple[Label, ...]
    whole: bool
    readers: tuple[str, ...]


def of_run(ledger: Ledger, run_id: str) -> dict[str, ImageLabels]:
    """What holds of the images of the run on which somebody marked something, by their ids. Raises Unknown."""
    with ledger.read() as conn:
        run = run_row(conn, run_id)
        marked = union(*(select(table.c.image_no).where(table.c.run_no == run.number, table.c.set_no.is_(None))
                         for table in (LABELS, LABELLINGS))).subquery()
        images = conn.execute(select(IMAGES.c.number, IMAGES.c.image_id).join(
            marked, marked.c.image_no == IMAGES.c.number).order_by(IMAGES.c.number)).all()
        return {image_id: _holds(list(label_rows.standing(conn, number, set_no=None, run_no=run.number).values()))
                for number, image_id in images}


def _holds(said: Sequence[label_rows.Standing]) -> ImageLabels:
    """Of those who said that it is done, else of all: an object that one of them marked is one."""
    done = [each for each in said if each.labelling is not None]
    counted = done or list(said)
    opinions = [label_rows.marked(each.labels) for each in counted]
    return ImageLabels(tuple(counted[person].labels[place] for person, place in consensus(opinions, at_least=1)),
                       bool(done), tuple(each.reader for each in counted))
