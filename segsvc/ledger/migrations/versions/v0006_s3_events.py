"""Objects of buckets as events tell of them, and what of them was put into runs."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, Text, UniqueConstraint

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_BIG = BigInteger().with_variant(Integer, "sqlite")


def _number(name: str, *, optional: bool = False, key: bool = False) -> Column[Any]:
    return Column(name, _BIG, nullable=optional, primary_key=key, autoincrement=False)


def _text(name: str, *, optional: bool = False, key: bool = False) -> Column[Any]:
    return Column(name, Text(), nullable=optional, primary_key=key)


def _flag(name: str) -> Column[Any]:
    return Column(name, Boolean(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "s3_objects", _text("uri", key=True), _text("etag"), _text("version_id"), _number("size_bytes"), _text("sequencer"),
        _number("at_ns"), _flag("gone"), _flag("by_listing"), _number("listed_at"), _number("changed_at"),
        sqlite_with_rowid=False)
    op.create_table(
        "s3_rules", _number("number", key=True), _text("digest"), _text("rule"),
        Column("seconds", Float(53), nullable=False), _number("images"), UniqueConstraint("digest", name="s3_rules_digest"))
    op.create_table(
        "s3_work", _text("uri", key=True), _text("etag", key=True), _text("model_digest", key=True), _number("size_bytes"),
        _number("rule_no"), _number("queued_at"), _number("batch_no"), sqlite_with_rowid=False)
    op.create_index("s3_work_batch", "s3_work", ["batch_no", "rule_no", "queued_at"])
    op.create_table(
        "s3_batches", _number("number", key=True), _number("rule_no"), _text("name"), _number("images"), _number("cut_at"),
        _text("run_id", optional=True), _text("error", optional=True))
    op.create_index("s3_batches_run", "s3_batches", ["run_id"])
    op.create_table(
        "s3_strays", _text("sha256", key=True), _text("reason"), _text("body"), _number("size_bytes"), _number("times"),
        _number("first_at"), _number("last_at"), sqlite_with_rowid=False)
