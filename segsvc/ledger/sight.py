"""What one reader may see of a candidate, and the tag of that.

A reader who has decided sees the scores, and why the candidate was given out. Before that they are hidden where the run is
blind; and from reviewers also where it has an audit sample, since a score outside of the review band would tell it. What
others decided is seen once the candidate is closed, or where neither blindness nor double reading hides it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segsvc.ledger.records import Reader, ReviewPolicy, Role
from segsvc.ledger.standing import Row, Standing


@dataclass(frozen=True, slots=True)
class Sight:
    """rows: the decisions that are seen, oldest first. scores: whether score, probability and band are seen. origin:
    whether it is said that the candidate is of the audit sample, or has a known answer."""

    rows: tuple[Row, ...]
    scores: bool
    origin: bool
    tag: str


def see(reader: Reader, policy: ReviewPolicy, entry: Mapping[str, Any], rows: Sequence[Row], standing: Standing, *,
        audited: bool) -> Sight:
    """What the reader may see. entry: the row of entries; audited: the run has an audit sample."""
    decided = standing.of(reader.user_id) is not None
    closed = standing.outcome is not None and entry["gold"] is None
    others = closed or (entry["gold"] is None and not policy.blind and policy.readers == 1)
    seen = tuple(row for row in rows if others or row["user_id"] == reader.user_id)
    scores, origin = decided or closed or not hides(reader, policy, audited=audited), decided or closed
    digest = hashlib.sha256(f"{entry['candidate_id']}:{scores:d}".encode())
    for row in seen:
        digest.update(b":" + row["decision_id"].encode())
    return Sight(seen, scores, origin, digest.hexdigest()[:32])


def hides(reader: Reader, policy: ReviewPolicy, *, audited: bool) -> bool:
    """Whether scores are hidden from the reader until decided."""
    return policy.blind or (audited and reader.role is Role.REVIEWER)
