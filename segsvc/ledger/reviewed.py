"""What a ledger knows of a run that its report shows; nothing of the database is loaded for it."""

from __future__ import annotations

from dataclasses import dataclass

from segsvc.ledger.records import DecidedBy
from segsvc.quality.cost import ASSUMED, Pace, Reading
from segsvc.quality.missed import Missed, MissedImages
from segsvc.settings import settings


@dataclass(frozen=True, slots=True)
class Reviewed:
    """Who decided what, how long a decision takes, how candidates are read, and what the audit says of what was rejected,
    and whole images that people labelled."""

    decided: tuple[DecidedBy, ...]
    pace: Pace
    reading: Reading
    missed: Missed | None
    missed_images: tuple[MissedImages, ...]


def not_reviewed() -> Reviewed:
    """Of a run that no ledger holds: what the settings say, and the rest assumed."""
    review = settings().review
    return Reviewed((), ASSUMED, Reading(review.readers, review.audit_share), None, ())
