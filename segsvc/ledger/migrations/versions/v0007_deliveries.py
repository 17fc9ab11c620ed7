"""What others are told of runs."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_BIG = BigInteger().with_variant(Integer, "sqlite")


def _number(name: str, *, optional: bool = False, key: bool = False) -> Column[Any]:
    return Column(name, _BIG, nullable=optional, primary_key=key, autoincrement=False)


def _text(name: str) -> Column[Any]:
    return Column(name, Text(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "deliveries", _number("number", key=True), _text("event_id"), _text("url"), _text("body"), _number("made_at"),
        _number("due_at", optional=True), _number("tries"), _text("answer"))
    op.create_index("deliveries_due", "deliveries", ["due_at"])
