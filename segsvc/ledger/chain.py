"""The chain over decisions: each row has its hash, each batch of rows one over them and the batch before.

A batch is what one transaction stored, so that many who decide at once do not wait for each other's hashes. The head of the
last batch stands for all decisions and their order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from segsvc.ledger.prepared import Prepared
from segsvc.ledger.tables import BATCHES, DECISIONS

GENESIS = "0" * 64  # what comes before the first batch
_LAST = Prepared(select(BATCHES.c.number, BATCHES.c["last"], BATCHES.c.head).order_by(BATCHES.c.number.desc()).limit(1))
_SEAL = Prepared(insert(BATCHES))
HASHED = tuple(column.name for column in DECISIONS.columns if column.name != "row_sha256")


def row_sha256(row: Mapping[str, Any], *, number: int | None = None) -> str:
    """The hash of a row of decisions: of all its columns, as a JSON list. number: as if it stood there."""
    values = [row[name] for name in HASHED]
    if number is not None:
        values[0] = number
    return hashlib.sha256(json.dumps(values, ensure_ascii=True, separators=(",", ":"), default=repr).encode()).hexdigest()


def batch_head(before: str, batch: Mapping[str, Any], row_hashes: Iterable[str]) -> str:
    """The head after a batch: a hash of the head before it, of its place, time and bounds, and of its rows in order."""
    digest = hashlib.sha256()
    digest.update(f"{before}:{batch['number']}:{batch['first']}:{batch['last']}:{batch['sealed_at']}".encode())
    for each in row_hashes:
        digest.update(b":" + each.encode())
    return digest.hexdigest()


def last_batch(conn: Connection) -> tuple[int, int, str]:
    """The last batch: its number, the number of its last decision, and its head; zeros where there is none."""
    row = _LAST.first(conn)
    return (row["number"], row["last"], row["head"]) if row is not None else (0, 0, GENESIS)


def seal(conn: Connection, before: tuple[int, int, str], row_hashes: list[str], sealed_at: int) -> tuple[int, int, str]:
    """Puts the batch of these new rows into the chain; gives it as `last_batch` does."""
    number, last, head = before
    batch = {"number": number + 1, "first": last + 1, "last": last + len(row_hashes), "sealed_at": sealed_at}
    head = batch_head(head, batch, row_hashes)
    _SEAL.run(conn, {**batch, "head": head})
    return number + 1, last + len(row_hashes), head
