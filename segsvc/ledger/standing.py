"""What stands of a candidate: out of all that was ever decided of it, by whom it is read, and what came out.

Pure: from rows to a result. Decisions are only added; one that was withdrawn is passed over, and then the one before it of
the same person holds again. With one reader the latest verdict is the outcome. With two it is the side that first had two
of them: where the first two differ, a third decides. Who is unsure has read the candidate and leaves it to others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segsvc.ledger.records import Decider, Verdict

Row = Mapping[str, Any]  # of the table of decisions
TOTAL, DONE, UNSURE, WAITING = "total", "done", "unsure", "waiting_second"
OWED = "owed"  # readings that are still to be made
TWICE, AGREED = "twice", "agreed"  # candidates that two have read, and those in which they agree
GOLD_READ, GOLD_RIGHT = "gold_read", "gold_right"  # of one reader
_SAYS_YES = frozenset({Verdict.ACCEPTED.value, Verdict.EDITED.value})


@dataclass(frozen=True, slots=True)
class Standing:
    """readings: the row that holds of each reader, by time. outcome: the row whose verdict holds, None while it is open."""

    readings: tuple[Row, ...]
    outcome: Row | None

    @property
    def read_by(self) -> str:
        """Who has read it, as it stands in the queue: numbers of users in order, joined by commas."""
        return ",".join(str(number) for number in sorted(row["user_id"] for row in self.readings))

    @property
    def outcome_verdict(self) -> str | None:
        found: str | None = self.outcome["verdict"] if self.outcome is not None else None
        return found

    def of(self, user_id: int) -> Row | None:
        """The reading of that reader that holds."""
        return next((row for row in self.readings if row["user_id"] == user_id), None)


def undone_ids(rows: Sequence[Row]) -> frozenset[str]:
    """The decisions that others among these withdrew."""
    return frozenset(row["undoes"] for row in rows if row["undoes"] is not None)


def stand(rows: Sequence[Row], *, readers: int) -> Standing:
    """What stands after these rows of one candidate, oldest first."""
    undone = undone_ids(rows)
    latest: dict[int, Row] = {}
    for row in rows:
        if row["decider"] == Decider.PERSON and row["verdict"] != Verdict.WITHDRAWN and row["decision_id"] not in undone:
            latest[row["user_id"]] = row
    readings = tuple(sorted(latest.values(), key=lambda row: int(row["number"])))
    return Standing(readings, _outcome(_decisive(readings), readers))


def says_yes(verdict: str) -> bool:
    """Whether the verdict says that the candidate is what its class says."""
    return verdict in _SAYS_YES


def _decisive(readings: Sequence[Row]) -> list[Row]:
    return [row for row in readings if row["verdict"] != Verdict.UNSURE]


def _outcome(decisive: Sequence[Row], readers: int) -> Row | None:
    if readers == 1:
        return decisive[-1] if decisive else None
    sides: dict[bool, list[Row]] = {True: [], False: []}
    for row in decisive:
        side = sides[says_yes(row["verdict"])]
        side.append(row)
        if len(side) == readers:
            edited = [each for each in side if each["verdict"] == Verdict.EDITED]
            return (edited or side)[-1]
    return None


def tallies(standing: Standing, *, readers: int, gold: str | None) -> Counter[tuple[str, int]]:
    """What the candidate adds to the tallies of its run: (name, user_id or 0) -> count."""
    found: Counter[tuple[str, int]] = Counter()
    if gold is not None:
        for row in standing.readings:
            found[GOLD_READ, row["user_id"]] = 1
            right = row["verdict"] != Verdict.UNSURE and says_yes(row["verdict"]) == says_yes(gold)
            found[GOLD_RIGHT, row["user_id"]] = int(right)
        return found
    decisive, is_open = _decisive(standing.readings), standing.outcome is None
    found[TOTAL, 0] = 1
    found[DONE, 0] = int(not is_open)
    found[UNSURE, 0] = int(is_open and len(decisive) < len(standing.readings))
    found[WAITING, 0] = int(is_open and readers == 2 and bool(decisive))
    found[OWED, 0] = max(1, readers - len(decisive)) if is_open else 0
    if len(decisive) >= 2:
        found[TWICE, 0] = 1
        found[AGREED, 0] = int(says_yes(decisive[0]["verdict"]) == says_yes(decisive[1]["verdict"]))
    return found
