"""The runs of the ledger."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select

from segsvc.ledger.errors import Unknown
from segsvc.ledger.opening import Ledger
from segsvc.ledger.prepared import Prepared
from segsvc.ledger.records import ReviewPolicy, RunRecord
from segsvc.ledger.tables import CLASSES, ENTRIES, RUNS, as_time
from segsvc.settings import settings

_SEED_BITS = 53  # as many as every reader of JSON keeps
_RUN = Prepared(select(RUNS).where(RUNS.c.run_id == bindparam("run_id")))
_RUNS_OF = Prepared(select(RUNS).join(ENTRIES, ENTRIES.c.run_no == RUNS.c.number).where(
    RUNS.c.imported_at.is_not(None), ENTRIES.c.candidate_no == bindparam("candidate_no")).order_by(RUNS.c.number.desc()))


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run and its number in the ledger; imports: how often it was taken in."""

    number: int
    record: RunRecord
    imports: int


def all_runs(ledger: Ledger) -> list[RunRecord]:
    """The runs whose import is through, the newest first."""
    with ledger.read() as conn:
        rows = conn.execute(select(RUNS).where(RUNS.c.imported_at.is_not(None)).order_by(RUNS.c.number.desc())).mappings()
        return [_run(row).record for row in rows]


def find(ledger: Ledger, run_id: str) -> RunRecord:
    """The run of that id. Raises Unknown."""
    with ledger.read() as conn:
        return run_row(conn, run_id).record


def run_row(conn: Connection, run_id: str) -> RunRow:
    """The run of that id. Raises Unknown with the newest ones."""
    row = _RUN.first(conn, run_id=run_id.replace("\0", "").encode("utf-8", "replace").decode())
    if row is None or row["imported_at"] is None:
        newest = list(conn.execute(select(RUNS.c.run_id).where(RUNS.c.imported_at.is_not(None)).order_by(
            RUNS.c.number.desc()).limit(5)).scalars())
        raise Unknown(f"run: expected one of the ledger ({', '.join(newest) or 'it has none'}), got {run_id!r}")
    return _run(row)


def runs_of(conn: Connection, candidate_no: int) -> list[RunRow]:
    """The runs that a candidate is in, the newest first."""
    return [_run(row) for row in _RUNS_OF.rows(conn, candidate_no=candidate_no)]


def class_number(conn: Connection, name: str) -> int | None:
    """The number of a class; None where no candidate has it."""
    number: int | None = conn.execute(select(CLASSES.c.number).where(CLASSES.c.name == name)).scalar()
    return number


def policy_of(row: Mapping[Any, Any]) -> ReviewPolicy:
    """The policy in a row of runs."""
    return ReviewPolicy(row["readers"], bool(row["blind"]), row["audit_share"], row["gold_share"], row["seed"],
                        row["lease_s"])


def chosen_policy() -> ReviewPolicy:
    """The policy of a run that first comes in: as the settings say, with a seed that is drawn where they say none."""
    chosen = settings().review
    seed = chosen.seed if chosen.seed is not None else secrets.randbits(_SEED_BITS)
    return ReviewPolicy(**{**chosen.model_dump(), "seed": seed})


def policy_columns(policy: ReviewPolicy) -> dict[str, Any]:
    """The policy as columns of runs."""
    return {"readers": policy.readers, "blind": policy.blind, "audit_share": policy.audit_share,
            "gold_share": policy.gold_share, "seed": policy.seed, "lease_s": policy.lease_s}


def _run(row: Mapping[Any, Any]) -> RunRow:
    return RunRow(row["number"], RunRecord(
        run_id=row["run_id"], out=row["out"], input=row["input"], model=row["model"], model_digest=row["model_digest"],
        point_digest=row["point_digest"], point_wording=row["point_wording"],
        class_names=tuple(json.loads(row["class_names"])), policy=policy_of(row), imported_at=as_time(row["imported_at"]),
        review=row["review"], audit=row["audit"], accepted=row["accepted"], rejected=row["rejected"]), row["imports"])
