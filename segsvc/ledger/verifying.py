"""Looks at the whole chain: at every decision, every batch, and every anchor that was noted outside.

What was changed is named by its row; a row that is gone, was put in, or stands in another's place too. Who can write into
the database can make a chain anew that fits itself: then the anchors tell, which are kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Connection, Table, select

from segsvc.errors import ConfigError
from segsvc.ledger.anchors import Anchor, AnchorPlace, parse
from segsvc.ledger.candidates import chunks
from segsvc.ledger.chain import GENESIS, batch_head, row_sha256
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import Decider, Fault, FaultKind, Verified
from segsvc.ledger.standing import Row
from segsvc.ledger.tables import BATCHES, CANDIDATES, CLASSES, DECISIONS, IMAGES
from segsvc.types import stable_id

_AT_ONCE = 2000
MOST_FAULTS = 1000


def verify(ledger: Ledger, anchors: str | None = None) -> Verified:
    """All that is wrong with the record of decisions, at most `MOST_FAULTS`.

    anchors: where they are noted; by default where this ledger notes them. Reads a page at a time, beside a server too:
    what is decided meanwhile is not looked at.
    """
    place = AnchorPlace(anchors) if anchors is not None else ledger.anchors
    found = _Found()
    noted = _anchors(place, found)  # before the end is looked for, so that none is of a later time
    try:
        heads = _chain(ledger, found)
    except ConfigError as error:  # a database that opened, and cannot be read
        found.add(FaultKind.CHANGED, "database", str(error))
        heads = {0: (0, GENESIS)}
    _explain(found)
    for anchor in noted:
        _hold(anchor, heads, found)
    return Verified(decisions=found.rows, batches=len(heads) - 1, anchors=len(noted), head=heads[max(heads)][1],
                    faults=tuple(found.faults))


@dataclass(slots=True)
class _Found:
    """What was found so far. misfits: rows whose hash is another than the one beside them."""

    faults: list[Fault] = field(default_factory=list)
    rows: int = 0
    misfits: dict[int, Row] = field(default_factory=dict)

    def add(self, kind: FaultKind, where: str, says: str) -> None:
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(Fault(kind, where, says))


def _chain(ledger: Ledger, found: _Found) -> dict[int, tuple[int, str]]:
    """Looks at batches and their rows; the decisions and the head after each batch, as they stand there, by its number."""
    with ledger.read() as conn:
        last_row = conn.execute(select(DECISIONS.c.number).order_by(DECISIONS.c.number.desc()).limit(1)).scalar() or 0
        last_batch = conn.execute(select(BATCHES.c.number).order_by(BATCHES.c.number.desc()).limit(1)).scalar() or 0
    rows = _rows(ledger, found, last_row)
    ahead = next(rows, None)
    heads = {0: (0, GENESIS)}
    number, decisions, head = 0, 0, GENESIS
    for batch in _pages(ledger, BATCHES, last_batch):
        number += 1
        where = f"batch {number}"
        if not _is_batch(batch):
            found.add(FaultKind.CHANGED, where, "does not hold numbers and a head")
            continue
        if batch["number"] != number:
            found.add(FaultKind.MISSING, where, f"is not there; the next is batch {batch['number']}")
            number = batch["number"]
        if batch["first"] != decisions + 1 or batch["last"] < batch["first"]:
            found.add(FaultKind.CHANGED, where, f"expected to begin with decision {decisions + 1}, it says {batch['first']} "
                      f"to {batch['last']}")
        hashes = []
        while ahead is not None and ahead[0] <= batch["last"]:
            _name_missing(found, decisions + 1, ahead[0], where)
            decisions = ahead[0]
            hashes.append(ahead[1])
            ahead = next(rows, None)
        if batch["last"] <= last_row:
            _name_missing(found, decisions + 1, batch["last"] + 1, where)
        elif ahead is None and decisions < batch["last"]:
            found.add(FaultKind.CUT, f"decision {decisions + 1}", f"is not there, nor any later one; {where} goes to "
                      f"{batch['last']}")
        if batch_head(head, batch, hashes) != batch["head"]:
            found.add(FaultKind.CHANGED, where, f"its head does not come out of its decisions {batch['first']} to "
                      f"{batch['last']}, its time and the batch before")
        decisions, head = max(decisions, batch["last"]), batch["head"]
        heads[number] = (batch["last"], head)
    if ahead is not None:
        found.add(FaultKind.INSERTED, f"decision {ahead[0]}", "stands behind the last batch; the ledger stores no decision "
                  "without its batch")
        found.rows += sum(1 for _ in rows)
    return heads


def _is_batch(batch: Mapping[str, Any]) -> bool:
    return all(isinstance(batch[name], int) for name in ("number", "first", "last", "sealed_at")) and isinstance(
        batch["head"], str)


def _name_missing(found: _Found, start: int, stop: int, where: str) -> None:
    """Names the decisions from start (included) to stop (excluded) as missing."""
    for number in range(start, min(stop, start + MOST_FAULTS)):
        found.add(FaultKind.MISSING, f"decision {number}", f"is not there; it belongs to {where} or to one before")


def _rows(ledger: Ledger, found: _Found, last: int) -> Iterator[tuple[int, str]]:
    """The numbers of all decisions and the hashes that stand beside them; each is looked at."""
    checked: list[Row] = []
    for row in _pages(ledger, DECISIONS, last):
        found.rows += 1
        if row_sha256(row) != row["row_sha256"]:
            found.misfits[row["number"]] = row
        checked.append(row)
        if len(checked) == _AT_ONCE:
            _candidates(ledger, found, checked)
            checked = []
        yield row["number"], str(row["row_sha256"])
    _candidates(ledger, found, checked)


def _pages(ledger: Ledger, table: Table, last: int) -> Iterator[Row]:
    """The rows of a table up to a number, in the order of their numbers; a page of them is read at a time."""
    after = 0
    while True:
        wanted = select(table).where(table.c.number > after, table.c.number <= last).order_by(table.c.number)
        with _any_text(ledger) as conn:
            page = cast(list[Row], conn.execute(wanted.limit(_AT_ONCE)).mappings().all())
        if not page:
            return
        yield from page
        after = page[-1]["number"]


@contextmanager
def _any_text(ledger: Ledger) -> Iterator[Connection]:
    """A connection that reads text which is no UTF-8 any more, as SQLite may hold after a byte was changed."""
    with ledger.read() as conn:
        driver: Any = conn.connection.driver_connection
        if not ledger.is_postgres:
            driver.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        try:
            yield conn
        finally:
            if not ledger.is_postgres:
                driver.text_factory = str


def _explain(found: _Found) -> None:
    """Names each row that does not fit its hash: changed, or written as another one and moved."""
    by_hash = {row["row_sha256"]: number for number, row in found.misfits.items()}
    for number, row in found.misfits.items():
        # as if it still stood where it was written, with the hash that stands there or came along
        origin = next((other for other in found.misfits if other != number and row_sha256(row, number=other) in by_hash),
                      None) if len(found.misfits) <= MOST_FAULTS else None
        if origin is not None:
            found.add(FaultKind.SWAPPED, f"decision {number}", f"is the one that was written as decision {origin}")
        else:
            found.add(FaultKind.CHANGED, f"decision {number}",
                      f"of {row['reader'] or 'a rule'} says something else than when it was written")


def _candidates(ledger: Ledger, found: _Found, rows: list[Row]) -> None:
    """Looks whether the candidates that these rows decide are still those that they were: an id is a hash of all of it."""
    decided = {row["candidate_no"]: row for row in rows
               if row["decider"] == Decider.PERSON and isinstance(row["candidate_no"], int)}
    wanted = select(CANDIDATES, IMAGES.c.image_id, CLASSES.c.name.label("class_name")).join(
        IMAGES, IMAGES.c.number == CANDIDATES.c.image_no).join(CLASSES, CLASSES.c.number == CANDIDATES.c.class_no)
    there: set[int] = set()
    for some in chunks(sorted(decided)):
        with _any_text(ledger) as conn:
            candidates = conn.execute(wanted.where(CANDIDATES.c.number.in_(some))).mappings().all()
        for one in candidates:
            there.add(one["number"])
            row = decided[one["number"]]
            if _id_of(cast(Row, one), row["model_digest"]) != row["candidate_id"]:
                found.add(FaultKind.CHANGED, f"candidate {row['candidate_id']}",
                          f"is not what it was when decision {row['number']} was made of it")
    for number, row in decided.items():
        if number not in there:
            found.add(FaultKind.MISSING, f"candidate {row['candidate_id']}",
                      f"is not there; decision {row['number']} is of it")


def _id_of(row: Row, model_digest: str) -> str:
    mask = row["mask_rle"]
    content = mask.encode("utf-8", "surrogateescape") if isinstance(mask, str) else row["text"]
    return stable_id(row["image_id"], model_digest, row["frame"], row["kind"], row["class_name"], row["x0"], row["y0"],
                     row["x1"], row["y1"], content)


def _anchors(place: AnchorPlace, found: _Found) -> list[Anchor]:
    noted = []
    for number, line in enumerate(place.lines(), start=1):
        try:
            noted.append(parse(line))
        except ValueError as error:
            found.add(FaultKind.ANCHOR, f"anchor {number}", f"{error} in {place.place}")
    return noted


def _hold(anchor: Anchor, heads: Mapping[int, tuple[int, str]], found: _Found) -> None:
    """Holds an anchor against the chain."""
    there = heads.get(anchor.batches)
    if there is None and anchor.batches > max(heads):
        found.add(FaultKind.CUT, f"batch {max(heads) + 1}", f"an anchor says that there were {anchor.batches} batches of "
                  f"{anchor.decisions} decisions; there are {max(heads)} of {heads[max(heads)][0]}")
    elif there != (anchor.decisions, anchor.head):
        found.add(FaultKind.ANCHOR, f"batch {anchor.batches}",
                  "the anchor of it and the chain differ: the chain up to there, or the anchor, is not what it was")
