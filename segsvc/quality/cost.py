"""What each recall that a calibration shows costs: candidates that people review, hours of one person; and what buys more.

Pure: what rules do at a recall is counted by the caller on candidates that are there (`LoadOf`), or expected as the
calibration counted it (`expected`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, median

from segsvc.operating_point import OperatingPoint, Promise, Proof

_A_THOUSAND = 1000


class PaceBasis(StrEnum):
    """What the seconds of a decision were measured on."""

    RUN = "run"  # decisions of this run
    MODEL = "model"  # of runs of this model
    LEDGER = "ledger"  # of other runs
    ASSUMED = "assumed"  # of none: nobody has decided enough yet


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a person a decision. decisions: how many were measured; work is counted by the mean."""

    basis: PaceBasis
    decisions: int
    median_s: float
    mean_s: float

    @classmethod
    def of(cls, basis: PaceBasis, seconds: Sequence[float]) -> Pace:
        """As it was measured, on one decision at least."""
        return cls(basis, len(seconds), median(seconds), fmean(seconds))

    @property
    def says(self) -> str:
        """In words."""
        if self.basis is PaceBasis.ASSUMED:
            return f"{self.mean_s:.1f} s a decision: assumed, as too few were measured"
        whose = {PaceBasis.RUN: "in this run", PaceBasis.MODEL: "in runs of this model"}.get(self.basis, "in other runs")
        return f"{self.mean_s:.1f} s a decision (median {self.median_s:.1f}), by the latest {self.decisions:,} {whose}"


ASSUMED = Pace(PaceBasis.ASSUMED, 0, 2.0, 2.0)  # a candidate that is looked at and answered by a key


@dataclass(frozen=True, slots=True)
class Reading:
    """How candidates are read: by how many people each, and which share of what rules decide (the audit)."""

    readers: int = 1
    audit_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """How many candidates are for review, and how many rules accept and reject; None where that was not counted."""

    review: float
    accepted: float
    rejected: float | None

    def audit(self, share: float) -> float:
        """How many of those that rules decide are expected to be drawn for people."""
        return share * (self.accepted + (self.rejected or 0.0))


LoadOf = Callable[[OperatingPoint], Load]


@dataclass(frozen=True, slots=True)
class CostAt:
    """What a recall costs. point: the calibration with its bands; recall_measured: flagged of the calibration's objects, all
    classes together; audit: candidates that are drawn from what rules decide; hours: of one person, for all readings."""

    recall: float
    recall_measured: float
    point: OperatingPoint
    load: Load
    audit: float
    hours: float


@dataclass(frozen=True, slots=True)
class Beyond:
    """A recall that is not shown, and about how many units and images more would do, labelled; None: no number would."""

    recall: float
    more_units: int | None
    more_images: int | None


@dataclass(frozen=True, slots=True)
class Cost:
    """The curve: what is shown, by rising recall, and what is not. images: that the loads are of."""

    images: int
    rows: tuple[CostAt, ...]
    beyond: tuple[Beyond, ...]
    promise: Promise
    pace: Pace

    def at(self, recall: float) -> CostAt | None:
        """The row of a recall or of the next stricter one; None where no row is as strict."""
        return next((row for row in self.rows if row.recall >= recall - 1e-9), None)

    @property
    def next_beyond(self) -> Beyond | None:
        """The lowest recall above all that are shown."""
        return self.beyond[0] if self.beyond else None


def cost(point: OperatingPoint, load_of: LoadOf, *, images: int, pace: Pace, reading: Reading) -> Cost:
    """The curve of a calibration, where `load_of` says what rules do with the candidates of so many images.

    A recall is shown if each class shows it: all classes hold jointly, as in `OperatingPoint.asked`. Raises ValueError for a
    point without a promise.
    """
    if point.promise is None:
        raise ValueError("expected a calibration, got an operating point without a promise")
    rows = tuple(_row(point, recall, load_of, pace, reading) for recall in _tried(point)
                 if all(proof.recall_at(recall) is not None for proof in point.proofs.values()))
    highest = rows[-1].recall if rows else 0.0
    found = (_beyond(point.proofs.values(), recall, point.promise) for recall in _tried(point) if recall > highest)
    return Cost(images, rows, tuple(each for each in found if each is not None), point.promise, pace)


