"""Counts of audit samples and label sets are kept as decisions and labels come, and are made here of what is there."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, false, text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BIG = BigInteger().with_variant(Integer, "sqlite")
_AUDITED = """
    SELECT count(*) FROM entries JOIN runs ON runs.number = entries.run_no
    WHERE entries.run_no = band_counts.run_no AND entries.class_no = band_counts.class_no
    AND entries.band = band_counts.band AND entries.audit AND entries.import_no = runs.imports AND """
_VERDICT = "coalesce(entries.gold, entries.outcome)"
_LOOKED_AT = f"{_VERDICT} IS NULL AND entries.read_by <> '' AND runs.readers = 1"
_OUTCOMES = {
    "n_objects": f"{_VERDICT} IN ('accepted', 'edited')",
    "n_nothing": f"{_VERDICT} IS NOT NULL AND {_VERDICT} NOT IN ('accepted', 'edited')",
    "n_unsure": _LOOKED_AT,
    "n_unread": f"{_VERDICT} IS NULL AND NOT ({_LOOKED_AT})"}
_SAMPLED = "FROM sampled WHERE sampled.set_no = label_sets.number"
_OF_SET = {
    "drawn": f"SELECT count(*) {_SAMPLED}",
    "labelled": f"SELECT count(*) {_SAMPLED} AND closed AND fault IS NULL",
    "unreadable": f"SELECT count(*) {_SAMPLED} AND fault IS NOT NULL",
    "twice": f"SELECT count(agreement) {_SAMPLED}",
    "agreement": f"SELECT coalesce(sum(agreement), 0) {_SAMPLED}",
    "has_candidates": f"SELECT count(candidates) > 0 {_SAMPLED}"}


def _count(name: str) -> Column[Any]:
    return Column(name, _BIG, nullable=False, server_default="0")


def upgrade() -> None:
    for name, where in _OUTCOMES.items():
        op.add_column("band_counts", _count(name))
        op.execute(text(f"UPDATE band_counts SET {name} = ({_AUDITED} {where})"))
    for name in ("drawn", "labelled", "unreadable", "twice"):
        op.add_column("label_sets", _count(name))
    op.add_column("label_sets", Column("agreement", Float(53), nullable=False, server_default="0"))
    op.add_column("label_sets", Column("has_candidates", Boolean(), nullable=False, server_default=false()))
    for name, found in _OF_SET.items():
        op.execute(text(f"UPDATE label_sets SET {name} = ({found})"))
