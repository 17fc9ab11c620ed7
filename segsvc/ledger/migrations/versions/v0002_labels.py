"""Label sets, and what people marked on their images."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, Text, UniqueConstraint

revision = "0002"
down_revision = "0001"
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
        "label_sets", _number("number", key=True), _text("name"), _text("task"), _text("class_names"), _text("input"),
        _text("run_id", optional=True), _text("grouped_by", optional=True), _number("seed"), _text("frame"),
        _text("frame_sha256"), _number("frame_images"), _number("frame_units"), _number("framed_at"), _number("drawn_units"),
        _number("readers"), _text("where_differ"), _number("lease_s"), _number("created_at"),
        UniqueConstraint("name", name="label_sets_name"))
    op.create_table(
        "sampled", _number("set_no", key=True), _number("place", key=True), _text("unit"),
        _number("image_no", optional=True), _text("uri"), _text("split", optional=True), _text("meta"),
        _text("candidates", optional=True), _text("fault", optional=True), _text("labelled_by"), _flag("closed"),
        Column("agreement", Float(53), nullable=True))
    op.create_index("sampled_image", "sampled", ["image_no"])
    op.create_index("sampled_open", "sampled", ["set_no", "closed", "place"])
    op.create_table(
        "label_leases", _number("set_no", key=True), _number("image_no", key=True), _number("user_id", key=True),
        _number("until"), sqlite_with_rowid=False)
    op.create_table(
        "labellings", _number("number", key=True), _text("labelling_id"), _number("set_no", optional=True),
        _number("run_no", optional=True), _number("image_no"), _number("user_id"), _text("reader"),
        _flag("candidates_shown"), _number("since"), _number("n_objects"), _number("shown_at", optional=True),
        _number("done_at"), _number("worked_us", optional=True), _number("worked_until"), _text("request_id", optional=True),
        UniqueConstraint("labelling_id", name="labellings_labelling_id"),
        UniqueConstraint("user_id", "request_id", name="labellings_request"))
    op.create_index("labellings_image", "labellings", ["image_no", "number"])
    op.create_index("labellings_reader", "labellings", ["user_id", "number"])
    op.create_index("labellings_set", "labellings", ["set_no", "number"])
    op.create_table(
        "labels", _number("number", key=True), _text("label_id"), _number("set_no", optional=True),
        _number("run_no", optional=True), _number("image_no"), _number("user_id"), _text("reader"), _number("made_at"),
        _text("class_name"), _number("frame"), _number("x0", optional=True), _number("y0", optional=True),
        _number("x1", optional=True), _number("y1", optional=True), _text("polygon", optional=True),
        _text("mask_rle", optional=True), _text("candidate_id", optional=True), _text("note"),
        _text("request_id", optional=True), UniqueConstraint("label_id", name="labels_label_id"),
        UniqueConstraint("user_id", "request_id", name="labels_request"))
    op.create_index("labels_image", "labels", ["image_no", "number"])
