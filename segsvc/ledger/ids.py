"""The way from ids to numbers, of candidates and of images: an id is looked up by how it begins, and then compared whole.

Ids are hashes, so each new one belongs somewhere else. Their beginnings are short, and written sorted once an import is
through: so a page of the database takes many at a time, also where a million are there already.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from segsvc.ledger.prepared import Prepared, padded
from segsvc.ledger.tables import CANDIDATES, ENTRIES, ID_BEGINS, IDS, IMAGE_IDS, IMAGES

_SIZES = (1, 8, 500)  # of lists in a statement


@dataclass(frozen=True, slots=True, eq=False)
class Numbered:
    """What has ids and numbers: its table, the column of ids, the table of their beginnings, its column of numbers."""

    table: Table
    id: Column[str]
    ids: Table
    number: Column[int]


CANDIDATE = Numbered(CANDIDATES, CANDIDATES.c.candidate_id, IDS, IDS.c.candidate_no)
IMAGE = Numbered(IMAGES, IMAGES.c.image_id, IMAGE_IDS, IMAGE_IDS.c.image_no)


def numbers(conn: Connection, of: Numbered, ids: Iterable[str]) -> dict[str, int]:
    """The numbers of those of these ids that are there; what an import brings is there from its end on."""
    wanted = list(dict.fromkeys(ids))
    at_once = next((size for size in _SIZES if size >= len(wanted)), _SIZES[-1])
    found: dict[str, int] = {}
    for start in range(0, len(wanted), at_once):
        begin = padded([each[:ID_BEGINS] for each in wanted[start:start + at_once]], at_once)
        found.update((row["id"], row["number"]) for row in _beginning_so(of, at_once).rows(conn, **begin))
    return {each: found[each] for each in wanted if each in found}


def fill(conn: Connection) -> None:
    """Takes in the ids of what came since this was done last.

    What came twice stays as it came first: by a run that names an image twice, or by two imports at once.
    """
    done = _filled_to(conn, CANDIDATE)
    if not _fill(conn, CANDIDATE, done):
        again = _again(CANDIDATE, done)
        _move_entries(conn, again)
        conn.execute(delete(ENTRIES).where(ENTRIES.c.candidate_no.in_(again)))
        conn.execute(delete(CANDIDATES).where(CANDIDATES.c.number.in_(again)))
    images_done = _filled_to(conn, IMAGE)
    if not _fill(conn, IMAGE, images_done):
        again, first = _again(IMAGE, images_done), IMAGES.alias()
        stays = select(IMAGE_IDS.c.image_no).join(IMAGES, IMAGE_IDS.c.begins == _beginning(IMAGES.c.image_id)).join(
            first, (first.c.number == IMAGE_IDS.c.image_no) & (first.c.image_id == IMAGES.c.image_id)).where(
                IMAGES.c.number == CANDIDATES.c.image_no).scalar_subquery()
        conn.execute(update(CANDIDATES).where(CANDIDATES.c.number > done, CANDIDATES.c.image_no.in_(again)).values(
            image_no=stays))
        conn.execute(delete(IMAGES).where(IMAGES.c.number.in_(again)))


def _fill(conn: Connection, of: Numbered, done: int) -> bool:
    """Takes in the ids of numbers after `done`; whether no id was there twice among them."""
    last = conn.execute(select(func.max(of.table.c.number))).scalar() or 0
    if last == done:
        return True
    new = select(_beginning(of.id), func.min(of.table.c.number)).where(of.table.c.number > done)
    added = conn.execute(insert(of.ids).from_select(["begins", of.number.name], new.group_by(of.id).order_by(of.id)))
    return added.rowcount == last - done


def _again(of: Numbered, done: int) -> ColumnElement[int]:
    """The numbers after `done` whose id has an earlier one among them."""
    new = of.table.c.number > done
    first = select(func.min(of.table.c.number)).where(new).group_by(of.id)
    return select(of.table.c.number).where(new, of.table.c.number.not_in(first)).scalar_subquery()


def _move_entries(conn: Connection, again: ColumnElement[int]) -> None:
    """Gives runs that have only the later ones of candidates the first ones instead."""
    first, there = CANDIDATES.alias(), ENTRIES.alias()
    number = ENTRIES.c.number - ENTRIES.c.candidate_no + IDS.c.candidate_no  # as `tables.entry_number`
    found = conn.execute(select(func.min(ENTRIES.c.number), number, IDS.c.candidate_no).join(
        CANDIDATES, CANDIDATES.c.number == ENTRIES.c.candidate_no).join(
        IDS, IDS.c.begins == _beginning(CANDIDATES.c.candidate_id)).join(
        first, (first.c.number == IDS.c.candidate_no) & (first.c.candidate_id == CANDIDATES.c.candidate_id)).outerjoin(
        there, there.c.number == number).where(
        ENTRIES.c.candidate_no.in_(again), there.c.number.is_(None)).group_by(number, IDS.c.candidate_no)).all()
    for before, after, candidate_no in found:
        conn.execute(update(ENTRIES).where(ENTRIES.c.number == before).values(number=after, candidate_no=candidate_no))


def _filled_to(conn: Connection, of: Numbered) -> int:
    """The number up to which all ids were taken in: always all that there were, so it is found by halving."""
    last = conn.execute(select(func.max(of.table.c.number))).scalar() or 0
    if _is_filled(conn, of, last):
        return last
    return bisect_left(range(1, last + 1), True, key=lambda number: not _is_filled(conn, of, number))


def _is_filled(conn: Connection, of: Numbered, number: int) -> bool:
    """Whether the id of that number, or of the last one before it, was taken in."""
    row = _up_to(of).first(conn, number=number)
    return row is None or _there(of).first(conn, **row) is not None


def _beginning(id: Column[str]) -> ColumnElement[str]:
    return func.substr(id, 1, ID_BEGINS)


@cache
def _beginning_so(of: Numbered, count: int) -> Prepared:
    any_of: list[BindParameter[str]] = [bindparam(f"n{place}") for place in range(count)]
    return Prepared(select(of.id.label("id"), of.table.c.number.label("number")).join(
        of.ids, of.number == of.table.c.number).where(of.ids.c.begins.in_(any_of)))


@cache
def _up_to(of: Numbered) -> Prepared:
    return Prepared(select(_beginning(of.id).label("begins"), of.table.c.number.label("number")).where(
        of.table.c.number <= bindparam("number", type_=BigInteger())).order_by(of.table.c.number.desc()).limit(1))


@cache
def _there(of: Numbered) -> Prepared:
    return Prepared(select(of.number).where(of.ids.c.begins == bindparam("begins"), of.number == bindparam("number")))
