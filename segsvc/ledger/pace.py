"""How long a person takes for a decision: by the latest of a run, else of its model, else of the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, select

from segsvc.errors import ConfigError
from segsvc.ledger.opening import Ledger, open_ledger, there_is_one
from segsvc.ledger.records import Decider, Verdict
from segsvc.ledger.tables import DECISIONS, RUNS
from segsvc.quality.cost import ASSUMED, Pace, PaceBasis

_LATEST = 1000  # decisions
_FEWEST = 20  # fewer say little
_WORK = select(DECISIONS.c.worked_us).where(
    DECISIONS.c.decider == Decider.PERSON.value, DECISIONS.c.verdict != Verdict.WITHDRAWN.value,
    DECISIONS.c.worked_us.is_not(None)).order_by(DECISIONS.c.number.desc()).limit(_LATEST)


def pace(ledger: Ledger, *, run_id: str | None = None, model_digest: str | None = None) -> Pace:
    """The seconds of a decision in that run, else in runs of that model, else in any; assumed where there are too few."""
    with ledger.read() as conn:
        runs = conn.execute(select(RUNS.c.number, RUNS.c.run_id, RUNS.c.model_digest).order_by(RUNS.c.number.desc())).all()
        own = [number for number, id_, _ in runs if id_ == run_id]
        of_model = [number for number, _, digest in runs if digest == model_digest]
        for basis, numbers in ((PaceBasis.RUN, own), (PaceBasis.MODEL, of_model), (PaceBasis.LEDGER, None)):
            seconds = _seconds(conn, numbers)
            if len(seconds) >= _FEWEST:
                return Pace.of(basis, seconds)
    return ASSUMED


def pace_at(place: str, say: Callable[[str], None], *, run_id: str | None = None, model_digest: str | None = None) -> Pace:
    """The same where there is a ledger. One that cannot be used is told of, and the seconds are assumed."""
    if not there_is_one(place):
        return ASSUMED
    try:
        with open_ledger(place) as ledger:
            return pace(ledger, run_id=run_id, model_digest=model_digest)
    except ConfigError as error:
        say(f"note: seconds of a decision are assumed, as the ledger cannot be used: {error}")
        return ASSUMED


def _seconds(conn: Connection, run_nos: Sequence[int] | None) -> list[float]:
    """Of the latest decisions in these runs, or in all: of the newest runs first, so that each is found by its index."""
    if run_nos is None:
        return [us / 1e6 for us in conn.execute(_WORK).scalars()]
    found: list[float] = []
    for number in run_nos:
        if len(found) < _LATEST:
            found += [us / 1e6 for us in conn.execute(_WORK.where(DECISIONS.c.run_no == number)).scalars()]
    return found
