"""The audit sample of a run, counted by class, band and what came of it, as decisions come: so that no request counts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from segsvc.ledger import lanes
from segsvc.ledger.prepared import Prepared
from segsvc.ledger.runs import RunRow
from segsvc.ledger.standing import Standing, says_yes
from segsvc.ledger.tables import BAND_COUNTS, ENTRIES


class Outcome(StrEnum):
    """What came of a candidate of the sample; each is a column of `band_counts`."""

    OBJECT = "n_objects"
    NOTHING = "n_nothing"
    UNSURE = "n_unsure"
    LEFT = "n_unread"


def _by_one(column: str, by: int) -> Prepared:
    return Prepared(update(BAND_COUNTS).where(*(BAND_COUNTS.c[name] == bindparam(f"of_{name}")
                                                for name in ("run_no", "class_no", "band"))).values(
                                                    {column: BAND_COUNTS.c[column] + by}))


_ONE_MORE = {each: _by_one(each.value, 1) for each in Outcome}
_ONE_LESS = {each: _by_one(each.value, -1) for each in Outcome}


def outcome_of(standing: Standing, *, gold: str | None, readers: int) -> Outcome:
    """What came of a candidate of which this stands."""
    return _came(gold, standing.outcome_verdict, standing.read_by, readers)


def _came(gold: str | None, outcome: str | None, read_by: str, readers: int) -> Outcome:
    """By its known answer, or the verdict that holds, or who has read it without one."""
    verdict = gold if gold is not None else outcome
    if verdict is not None:
        return Outcome.OBJECT if says_yes(verdict) else Outcome.NOTHING
    return Outcome.UNSURE if read_by != lanes.NOBODY and readers == 1 else Outcome.LEFT


def move(conn: Connection, run: RunRow, entry: Mapping[str, Any], *, of: Outcome, to: Outcome) -> None:
    """Counts the entry under what came of it now, where it belongs to the sample that was drawn for the bands in force."""
    if of is to or not entry["audit"] or entry["import_no"] != run.imports:
        return
    key = {f"of_{name}": entry[name] for name in ("run_no", "class_no", "band")}
    _ONE_LESS[of].run(conn, key)
    _ONE_MORE[to].run(conn, key)


def counted(conn: Connection, run_no: int, *, import_no: int, readers: int) -> dict[tuple[int, str], Counter[Outcome]]:
    """The sample that this import has drawn, by class number and band, out of its entries."""
    columns = ENTRIES.c.class_no, ENTRIES.c.band, ENTRIES.c.gold, ENTRIES.c.outcome, ENTRIES.c.read_by
    found: dict[tuple[int, str], Counter[Outcome]] = {}
    for class_no, band, gold, outcome, read_by, count in conn.execute(select(*columns, func.count()).where(
            ENTRIES.c.run_no == run_no, ENTRIES.c.audit, ENTRIES.c.import_no == import_no).group_by(*columns)):
        came = _came(gold, outcome, read_by, readers)
        found.setdefault((class_no, band), Counter())[came] += count
    return found
