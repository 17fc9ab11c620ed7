"""The ledger's tables. Times are microseconds since 1970 in UTC, so that both databases keep the same.

Migrations make them (`segsvc.ledger.migrations`); a test holds both equal.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, Table, Text, UniqueConstraint
from sqlalchemy.types import TypeEngine

METADATA = MetaData()
ID_BEGINS = 8  # digits
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_US = timedelta(microseconds=1)
_BIG = BigInteger().with_variant(Integer, "sqlite")


def as_us(when: datetime) -> int:
    """A time as it is stored."""
    return (when - _EPOCH) // _ONE_US


def as_time(us: int) -> datetime:
    """A stored time."""
    return _EPOCH + us * _ONE_US


def entry_number(run_no: int, candidate_no: int) -> int:
    """The number of a candidate's entry in a run: both in one key, by run and then by candidate, as 64 bits hold them."""
    return run_no << 40 | candidate_no


def _number(name: str, *, optional: bool = False, key: bool = False) -> Column[int]:
    return Column(name, _BIG, nullable=optional, primary_key=key, autoincrement=False)


def _text(name: str, *, optional: bool = False, key: bool = False) -> Column[str]:
    return Column(name, Text(), nullable=optional, primary_key=key)


def _of(name: str, kind: TypeEngine[bool] | TypeEngine[float], *, optional: bool = False) -> Column[bool] | Column[float]:
    return Column(name, kind, nullable=optional)


RUNS = Table(
    "runs", METADATA,
    _number("number", key=True), _text("run_id"), _text("out"), _text("input"), _text("model"), _text("model_digest"),
    _text("point_digest", optional=True), _text("point_wording"), _text("class_names"),  # a JSON list
    _number("readers"), _of("blind", Boolean()), _of("audit_share", Float(53)), _of("gold_share", Float(53)),
    _number("seed"), _number("lease_s"), _number("imported_at", optional=True),  # null until all of it is here
    _text("import_key", optional=True),  # of what was imported last, null while an import is under way
    _number("imports"),  # how often an import was begun
    _number("review"), _number("audit"), _number("accepted"), _number("rejected"),
    UniqueConstraint("run_id", name="runs_run_id"))

IMAGES = Table(
    "images", METADATA,
    _number("number", key=True), _text("image_id"), _text("uri"), _text("version"), _number("width_px"),
    _number("height_px"), _number("frames"))

CLASSES = Table(
    "classes", METADATA, _number("number", key=True), _text("name"), UniqueConstraint("name", name="classes_name"))

# What a candidate is; whatever runs it is in.
CANDIDATES = Table(
    "candidates", METADATA,
    _number("number", key=True), _text("candidate_id"), _number("image_no"), _number("class_no"), _number("frame"),
    _text("kind"), _number("x0"), _number("y0"), _number("x1"), _number("y1"), _number("area_px"),
    _text("mask_rle", optional=True), _text("text", optional=True), _of("touches_edge", Boolean()),
    _of("score", Float(53)))

# The way from ids to numbers, by the first digits of each id: `segsvc.ledger.ids`.
IDS = Table(
    "ids", METADATA, _text("begins", key=True), _number("candidate_no", key=True), sqlite_with_rowid=False)
IMAGE_IDS = Table(
    "image_ids", METADATA, _text("begins", key=True), _number("image_no", key=True), sqlite_with_rowid=False)

# A candidate in a run: why it is here, and where its review stands.
ENTRIES = Table(
    "entries", METADATA,
    _number("number", key=True), _number("run_no"), _number("candidate_no"), _number("class_no"), _text("band"),
    _of("audit", Boolean()), _text("gold", optional=True), _number("gold_at", optional=True),
    _text("gold_by", optional=True),
    _of("probability", Float(53), optional=True), _number("distance"), _number("shuffle"), _number("import_no"),
    _text("read_by"), _text("outcome", optional=True),
    Index("entries_candidate", "candidate_no"),
    Index("entries_band", "run_no", "band", "number"),
    Index("entries_class", "run_no", "class_no", "band", "number"))

# What is still to be read, in every order in which it is given out (a lane each). `read_by`: who read it already.
QUEUE = Table(
    "queue", METADATA,
    _number("run_no", key=True), _number("lane", key=True), _text("read_by", key=True), _number("place", key=True),
    _number("candidate_no", key=True), sqlite_with_rowid=False)

LEASES = Table(
    "leases", METADATA,
    _number("run_no", key=True), _number("candidate_no", key=True), _number("user_id"), _number("until"),
    Index("leases_until", "until"))

