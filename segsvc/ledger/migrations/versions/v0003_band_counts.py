"""How many candidates a run has by class and band. Runs of before have none until they are imported again."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BIG = BigInteger().with_variant(Integer, "sqlite")


def _number(name: str, *, key: bool = False) -> Column[Any]:
    return Column(name, _BIG, nullable=False, primary_key=key, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "band_counts", _number("run_no", key=True), _number("class_no", key=True),
        Column("band", Text(), nullable=False, primary_key=True), _number("count"), sqlite_with_rowid=False)
