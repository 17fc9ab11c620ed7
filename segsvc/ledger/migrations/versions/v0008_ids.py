"""Ids are looked up by how they begin: less is written for each that comes into a large ledger."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_BIG = BigInteger().with_variant(Integer, "sqlite")
_DIGITS = 8
_IMAGE = "number, image_id, uri, version, width_px, height_px, frames"


def _number(name: str, *, key: bool = False) -> Column[Any]:
    return Column(name, _BIG, nullable=False, primary_key=key, autoincrement=False)


def _text(name: str, *, key: bool = False) -> Column[Any]:
    return Column(name, Text(), nullable=False, primary_key=key)


def upgrade() -> None:
    op.rename_table("ids", "whole_ids")
    op.create_table("ids", _text("begins", key=True), _number("candidate_no", key=True), sqlite_with_rowid=False)
    op.execute(f"INSERT INTO ids (begins, candidate_no) SELECT substr(candidate_id, 1, {_DIGITS}), candidate_no "
               "FROM whole_ids ORDER BY candidate_id")
    op.drop_table("whole_ids")
    op.create_table("image_ids", _text("begins", key=True), _number("image_no", key=True), sqlite_with_rowid=False)
    op.execute(f"INSERT INTO image_ids (begins, image_no) SELECT substr(image_id, 1, {_DIGITS}), number "
               "FROM images ORDER BY image_id")
    op.rename_table("images", "unique_images")  # SQLite cannot take the constraint away alone
    op.create_table("images", _number("number", key=True), _text("image_id"), _text("uri"), _text("version"),
                    _number("width_px"), _number("height_px"), _number("frames"))
    op.execute(f"INSERT INTO images ({_IMAGE}) SELECT {_IMAGE} FROM unique_images ORDER BY number")
    op.drop_table("unique_images")