DECISIONS = Table(
    "decisions", METADATA,
    _number("number", key=True), _text("decision_id"), _text("decider"), _number("run_no"),
    _number("candidate_no", optional=True), _text("candidate_id", optional=True), _text("verdict"),
    _number("user_id", optional=True), _text("reader"), _number("shown_at", optional=True), _number("decided_at"),
    _number("worked_us", optional=True), _number("worked_until"), _text("note"), _text("text", optional=True),
    _text("mask_rle", optional=True),
    _number("x0", optional=True), _number("y0", optional=True), _number("x1", optional=True), _number("y1", optional=True),
    _text("undoes", optional=True), _text("request_id", optional=True), _text("model_digest"),
    _text("point_digest", optional=True), _number("n_candidates"), _text("row_sha256"),
    UniqueConstraint("decision_id", name="decisions_decision_id"),
    UniqueConstraint("user_id", "request_id", name="decisions_request"),
    Index("decisions_candidate", "candidate_no", "number"),
    Index("decisions_reader", "user_id", "number"),
    Index("decisions_mine", "user_id", "run_no", "number"),
    Index("decisions_run", "run_no", "number"))

BATCHES = Table(
    "batches", METADATA,
    _number("number", key=True), _number("first"), _number("last"), _number("sealed_at"), _text("head"))

# Counts that pages show, kept as decisions come, so that no request counts rows. user_id 0 where it is nobody's own.
TALLIES = Table(
    "tallies", METADATA,
    _number("run_no", key=True), _text("name", key=True), _number("user_id", key=True), _number("count"),
    sqlite_with_rowid=False)

USERS = Table(
    "users", METADATA,
    _number("user_id", key=True), _text("name"), _text("role"), _text("password_hash"), _number("created_at"),
    _number("disabled_at", optional=True), UniqueConstraint("name", name="users_name"))

TOKENS = Table(
    "tokens", METADATA,
    _text("sha256", key=True), _number("user_id"), _text("kind"), _text("label"), _number("created_at"),
    _number("ends_at", optional=True), Index("tokens_user", "user_id"), Index("tokens_ends_at", "ends_at"))

# What people are to label: sampled whole images, in the order in which they were drawn. `frame`: what they were drawn from.
LABEL_SETS = Table(
    "label_sets", METADATA,
    _number("number", key=True), _text("name"), _text("task"), _text("class_names"),  # a JSON list
    _text("input"), _text("run_id", optional=True), _text("grouped_by", optional=True), _number("seed"),
    _text("frame"), _text("frame_sha256"), _number("frame_images"), _number("frame_units"), _number("framed_at"),
    _number("drawn_units"), _number("readers"), _text("where_differ"), _number("lease_s"), _number("created_at"),
    # kept as images are drawn and labelled, so that no request counts them; agreement: the sum over those labelled twice
    _number("drawn"), _number("labelled"), _number("unreadable"), _number("twice"), _of("agreement", Float(53)),
    _of("has_candidates", Boolean()),
    UniqueConstraint("name", name="label_sets_name"))

# An image of a label set. `labelled_by`: who has labelled it; `closed`: nobody needs to any more, or it cannot be read.
SAMPLED = Table(
    "sampled", METADATA,
    _number("set_no", key=True), _number("place", key=True), _text("unit"), _number("image_no", optional=True),
    _text("uri"), _text("split", optional=True), _text("meta"), _text("candidates", optional=True),
    _text("fault", optional=True), _text("labelled_by"), _of("closed", Boolean()),
    _of("agreement", Float(53), optional=True),  # of those who labelled it
    Index("sampled_image", "image_no"), Index("sampled_open", "set_no", "closed", "place"))

LABEL_LEASES = Table(
    "label_leases", METADATA,
    _number("set_no", key=True), _number("image_no", key=True), _number("user_id", key=True), _number("until"),
    sqlite_with_rowid=False)

# A person has said what there is on an image: the objects of theirs that were added after the label numbered `since`.
LABELLINGS = Table(
    "labellings", METADATA,
    _number("number", key=True), _text("labelling_id"), _number("set_no", optional=True), _number("run_no", optional=True),
    _number("image_no"), _number("user_id"), _text("reader"), _of("candidates_shown", Boolean()), _number("since"),
    _number("n_objects"), _number("shown_at", optional=True), _number("done_at"),
    _number("worked_us", optional=True), _number("worked_until"), _text("request_id", optional=True),
    UniqueConstraint("labelling_id", name="labellings_labelling_id"),
    UniqueConstraint("user_id", "request_id", name="labellings_request"),
    Index("labellings_image", "image_no", "number"), Index("labellings_reader", "user_id", "number"),
    Index("labellings_set", "set_no", "number"))

# An object that a person marked; only ever added. Without a box it is the whole image.
LABELS = Table(
    "labels", METADATA,
    _number("number", key=True), _text("label_id"), _number("set_no", optional=True), _number("run_no", optional=True),
    _number("image_no"), _number("user_id"), _text("reader"), _number("made_at"), _text("class_name"), _number("frame"),
    _number("x0", optional=True), _number("y0", optional=True), _number("x1", optional=True), _number("y1", optional=True),
    _text("polygon", optional=True), _text("mask_rle", optional=True), _text("candidate_id", optional=True), _text("note"),
    _text("request_id", optional=True),
    UniqueConstraint("label_id", name="labels_label_id"), UniqueConstraint("user_id", "request_id", name="labels_request"),
    Index("labels_image", "image_no", "number"))

