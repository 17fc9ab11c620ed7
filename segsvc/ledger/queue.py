"""The queue: candidates are given out to those who read, each to one person at a time.

What is given out is leased, and given to others once the lease ends. Candidates with a known answer are strewn in.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from sqlalchemy import Connection, and_, delete, exists, func, insert, or_, select, update

from segsvc.ledger import lanes
from segsvc.ledger.candidates import chunks, decision_rows, items
from segsvc.ledger.errors import Refused
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import Item, Order, Reader
from segsvc.ledger.runs import RunRow, class_number, run_row
from segsvc.ledger.standing import stand
from segsvc.ledger.tables import CLASSES, DECISIONS, ENTRIES, IDS, LEASES, QUEUE, entry_number
from segsvc.ledger.writer import Writing

MOST_LEASED = 500


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
        for some in chunks(_numbers(writing.conn, candidate_ids)):
            writing.conn.execute(delete(LEASES).where(LEASES.c.user_id == reader.user_id, LEASES.c.candidate_no.in_(some)))

    ledger.write(work)


class _Wanted:
    """In which order, of which class (None: of all), how many."""

    def __init__(self, order: Order, class_no: int | None, n: int) -> None:
        self.order, self.class_no, self.n = order, class_no, n


def _lease(writing: Writing, reader: Reader, run: RunRow, wanted: _Wanted, holding: Sequence[str]) -> list[int]:
    conn, until = writing.conn, writing.now + run.record.policy.lease_s * 1_000_000
    conn.execute(delete(LEASES).where(LEASES.c.until <= writing.now))
    held = _numbers(conn, holding)
    _renew(conn, reader, run, held, until)
    given = _given(conn, reader, run, wanted, set(held))
    passed = {*held, *given}
    new = _strewn(conn, reader, run, passed, _next(conn, reader, run, wanted, len(passed)))
    found = list(islice(chain(given, new), wanted.n))
    _hold(conn, reader, run, found, until)
    return found


def _numbers(conn: Connection, candidate_ids: Sequence[str]) -> list[int]:
    return list(conn.execute(select(IDS.c.candidate_no).where(IDS.c.candidate_id.in_(candidate_ids))).scalars()) if (
        candidate_ids) else []


def _renew(conn: Connection, reader: Reader, run: RunRow, held: list[int], until: int) -> None:
    """Renews what the reader holds, and takes up again what ended meanwhile and nobody else was given, if it is open."""
    own = set()
    for some in chunks(held):
        conn.execute(update(LEASES).where(LEASES.c.run_no == run.number, LEASES.c.user_id == reader.user_id,
                                          LEASES.c.candidate_no.in_(some)).values(until=until))
        own |= set(conn.execute(select(LEASES.c.candidate_no).where(
            LEASES.c.run_no == run.number, LEASES.c.candidate_no.in_(some))).scalars())
    ended = [number for number in held if number not in own]
    read = {number for number, rows in decision_rows(conn, ended).items()
            if stand(rows, readers=1).of(reader.user_id) is not None}
    _hold(conn, reader, run, [number for number in ended if number not in read], until)


def _given(conn: Connection, reader: Reader, run: RunRow, wanted: _Wanted, held: set[int]) -> list[int]:
    """What the reader was given before and no longer knows of, as after a reload."""
    own = select(LEASES.c.candidate_no).where(LEASES.c.run_no == run.number, LEASES.c.user_id == reader.user_id)
    if wanted.class_no is not None:
        own = own.join(ENTRIES, ENTRIES.c.number == LEASES.c.candidate_no + entry_number(run.number, 0)).where(
            ENTRIES.c.class_no == wanted.class_no)
    return [number for number in conn.execute(own.order_by(LEASES.c.until, LEASES.c.candidate_no)).scalars()
            if number not in held]


def _hold(conn: Connection, reader: Reader, run: RunRow, numbers: Sequence[int], until: int) -> None:
    if not numbers:
        return
    for some in chunks(numbers):  # those that the reader holds and asks for anew
        conn.execute(delete(LEASES).where(LEASES.c.run_no == run.number, LEASES.c.candidate_no.in_(some)))
    conn.execute(insert(LEASES), [{"run_no": run.number, "candidate_no": number, "user_id": reader.user_id, "until": until}
                                  for number in numbers])


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
    of_lane = (QUEUE.c.run_no == run.number) & (QUEUE.c.lane == lane)
    found = conn.execute(select(func.min(QUEUE.c.read_by)).where(of_lane)).scalar()
    while found is not None:
        yield found
        found = conn.execute(select(func.min(QUEUE.c.read_by)).where(of_lane, QUEUE.c.read_by > found)).scalar()


def _of_readers(conn: Connection, reader: Reader, run: RunRow, lane: int, read_by: str, most: int) -> list[tuple[int, int]]:
    joined = QUEUE.outerjoin(LEASES, and_(LEASES.c.run_no == QUEUE.c.run_no,
                                          LEASES.c.candidate_no == QUEUE.c.candidate_no))
    rows = conn.execute(select(QUEUE.c.place, QUEUE.c.candidate_no).select_from(joined).where(
        QUEUE.c.run_no == run.number, QUEUE.c.lane == lane, QUEUE.c.read_by == read_by,
        or_(LEASES.c.user_id.is_(None), LEASES.c.user_id == reader.user_id),
    ).order_by(QUEUE.c.place, QUEUE.c.candidate_no).limit(most))
    return [(row[0], row[1]) for row in rows]


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
    read = exists().where(DECISIONS.c.candidate_no == QUEUE.c.candidate_no, DECISIONS.c.user_id == reader.user_id)
    joined = QUEUE.outerjoin(LEASES, and_(LEASES.c.run_no == QUEUE.c.run_no,
                                          LEASES.c.candidate_no == QUEUE.c.candidate_no))
    rows = conn.execute(select(QUEUE.c.candidate_no).select_from(joined).where(
        QUEUE.c.run_no == run.number, QUEUE.c.lane == lanes.GOLD, ~read,
        or_(LEASES.c.user_id.is_(None), LEASES.c.user_id == reader.user_id),
    ).order_by(QUEUE.c.place).limit(MOST_LEASED)).scalars().all()
    return iter(rows)
