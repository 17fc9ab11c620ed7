"""What whole images tell that people labelled: on how many of a run's images an object is not flagged, at the most.

The images of a label set are a random sample of the run that it was drawn from. An object is missed if no candidate that a
rule accepts or a person decides, as the bands were when the set was drawn, finds it. What was drawn and is not labelled yet,
or cannot be read, counts as an image with a miss of every class.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select

from segsvc.ledger import labelled
from segsvc.ledger.label_records import Label, LabelSet, ShownCandidate
from segsvc.ledger.label_rows import shape_of
from segsvc.ledger.label_sets import all_sets, candidates_of, set_row
from segsvc.ledger.missed import CONFIDENCE
from segsvc.ledger.opening import Ledger
from segsvc.ledger.runs import find
from segsvc.ledger.tables import LABEL_SETS, LABELLINGS, LABELS, SAMPLED
from segsvc.quality.matching import Shape, finds, measured
from segsvc.quality.missed import Audited, Missed, MissedImages, bound_missed


def missed_images(ledger: Ledger, run_id: str, confidence: float = CONFIDENCE) -> tuple[MissedImages, ...]:
    """Of each label set that was drawn from the run and whose labelling was begun, the newest first. Raises Unknown."""
    find(ledger, run_id)
    return tuple(MissedImages(record.name, record.grouped_by or "image", _of_set(ledger, record, confidence))
                 for record in all_sets(ledger) if record.run_id == run_id and record.first_open != 1 and record.drawn)


def labelling_state(ledger: Ledger) -> tuple[int, ...]:
    """What tells whether anything was drawn or labelled since: as long as it is the same, so are the bounds of every run."""
    with ledger.read() as conn:
        newest = (conn.execute(select(func.max(table.c.number))).scalar() or 0 for table in (LABELLINGS, LABELS, LABEL_SETS))
        return (*newest, conn.execute(select(func.sum(LABEL_SETS.c.drawn_units))).scalar() or 0)


def _of_set(ledger: Ledger, record: LabelSet, confidence: float) -> Missed:
    usable = record.drawn if record.first_open is None else record.first_open - 1
    images = {each.position: each for each in labelled.images(ledger, record.name, places=(1, usable))}
    missed: dict[str, set[str]] = {name: set() for name in record.class_names}  # units
    units, unread = set[str](), set[str]()
    with ledger.read() as conn:
        sampled = conn.execute(select(SAMPLED.c.place, SAMPLED.c.unit, SAMPLED.c.candidates).where(
            SAMPLED.c.set_no == set_row(conn, record.name).number)).all()
    for place, unit, candidates in sampled:
        units.add(unit)
        if place not in images:
            unread.add(unit)
            continue
        for name in _missed_classes(labelled.agreed(record, images[place]), candidates_of(candidates) or ()):
            missed[name].add(unit)
    return bound_missed([Audited(name, record.frame.units, len(units), len(missed[name] - unread),
                                 len(units - missed[name] - unread), 0) for name in record.class_names],
                        confidence=confidence, together=False)


def _missed_classes(labels: Sequence[Label], candidates: Sequence[ShownCandidate]) -> set[str]:
    """The classes of which some object is found by no candidate, by the rule of found."""
    missed = set()
    for name in {each.class_name for each in labels}:
        shapes = [shape_of(each) for each in labels if each.class_name == name]
        own = [Shape(each.box, each.mask_rle.encode() if each.mask_rle is not None else None)
               for each in candidates if each.class_name == name]
        objects = [shape for shape in shapes if shape is not None]
        if not own or (objects and not finds(*measured(own, objects)).any(axis=0).all()):
            missed.add(name)
    return missed