# How many candidates a run has by class and band, also those that are not here; and of those that were drawn from them to
# be audited how many are what, which is kept as decisions come.
BAND_COUNTS = Table(
    "band_counts", METADATA,
    _number("run_no", key=True), _number("class_no", key=True), _text("band", key=True), _number("count"),
    _number("n_objects"), _number("n_nothing"), _number("n_unsure"), _number("n_unread"),
    sqlite_with_rowid=False)

# Runs as they were asked for and how far they are; those that were made by a command come in when they are imported.
# `changed` grows whenever anything of the row does. `lease_*`: who works on it, and by which token; `lease_until` is by the
# clock of who does, so that it moves is all that it tells others.
JOBS = Table(
    "jobs", METADATA,
    _number("number", key=True), _text("run_id"), _text("asked"),  # JSON, as `segsvc.asking.Asked`
    _text("out"), _text("input"), _text("model"), _text("model_digest"), _text("asked_by"), _text("webhook", optional=True),
    _text("state"), _number("attempt"), _number("created_at"), _number("started_at", optional=True),
    _number("finished_at", optional=True), _text("error", optional=True), _number("listed"), _number("done"),
    _number("empty"), _number("failed"), _number("quarantined"), _number("accepted"), _number("review"),
    _number("rejected"), _of("eta_s", Float(53), optional=True), _number("changed"), _of("cancelling", Boolean()),
    _number("losses"),  # workers that were lost since an image ended last
    _number("lease_until", optional=True), _text("lease_token", optional=True), _text("lease_holder", optional=True),
    UniqueConstraint("run_id", name="jobs_run_id"), Index("jobs_state", "state", "number"))

# Every move of every attempt, in its order; only ever added.
JOB_MOVES = Table(
    "job_moves", METADATA,
    _number("number", key=True), _number("job_no"), _number("attempt"), _text("state"), _number("at"), _text("why"),
    Index("job_moves_job", "job_no", "number"))

# Requests that were made with a key, so that the same one is not done twice. `job_no` is null while it is being answered.
JOB_KEYS = Table(
    "job_keys", METADATA,
    _number("user_id", key=True), _text("key", key=True), _text("body_sha256"), _number("asked_at"),
    _number("job_no", optional=True), sqlite_with_rowid=False)

# Objects of buckets, the latest that was heard of each; of those alone that a rule takes. `at_ns`: when it was put or
# deleted, by its store's clock; `by_listing`: no event told of it. `listed_at`: the listing that saw it last.
S3_OBJECTS = Table(
    "s3_objects", METADATA,
    _text("uri", key=True), _text("etag"), _text("version_id"), _number("size_bytes"), _text("sequencer"), _number("at_ns"),
    _of("gone", Boolean()), _of("by_listing", Boolean()), _number("listed_at"), _number("changed_at"),
    sqlite_with_rowid=False)

# Rules of triggers as they were when they took something; `rule` is JSON.
S3_RULES = Table(
    "s3_rules", METADATA,
    _number("number", key=True), _text("digest"), _text("rule"), _of("seconds", Float(53)), _number("images"),
    UniqueConstraint("digest", name="s3_rules_digest"))

# A version of an object that a model is to see, or that was put into a run for it. `batch_no` 0: it waits for others.
S3_WORK = Table(
    "s3_work", METADATA,
    _text("uri", key=True), _text("etag", key=True), _text("model_digest", key=True), _number("size_bytes"),
    _number("rule_no"), _number("queued_at"), _number("batch_no"),
    Index("s3_work_batch", "batch_no", "rule_no", "queued_at"), sqlite_with_rowid=False)

# What is one run together; `run_id` is null until that run is queued, `error` why it could not be.
S3_BATCHES = Table(
    "s3_batches", METADATA,
    _number("number", key=True), _number("rule_no"), _text("name"), _number("images"), _number("cut_at"),
    _text("run_id", optional=True), _text("error", optional=True), Index("s3_batches_run", "run_id"))

# Messages that nobody could read, kept aside.
S3_STRAYS = Table(
    "s3_strays", METADATA,
    _text("sha256", key=True), _text("reason"), _text("body"), _number("size_bytes"), _number("times"), _number("first_at"),
    _number("last_at"), sqlite_with_rowid=False)

# Messages of runs to others. `due_at` is null once one was received or given up; `answer`: what came back last.
DELIVERIES = Table(
    "deliveries", METADATA,
    _number("number", key=True), _text("event_id"), _text("url"), _text("body"), _number("made_at"),
    _number("due_at", optional=True), _number("tries"), _text("answer"), Index("deliveries_due", "due_at"))
