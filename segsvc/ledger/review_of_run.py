"""What stands of a run's review now, for its report."""

from __future__ import annotations

from segsvc.ledger.deciders import decided_by
from segsvc.ledger.missed import missed
from segsvc.ledger.missed_images import missed_images
from segsvc.ledger.opening import Ledger
from segsvc.ledger.pace import pace
from segsvc.ledger.reviewed import Reviewed
from segsvc.ledger.runs import find
from segsvc.quality.cost import Reading


def review_of(ledger: Ledger, run_id: str) -> Reviewed:
    """All that the ledger knows of the run. Raises Unknown."""
    run = find(ledger, run_id)
    return Reviewed(decided_by(ledger, run_id), pace(ledger, run_id=run_id, model_digest=run.model_digest),
                    Reading(run.policy.readers, run.policy.audit_share), missed(ledger, run_id),
                    missed_images(ledger, run_id))
