"""The ledger as it begins: runs, candidates, decisions, and what leads to them."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, Text, UniqueConstraint

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_BIG = BigInteger().with_variant(Integer, "sqlite")


def _number(name: str, *, optional: bool = False, key: bool = False) -> Column[Any]:
    return Column(name, _BIG, nullable=optional, primary_key=key, autoincrement=False)


def _text(name: str, *, optional: bool = False, key: bool = False) -> Column[Any]:
    return Column(name, Text(), nullable=optional, primary_key=key)


def upgrade() -> None:
    op.create_table(
        "runs", _number("number", key=True), _text("run_id"), _text("out"), _text("input"), _text("model"),
        _text("model_digest"), _text("point_digest", optional=True), _text("point_wording"), _text("class_names"),
        _number("readers"), Column("blind", Boolean(), nullable=False),
        Column("audit_share", Float(53), nullable=False), Column("gold_share", Float(53), nullable=False),
        _number("seed"), _number("lease_s"), _number("imported_at", optional=True), _text("import_key", optional=True),
        _number("imports"), _number("review"), _number("audit"), _number("accepted"), _number("rejected"),
        UniqueConstraint("run_id", name="runs_run_id"))
    op.create_table(
        "images", _number("number", key=True), _text("image_id"), _text("uri"), _text("version"), _number("width_px"),
        _number("height_px"), _number("frames"), UniqueConstraint("image_id", name="images_image_id"))
    op.create_table(
        "classes", _number("number", key=True), _text("name"), UniqueConstraint("name", name="classes_name"))
    op.create_table(
        "candidates", _number("number", key=True), _text("candidate_id"), _number("image_no"), _number("class_no"),
        _number("frame"), _text("kind"), _number("x0"), _number("y0"), _number("x1"), _number("y1"), _number("area_px"),
        _text("mask_rle", optional=True), _text("text", optional=True),
        Column("touches_edge", Boolean(), nullable=False), Column("score", Float(53), nullable=False))
    op.create_table(
        "ids", _text("candidate_id", key=True), _number("candidate_no"), sqlite_with_rowid=False)
    op.create_table(
        "entries", _number("number", key=True), _number("run_no"), _number("candidate_no"), _number("class_no"),
        _text("band"), Column("audit", Boolean(), nullable=False), _text("gold", optional=True),
        _number("gold_at", optional=True), _text("gold_by", optional=True),
        Column("probability", Float(53), nullable=True), _number("distance"), _number("shuffle"), _number("import_no"),
        _text("read_by"), _text("outcome", optional=True))
    op.create_index("entries_band", "entries", ["run_no", "band", "number"])
    op.create_index("entries_candidate", "entries", ["candidate_no"])
    op.create_index("entries_class", "entries", ["run_no", "class_no", "band", "number"])
    op.create_table(
        "queue", _number("run_no", key=True), _number("lane", key=True), _text("read_by", key=True),
        _number("place", key=True), _number("candidate_no", key=True), sqlite_with_rowid=False)
    op.create_table(
        "leases", _number("run_no", key=True), _number("candidate_no", key=True), _number("user_id"), _number("until"))
    op.create_index("leases_until", "leases", ["until"])
    op.create_table(
        "decisions", _number("number", key=True), _text("decision_id"), _text("decider"), _number("run_no"),
        _number("candidate_no", optional=True), _text("candidate_id", optional=True), _text("verdict"),
        _number("user_id", optional=True), _text("reader"), _number("shown_at", optional=True), _number("decided_at"),
        _number("worked_us", optional=True), _number("worked_until"), _text("note"), _text("text", optional=True),
        _text("mask_rle", optional=True), _number("x0", optional=True), _number("y0", optional=True),
        _number("x1", optional=True), _number("y1", optional=True), _text("undoes", optional=True),
        _text("request_id", optional=True), _text("model_digest"), _text("point_digest", optional=True),
        _number("n_candidates"), _text("row_sha256"),
        UniqueConstraint("user_id", "request_id", name="decisions_request"),
        UniqueConstraint("decision_id", name="decisions_decision_id"))
    op.create_index("decisions_candidate", "decisions", ["candidate_no", "number"])
    op.create_index("decisions_mine", "decisions", ["user_id", "run_no", "number"])
    op.create_index("decisions_reader", "decisions", ["user_id", "number"])
    op.create_index("decisions_run", "decisions", ["run_no", "number"])
    op.create_table(
        "batches", _number("number", key=True), _number("first"), _number("last"), _number("sealed_at"), _text("head"))
    op.create_table(
        "tallies", _number("run_no", key=True), _text("name", key=True), _number("user_id", key=True), _number("count"),
        sqlite_with_rowid=False)
    op.create_table(
        "users", _number("user_id", key=True), _text("name"), _text("role"), _text("password_hash"),
        _number("created_at"), _number("disabled_at", optional=True), UniqueConstraint("name", name="users_name"))
    op.create_table(
        "tokens", _text("sha256", key=True), _number("user_id"), _text("kind"), _text("label"), _number("created_at"),
        _number("ends_at", optional=True))
    op.create_index("tokens_ends_at", "tokens", ["ends_at"])
    op.create_index("tokens_user", "tokens", ["user_id"])
