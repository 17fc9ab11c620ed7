"""The candidates of the ledger, as one reader may see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, cast

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, bindparam, select

from segsvc.ledger import ids
from segsvc.ledger import rows as made
from segsvc.ledger.errors import Refused, Unknown
from segsvc.ledger.opening import Ledger
from segsvc.ledger.prepared import Prepared, padded
from segsvc.ledger.records import Item, Page, Reader
from segsvc.ledger.runs import RunRow, class_number, run_row, runs_of
from segsvc.ledger.sight import Sight, hides, see
from segsvc.ledger.standing import Row, stand, undone_ids
from segsvc.ledger.tables import CANDIDATES, CLASSES, DECISIONS, ENTRIES, IMAGES, entry_number
from segsvc.types import Band

MOST_A_PAGE = 500
AT_ONCE = 500  # numbers in one statement


def find(ledger: Ledger, reader: Reader, candidate_id: str, run_id: str | None = None) -> Item:
    """A candidate, in the run given or the newest that has it. Raises Unknown."""
    with ledger.read() as conn:
        number = number_of(conn, candidate_id)
        runs = runs_of(conn, number)
        chosen = [run for run in runs if run_id is None or run.record.run_id == run_id]
        if not chosen:
            raise Unknown(f"candidate: expected one of the ledger, got {candidate_id!r}")
        return items(conn, reader, chosen[0], [number])[0]


def page(ledger: Ledger, reader: Reader, run_id: str, *, band: Band | None = None, class_name: str | None = None,
         cursor: str | None = None, limit: int = 50) -> Page:
    """A run's candidates in the order in which they came in, from the cursor on.

    band: of the operating point in force; a reader from whom bands are hidden is given no others than `review`, which then
    stands for all. Raises Unknown for a run, Refused for a cursor or limit that is none.
    """
    if not 1 <= limit <= MOST_A_PAGE:
        raise Refused(f"limit: expected 1 to {MOST_A_PAGE}, got {limit}")
    with ledger.read() as conn:
        run = run_row(conn, run_id)
        wanted = select(ENTRIES.c.candidate_no).where(
            ENTRIES.c.run_no == run.number, ENTRIES.c.number > entry_number(run.number, _after(cursor)),
            ENTRIES.c.number < entry_number(run.number + 1, 0))
        if class_name is not None:
            number = class_number(conn, class_name)
            if number is None:
                return Page((), None)
            wanted = wanted.where(ENTRIES.c.class_no == number)
        if band is not None and hides_bands(reader, run):
            if band is not Band.REVIEW:
                return Page((), None)
        elif band is not None:
            wanted = wanted.where(ENTRIES.c.band == band.value)
        numbers = list(conn.execute(wanted.order_by(ENTRIES.c.number).limit(limit + 1)).scalars())
        found = items(conn, reader, run, numbers[:limit])
    return Page(tuple(found), str(numbers[limit - 1]) if len(numbers) > limit else None)


def hides_bands(reader: Reader, run: RunRow) -> bool:
    """Whether bands are hidden from the reader until a candidate is decided."""
    return hides(reader, run.record.policy, audited=run.record.audit > 0)


def _after(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise Refused(f"cursor: expected the next_cursor of a page, got {cursor[:40]!r}")
    return int(cursor)


def number_of(conn: Connection, candidate_id: str) -> int:
    """The number of a candidate. Raises Unknown."""
    found = numbers_of(conn, [candidate_id])
    if not found:
        raise Unknown(f"candidate: expected one of the ledger, got {candidate_id!r}")
    return found[0]


def numbers_of(conn: Connection, candidate_ids: Sequence[str]) -> list[int]:
    """The numbers of those of these candidates that there are."""
    return list(ids.numbers(conn, ids.CANDIDATE, map(storable, candidate_ids)).values())


def storable(text: str) -> str:
    """A text from outside as both databases can be asked for it."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def entry_rows(conn: Connection, run_no: int, numbers: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """The rows of entries with their candidates and images, by number."""
    if 0 < len(numbers) <= _FEW:
        keys = padded([entry_number(run_no, number) for number in numbers], _FEW)
        return {row["candidate_no"]: row for row in _FEW_ENTRIES.rows(conn, **keys)}
    found: dict[int, Mapping[str, Any]] = {}
    for some in chunks(numbers):
        found.update((int(row["candidate_no"]), cast(Row, row)) for row in
                     conn.execute(_entries().where(is_entry(run_no, some))).mappings())
    return found


def is_entry(run_no: int, numbers: Sequence[int]) -> ColumnElement[bool]:
    """Whether it is the entry of one of these candidates in the run."""
    return ENTRIES.c.number.in_([entry_number(run_no, number) for number in numbers])


def _entries() -> Select[Any]:
    return select(
        ENTRIES, CANDIDATES.c.candidate_id, CANDIDATES.c.frame, CANDIDATES.c.kind, CANDIDATES.c.x0, CANDIDATES.c.y0,
        CANDIDATES.c.x1, CANDIDATES.c.y1, CANDIDATES.c.area_px, CANDIDATES.c.mask_rle, CANDIDATES.c.text,
        CANDIDATES.c.touches_edge, CANDIDATES.c.score, CLASSES.c.name.label("class_name"), IMAGES.c.image_id, IMAGES.c.uri,
        IMAGES.c.version, IMAGES.c.width_px, IMAGES.c.height_px, IMAGES.c.frames,
    ).join(CANDIDATES, CANDIDATES.c.number == ENTRIES.c.candidate_no).join(
        CLASSES, CLASSES.c.number == CANDIDATES.c.class_no).join(IMAGES, IMAGES.c.number == CANDIDATES.c.image_no)


def decision_rows(conn: Connection, numbers: Sequence[int]) -> dict[int, list[Row]]:
    """All that was decided of these candidates, oldest first, by number."""
    found: dict[int, list[Row]] = {}
    if 0 < len(numbers) <= _FEW:
        for row in _FEW_DECISIONS.rows(conn, **padded(numbers, _FEW)):
            found.setdefault(row["candidate_no"], []).append(row)
        return found
    for some in chunks(sorted(numbers)):
        rows = conn.execute(select(DECISIONS).where(DECISIONS.c.candidate_no.in_(some)).order_by(
            DECISIONS.c.candidate_no, DECISIONS.c.number)).mappings()
        found.update((number, cast(list[Row], list(own)))
                     for number, own in groupby(rows, key=lambda row: int(row["candidate_no"])))
    return found


_FEW = 8
_ANY = [bindparam(f"n{place}", type_=BigInteger()) for place in range(_FEW)]
_FEW_ENTRIES = Prepared(_entries().where(ENTRIES.c.number.in_(_ANY)))
_FEW_DECISIONS = Prepared(select(DECISIONS).where(DECISIONS.c.candidate_no.in_(_ANY)).order_by(DECISIONS.c.number))


def chunks(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """The numbers, as many at a time as one statement takes."""
    for start in range(0, len(numbers), AT_ONCE):
        yield numbers[start:start + AT_ONCE]


def sight_of(reader: Reader, run: RunRow, entry: Mapping[str, Any], rows: Sequence[Row]) -> Sight:
    """What the reader may see of a candidate of the run."""
    policy = run.record.policy
    return see(reader, policy, entry, rows, stand(rows, readers=policy.readers), audited=run.record.audit > 0)


def items(conn: Connection, reader: Reader, run: RunRow, numbers: Sequence[int]) -> list[Item]:
    """The candidates of these numbers in their order; those that the run has not are left out."""
    entries, decided = entry_rows(conn, run.number, numbers), decision_rows(conn, numbers)
    found = []
    for number in numbers:
        if (entry := entries.get(number)) is not None:
            rows = decided.get(number, [])
            sight, undone = sight_of(reader, run, entry, rows), undone_ids(rows)
            own = stand(rows, readers=1).of(reader.user_id)
            found.append(made.item(entry, run.record.run_id, sight, tuple(
                made.decision(row, run.record.run_id, undone=row["decision_id"] in undone) for row in sight.rows),
                decided=own is not None))
    return found