def expected(images: int) -> LoadOf:
    """What rules do with the candidates of so many images, as many a thousand as the calibration counted."""

    def load_of(point: OperatingPoint) -> Load:
        flagged = accepted = stored = 0.0
        is_counted = True
        for name, proof in point.proofs.items():
            at = point.classes[name]
            flagged += proof.flagged_per_1000_images(at)
            accepted += next((row.accepted_per_1000_images for row in proof.precisions if row.accept_at == at.accept_at),
                             0.0)
            is_counted &= proof.stored_per_1000_images is not None
            stored += proof.stored_per_1000_images or 0.0
        thousands = images / _A_THOUSAND
        return Load(max(0.0, flagged - accepted) * thousands, accepted * thousands,
                    max(0.0, stored - flagged) * thousands if is_counted else None)

    return load_of


def says(found: Cost, recall: float) -> str:
    """The curve in a sentence: what a recall costs, and what the next one would take."""
    row = found.at(recall)
    if row is None:
        return f"recall {recall:g} is not shown"
    review, images = _counted(row.load.review, "candidate"), _counted(found.images, "image")
    told = f"at recall {row.recall:g} you will review {review} of {images}, {time_of(row.hours)}"
    after = found.next_beyond
    if after is None:
        return told
    if after.more_units is None or after.more_images is None:
        return f"{told}; no number of images like these would show {after.recall:g}"
    more = f"{_counted(after.more_units, found.promise.unit)} more"
    of_images = f" (about {_counted(after.more_images, 'image')})" if found.promise.unit != "image" else ""
    return f"{told}; to promise {after.recall:g} label {more}{of_images}"


def time_of(hours: float) -> str:
    """Hours of a person, in words."""
    if hours < 1:
        minutes = hours * 60
        return "under a minute" if minutes < 1 else _counted(round(minutes), "minute")
    return f"{hours:.1f} hours" if hours < 10 else f"{hours:,.0f} hours"


def _tried(point: OperatingPoint) -> list[float]:
    """Every recall that some class was tried for, rising."""
    proofs = point.proofs.values()
    return sorted({row.recall for proof in proofs for row in proof.recalls} |
                  {row.recall for proof in proofs for row in proof.beyond})


def _row(point: OperatingPoint, recall: float, load_of: LoadOf, pace: Pace, reading: Reading) -> CostAt:
    asked = point.asked(recall, None)
    load = load_of(asked)
    shown = [(row.recall_measured, proof.objects) for proof in point.proofs.values()
             if (row := proof.recall_at(recall)) is not None]
    measured = sum(share * objects for share, objects in shown) / sum(objects for _, objects in shown)
    audit = load.audit(reading.audit_share)
    return CostAt(recall, measured, asked, load, audit, reading.readers * (load.review + audit) * pace.mean_s / 3600)


def _beyond(proofs: Iterable[Proof], recall: float, promise: Promise) -> Beyond | None:
    """The most that any class is short of; None where that was not counted."""
    units = 0
    for proof in proofs:
        if proof.recall_at(recall) is not None:
            continue
        short = next((each for each in proof.beyond if each.recall == recall), None)
        if short is None:
            return None
        if short.more_units is None:
            return Beyond(recall, None, None)
        units = max(units, math.ceil(short.more_units * proof.units / max(1, proof.units_with_objects)))
    return Beyond(recall, units, math.ceil(units * promise.images / promise.units))


def _counted(n: float, what: str) -> str:
    return f"{n:,.0f} {what}" if round(n) == 1 else f"{n:,.0f} {what}s"
