"""The queue: candidates are given out to those who read, each to one person at a time.

What is given out is leased, and given to others once the lease ends. Candidates with a known answer are strewn in.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from sqlalchemy import BigInteger, BindParameter, Connection, Integer, and_, bindparam, delete, exists, insert, or_, select

from segsvc import clock
from segsvc.ledger import lanes
from segsvc.ledger.candidates import decision_rows, items, numbers_of
from segsvc.ledger.errors import Refused
from segsvc.ledger.opening import Ledger
from segsvc.ledger.prepared import Prepared
from segsvc.ledger.records import Item, Order, Reader
from segsvc.ledger.runs import RunRow, class_number, run_row
from segsvc.ledger.standing import stand
from segsvc.ledger.tables import CLASSES, DECISIONS, ENTRIES, LEASES, QUEUE, entry_number
from segsvc.ledger.writer import Writing

MOST_LEASED = 500
_ME: BindParameter[int] = bindparam("user_id")
_LEASED = and_(LEASES.c.run_no == QUEUE.c.run_no, LEASES.c.candidate_no == QUEUE.c.candidate_no)
_OF_LANE = (QUEUE.c.run_no == bindparam("run_no")) & (QUEUE.c.lane == bindparam("lane"))
# the first of a lane that others do not hold
_FIRST_FREE = select(QUEUE.c.place, QUEUE.c.candidate_no).select_from(QUEUE.outerjoin(LEASES, _LEASED)).where(
    _OF_LANE, QUEUE.c.read_by == bindparam("read_by"), or_(LEASES.c.user_id.is_(None), LEASES.c.user_id == _ME),
).order_by(QUEUE.c.place, QUEUE.c.candidate_no).limit(bindparam("most", type_=Integer()))
_FREE = Prepared(_FIRST_FREE)
# + 0: by the few decisions of the candidate, and not by all that the reader ever made
_FREE_GOLD = Prepared(_FIRST_FREE.where(~exists().where(
    DECISIONS.c.candidate_no == QUEUE.c.candidate_no, DECISIONS.c.user_id + 0 == _ME)))
_SETS = select(QUEUE.c.read_by).where(_OF_LANE).order_by(QUEUE.c.read_by).limit(1)
_FIRST_SET, _NEXT_SET = Prepared(_SETS), Prepared(_SETS.where(QUEUE.c.read_by > bindparam("after")))
_END_OLD = Prepared(delete(LEASES).where(LEASES.c.until <= bindparam("now")))
_END_SET_BACK = Prepared(delete(LEASES).where(LEASES.c.run_no == bindparam("run_no"), LEASES.c.until > bindparam("latest")))
_IS_LEASE = (LEASES.c.run_no == bindparam("run_no")) & (LEASES.c.candidate_no == bindparam("candidate_no"))
_HOLDER = Prepared(select(LEASES.c.user_id).where(_IS_LEASE))
_END, _HOLD = Prepared(delete(LEASES).where(_IS_LEASE)), Prepared(insert(LEASES))
_GIVE_BACK = Prepared(delete(LEASES).where(LEASES.c.user_id == _ME, LEASES.c.candidate_no == bindparam("candidate_no")))
_OWN = Prepared(select(LEASES.c.candidate_no, ENTRIES.c.class_no).join(
    ENTRIES, ENTRIES.c.number == LEASES.c.candidate_no + bindparam("base", type_=BigInteger())).where(
        LEASES.c.run_no == bindparam("run_no"), LEASES.c.user_id == _ME).order_by(LEASES.c.until, LEASES.c.candidate_no))


def lease(ledger: Ledger, reader: Reader, run_id: str, *, order: Order = Order.UNCERTAIN, class_name: str | None = None,
          n: int = 5, holding: Sequence[str] = ()) -> list[Item]:
    """The next `n` candidates for this reader, fewer where there are no more.

    holding: those that the reader has already been given and not decided; their leases are renewed, and they are not given
    again. Others that the reader was given come first. None that the reader has read, and none that another holds. Raises
    Unknown for a run, Refused for numbers that are none.
    """
    if not 0 <= n <= MOST_LEASED or len(holding) > MOST_LEASED:
        raise Refused(f"lease: expected up to {MOST_LEASED} candidates to be given and held, got {n} and {len(holding)}")
    with ledger.read() as conn:
        run = run_row(conn, run_id)
        lane_class = class_number(conn, class_name) if class_name is not None else None
    if class_name is not None and lane_class is None:
        n = 0
    numbers = ledger.write(lambda writing: _lease(writing, reader, run, _Wanted(order, lane_class, n), holding))
    with ledger.read() as conn:
        return items(conn, reader, run, numbers)


def release(ledger: Ledger, reader: Reader, candidate_ids: Sequence[str]) -> None:
    """Gives candidates back that this reader holds, so that others are given them at once."""
    if len(candidate_ids) > MOST_LEASED:
        raise Refused(f"release: expected up to {MOST_LEASED} candidates, got {len(candidate_ids)}")

    def work(writing: Writing) -> None:
        _GIVE_BACK.run_all(writing.conn, [{"user_id": reader.user_id, "candidate_no": number}
                                          for number in numbers_of(writing.conn, candidate_ids)])

    ledger.write(work)


class _Wanted:
    """In which order, of which class (None: of all), how many."""

    def __init__(self, order: Order, class_no: int | None, n: int) -> None:
        self.order, self.class_no, self.n = order, class_no, n


def _lease(writing: Writing, reader: Reader, run: RunRow, wanted: _Wanted, holding: Sequence[str]) -> list[int]:
    conn, until = writing.conn, writing.now + run.record.policy.lease_s * 1_000_000
    _END_OLD.run(conn, {"now": writing.now})
    _END_SET_BACK.run(conn, {"run_no": run.number, "latest": until + clock.APART_US})  # given before the clock was set back
    held = numbers_of(conn, holding)
    _renew(conn, reader, run, held, until)
    given = _given(conn, reader, run, wanted, set(held))
    passed = {*held, *given}
    new = _strewn(conn, reader, run, passed, _next(conn, reader, run, wanted, len(passed)))
    found = list(islice(chain(given, new), wanted.n))
    _hold(conn, reader, run, found, until)
    return found


def _renew(conn: Connection, reader: Reader, run: RunRow, held: list[int], until: int) -> None:
    """Renews what the reader holds, and takes up again what ended meanwhile and nobody else was given, if it is open."""
    holders = {number: row["user_id"] for number in held
               for row in _HOLDER.rows(conn, run_no=run.number, candidate_no=number)}
    ended = [number for number in held if number not in holders]
    read = {number for number, rows in decision_rows(conn, ended).items()
            if stand(rows, readers=1).of(reader.user_id) is not None}
    _hold(conn, reader, run, [number for number in held if number not in read
                              and holders.get(number, reader.user_id) == reader.user_id], until)


def _given(conn: Connection, reader: Reader, run: RunRow, wanted: _Wanted, held: set[int]) -> list[int]:
    """What the reader was given before and no longer knows of, as after a reload."""
    return [row["candidate_no"] for row in _OWN.rows(
        conn, run_no=run.number, user_id=reader.user_id, base=entry_number(run.number, 0))
            if row["candidate_no"] not in held and wanted.class_no in (None, row["class_no"])]


def _hold(conn: Connection, reader: Reader, run: RunRow, numbers: Sequence[int], until: int) -> None:
    leases = [{"run_no": run.number, "candidate_no": number, "user_id": reader.user_id, "until": until}
              for number in numbers]
    _END.run_all(conn, leases)
    _HOLD.run_all(conn, leases)


def _next(conn: Connection, reader: Reader, run: RunRow, wanted: _Wanted, held: int) -> Iterator[int]:
    """The numbers of what is still to be read, in that order, without what others hold."""
    most = wanted.n + held
    if wanted.class_no is not None:
        at_random = wanted.order is Order.RANDOM
        yield from _of_lane(conn, reader, run, lanes.class_lane(wanted.class_no, at_random=at_random), most)
    elif wanted.order is Order.CLASS:
        by_name = conn.execute(select(CLASSES.c.number).where(CLASSES.c.name.in_(run.record.class_names)).order_by(
            CLASSES.c.name)).scalars().all()
        for number in by_name:
            yield from _of_lane(conn, reader, run, lanes.class_lane(number, at_random=False), most)
    else:
        lane = lanes.RANDOM if wanted.order is Order.RANDOM else lanes.UNCERTAIN
        yield from _of_lane(conn, reader, run, lane, most)


def _of_lane(conn: Connection, reader: Reader, run: RunRow, lane: int, most: int) -> Iterator[int]:
    """The first so many of a lane that the reader has not read: those of all sets of readers merged by their place."""
    own = str(reader.user_id)
    streams = [_of_readers(conn, reader, run, lane, read_by, most) for read_by in _read_by(conn, run, lane)
               if own not in read_by.split(",")]
    for _, number in heapq.merge(*streams):
        yield number


def _read_by(conn: Connection, run: RunRow, lane: int) -> Iterator[str]:
    """The sets of readers in a lane, of which there are few, by a step of the index to each."""
    found = _FIRST_SET.first(conn, run_no=run.number, lane=lane)
    while found is not None:
        yield found["read_by"]
        found = _NEXT_SET.first(conn, run_no=run.number, lane=lane, after=found["read_by"])


def _of_readers(conn: Connection, reader: Reader, run: RunRow, lane: int, read_by: str, most: int) -> list[tuple[int, int]]:
    return [(row["place"], row["candidate_no"]) for row in _FREE.rows(
        conn, run_no=run.number, lane=lane, read_by=read_by, user_id=reader.user_id, most=most)]


def _strewn(conn: Connection, reader: Reader, run: RunRow, held: set[int], numbers: Iterator[int]) -> Iterator[int]:
    """The numbers without those held, and before some of them one with a known answer that the reader has not read."""
    policy, golds = run.record.policy, None
    for number in numbers:
        if number in held:
            continue
        drawn = hashlib.blake2b(f"{policy.seed}:{reader.user_id}:{number}".encode(), digest_size=8).digest()
        if int.from_bytes(drawn) < policy.gold_share * 2**64:
            golds = _golds(conn, reader, run) if golds is None else golds
            known = next((each for each in golds if each not in held), None)
            if known is not None:
                yield known
        yield number


def _golds(conn: Connection, reader: Reader, run: RunRow) -> Iterator[int]:
    return iter([row["candidate_no"] for row in _FREE_GOLD.rows(
        conn, run_no=run.number, lane=lanes.GOLD, read_by=lanes.NOBODY, user_id=reader.user_id, most=MOST_LEASED)])
