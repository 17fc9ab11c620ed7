"""How many objects rules rejected, at the most: out of an audit, in which people read a random sample of what was rejected.

What is drawn and not read yet counts as an object, and so does what a reader was unsure of. So the bound holds at any time
and in whatever order people read: it only falls as they go on, and once all are read it is the exact one of the sample.
Objects that no stored candidate shows are in no audit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Audited:
    """What was rejected of a class, and what became of the sample: `drawn` of the `rejected`, read as objects, as none, or
    unsure; the rest is not read yet. Of whole images: all of a run, and those with a missed object among the drawn ones."""

    class_name: str
    rejected: int
    drawn: int
    objects: int
    nothing: int
    unsure: int

    @property
    def left(self) -> int:
        """How many of the drawn ones are still to be read."""
        return self.drawn - self.objects - self.nothing - self.unsure

    @property
    def counted(self) -> int:
        """How many of the drawn ones count as objects."""
        return self.drawn - self.nothing


@dataclass(frozen=True, slots=True)
class MissedBound:
    """At most so many of the rejected candidates are objects."""

    audited: Audited
    at_most: int


@dataclass(frozen=True, slots=True)
class Missed:
    """The bounds of a run, which hold together with `confidence`. all_classes: of all together, None of one class."""

    confidence: float
    classes: tuple[MissedBound, ...]
    all_classes: MissedBound | None

    @property
    def rows(self) -> tuple[MissedBound, ...]:
        """The classes, and below them all of them together where there are several."""
        return self.classes if self.all_classes is None else (*self.classes, self.all_classes)

    @property
    def whole(self) -> MissedBound | None:
        """What is said of all classes together; None where nothing was rejected."""
        return self.rows[-1] if self.rows else None


@dataclass(frozen=True, slots=True)
class MissedImages:
    """The bounds of a label set that was drawn from a run, by class; unit: what they count, images or groups of them."""

    set_name: str
    unit: str
    missed: Missed


def bound_missed(audited: Sequence[Audited], *, confidence: float, together: bool = True) -> Missed:
    """The bounds of all classes, and of all `together`; what may go wrong is divided evenly among them (Bonferroni).

    The sample must be drawn from each class's rejected candidates so that, given its size, each choice is as likely: as
    `ledger.selecting` draws, by a hash of the candidate.
    """
    from segsvc.quality.bounds import most_members  # it is compiled: not for those who only read results

    several = together and len(audited) > 1
    delta = (1 - confidence) / (len(audited) + several) if audited else 1 - confidence

    def bound(each: Audited) -> MissedBound:
        return MissedBound(each, most_members(each.counted, each.drawn, each.rejected, delta=delta))

    whole = Audited("", *(sum(getattr(each, name) for each in audited) for name in (
        "rejected", "drawn", "objects", "nothing", "unsure")))
    return Missed(confidence, tuple(bound(each) for each in audited), bound(whole) if several else None)
