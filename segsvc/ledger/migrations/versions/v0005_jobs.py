"""Runs that are asked for over HTTP."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, Text, UniqueConstraint

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BIG = BigInteger().with_variant(Integer, "sqlite")


def _number(name: str, *, optional: bool = False, key: bool = False) -> Column[Any]:
    return Column(name, _BIG, nullable=optional, primary_key=key, autoincrement=False)


def _text(name: str, *, optional: bool = False, key: bool = False) -> Column[Any]:
    return Column(name, Text(), nullable=optional, primary_key=key)


def upgrade() -> None:
    op.create_table(
        "jobs", _number("number", key=True), _text("run_id"), _text("asked"), _text("out"), _text("input"), _text("model"),
        _text("model_digest"), _text("asked_by"), _text("webhook", optional=True), _text("state"), _number("attempt"),
        _number("created_at"), _number("started_at", optional=True), _number("finished_at", optional=True),
        _text("error", optional=True), _number("listed"), _number("done"), _number("empty"), _number("failed"),
        _number("quarantined"), _number("accepted"), _number("review"), _number("rejected"),
        Column("eta_s", Float(53), nullable=True), _number("changed"), Column("cancelling", Boolean(), nullable=False),
        _number("losses"), _number("lease_until", optional=True), _text("lease_token", optional=True),
        _text("lease_holder", optional=True), UniqueConstraint("run_id", name="jobs_run_id"))
    op.create_index("jobs_state", "jobs", ["state", "number"])
    op.create_table(
        "job_moves", _number("number", key=True), _number("job_no"), _number("attempt"), _text("state"), _number("at"),
        _text("why"))
    op.create_index("job_moves_job", "job_moves", ["job_no", "number"])
    op.create_table(
        "job_keys", _number("user_id", key=True), _text("key", key=True), _text("body_sha256"), _number("asked_at"),
        _number("job_no", optional=True), sqlite_with_rowid=False)
