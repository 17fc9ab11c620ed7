"""What a ledger knows of a run that its report shows."""

from __future__ import annotations

from dataclasses import dataclass

from segsvc.ledger.deciders import decided_by
from segsvc.ledger.missed import missed
from segsvc.ledger.opening import Ledger
from segsvc.ledger.pace import pace
from segsvc.ledger.records import DecidedBy
from segsvc.ledger.runs import find
from segsvc.quality.cost import ASSUMED, Pace, Reading
from segsvc.quality.missed import Missed
from segsvc.settings import settings


@dataclass(frozen=True, slots=True)
class Reviewed:
    """Who decided what, how long a decision takes, how candidates are read, and what the audit says of what was rejected."""

    decided: tuple[DecidedBy, ...]
    pace: Pace
    reading: Reading
    missed: Missed | None


def reviewed(ledger: Ledger, run_id: str) -> Reviewed:
    """What stands of the run now. Raises Unknown."""
    run = find(ledger, run_id)
    return Reviewed(decided_by(ledger, run_id), pace(ledger, run_id=run_id, model_digest=run.model_digest),
                    Reading(run.policy.readers, run.policy.audit_share), missed(ledger, run_id))


def not_reviewed() -> Reviewed:
    """Of a run that no ledger holds: what the settings say, and the rest assumed."""
    review = settings().review
    return Reviewed((), ASSUMED, Reading(review.readers, review.audit_share), None)
