"""Takes in what is heard of objects in buckets: doubled, out of order, put and deleted.

Of each object the latest is kept, whatever order it came in: by S3's sequencer where both have one, else by time. A version
of it that a model has not seen waits to be put into a run; (URI, ETag, digest of the model) is what is never done twice.
What changed later than now was changed before the clock was set back, thus before a listing that began since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, update

from segsvc import clock
from segsvc.event_documents import TakenDocument
from segsvc.ledger.bulk import inserting, or_nothing
from segsvc.ledger.event_records import Heard, Stray, StrayRecord, TakingRule
from segsvc.ledger.opening import Ledger
from segsvc.ledger.prepared import Prepared
from segsvc.ledger.tables import S3_OBJECTS, S3_RULES, S3_STRAYS, S3_WORK, as_time, as_us
from segsvc.ledger.writer import Writing
from segsvc.types import stable_id

MOST_STRAYS = 10_000  # kept aside; further ones are counted alone
_OBJECT = Prepared(select(S3_OBJECTS).where(S3_OBJECTS.c.uri == bindparam("key")))
_ADD = Prepared(insert(S3_OBJECTS))
_COLUMNS = tuple(column.name for column in S3_OBJECTS.columns if column.name != "uri")
_CHANGE = Prepared(update(S3_OBJECTS).where(S3_OBJECTS.c.uri == bindparam("key")).values(
    {name: bindparam(f"new_{name}") for name in _COLUMNS}))
_SEEN = Prepared(update(S3_OBJECTS).where(S3_OBJECTS.c.uri == bindparam("key")).values(listed_at=bindparam("at")))
_WAITING = 0  # the batch of what waits


def take_in(ledger: Ledger, rules: Sequence[TakingRule], heard: Sequence[Heard], *, strays: Sequence[Stray] = (),
            listing: int | None = None, at_once: bool = False) -> TakenDocument:
    """Stores all of it by one transaction; what became of it, in numbers.

    listing: what was heard is a piece of the listing that began at that time (`begin_listing`). at_once: what the rules have
    waiting becomes a run now.
    """
    def work(writing: Writing) -> TakenDocument:
        numbers = [_rule_number(writing, rule) for rule in rules]
        counted: Counter[str] = Counter()
        for each in heard:
            rule = rules[each.rule]
            counted[_hear(writing, each, rule.model_digest, numbers[each.rule], listing)] += 1
        for stray in strays:
            _keep_aside(writing, stray)
        if at_once and numbers:
            writing.conn.execute(update(S3_WORK).where(
                S3_WORK.c.batch_no == _WAITING, S3_WORK.c.rule_no.in_(numbers)).values(queued_at=0))
        return TakenDocument(events=len(heard), queued=counted["queued"], known=counted["known"], gone=counted["gone"],
                             stale=counted["stale"], kept_aside=len(strays))

    return ledger.write(work)


def begin_listing() -> int:
    """The time at which a listing begins: what changes later, it may not know."""
    return as_us(clock.utc_now())


def end_listing(ledger: Ledger, prefix: str, listing: int) -> int:
    """Marks as gone what lies below the prefix and was not in the listing; how many. What was heard since stays."""
    def work(writing: Writing) -> int:
        conn = writing.conn
        missing = (func.substr(S3_OBJECTS.c.uri, 1, len(prefix)) == prefix) & ~S3_OBJECTS.c.gone & and_(*(
            or_(at < listing, at > _latest(writing)) for at in (S3_OBJECTS.c.listed_at, S3_OBJECTS.c.changed_at)))
        waiting = (S3_WORK.c.batch_no == _WAITING) & S3_WORK.c.uri.in_(select(S3_OBJECTS.c.uri).where(missing))
        conn.execute(delete(S3_WORK).where(waiting))
        return conn.execute(update(S3_OBJECTS).where(missing).values(
            gone=True, sequencer="", version_id="", at_ns=listing * 1000, by_listing=True, changed_at=writing.now)).rowcount

    return ledger.write(work)


def compare(ledger: Ledger, rules: Sequence[TakingRule], listed: Sequence[Heard]) -> tuple[int, int]:
    """How many of what was listed were not put into a run or wait, and how many are known; nothing is stored."""
    found = Prepared(select(S3_WORK.c.batch_no).where(
        S3_WORK.c.uri == bindparam("uri"), S3_WORK.c.etag == bindparam("etag"),
        S3_WORK.c.model_digest == bindparam("model_digest")))
    with ledger.read() as conn:
        known = sum(found.first(conn, uri=each.uri, etag=each.etag, model_digest=rules[each.rule].model_digest) is not None
                    for each in listed)
    return len(listed) - known, known


def there(ledger: Ledger, prefix: str) -> dict[str, str]:
    """What is there below the prefix as far as was heard: ETags by URI."""
    with ledger.read() as conn:
        rows = conn.execute(select(S3_OBJECTS.c.uri, S3_OBJECTS.c.etag).where(
            func.substr(S3_OBJECTS.c.uri, 1, len(prefix)) == prefix, ~S3_OBJECTS.c.gone))
        return {row.uri: row.etag for row in rows}


def strays(ledger: Ledger) -> list[StrayRecord]:
    """The messages that are kept aside, those that came last first."""
    with ledger.read() as conn:
        rows = conn.execute(select(S3_STRAYS).order_by(S3_STRAYS.c.last_at.desc(), S3_STRAYS.c.sha256)).mappings().all()
    return [StrayRecord(Stray(row["reason"], row["body"], row["sha256"], row["size_bytes"]), row["times"],
                        as_time(row["first_at"]), as_time(row["last_at"])) for row in rows]


def _hear(writing: Writing, heard: Heard, model_digest: str, rule_no: int, listing: int | None) -> str:
    """Stores it, if it is the latest of its object; what it came to."""
    row = _OBJECT.first(writing.conn, key=heard.uri)
    new = {"etag": heard.etag, "version_id": heard.version_id, "size_bytes": heard.size_bytes, "sequencer": heard.sequencer,
           "at_ns": heard.at_ns, "gone": heard.gone, "by_listing": listing is not None, "listed_at": listing or 0,
           "changed_at": writing.now}
    if row is None:
        _ADD.run(writing.conn, {"uri": heard.uri, **new})
    else:
        same = not row["gone"] and not heard.gone and row["etag"] == heard.etag
        later = _is_later(heard, row) if listing is None else (
            not same and not listing <= row["changed_at"] <= _latest(writing))
        if listing is not None:
            _SEEN.run(writing.conn, {"key": heard.uri, "at": listing})
        if later:
            new["listed_at"] = listing or row["listed_at"]
            _CHANGE.run(writing.conn, {"key": heard.uri, **{f"new_{name}": value for name, value in new.items()}})
            if not same:
                writing.conn.execute(delete(S3_WORK).where(
                    S3_WORK.c.uri == heard.uri, S3_WORK.c.batch_no == _WAITING))
        elif not same:
            return "known" if heard.gone and row["gone"] else "stale"
    if heard.gone:
        return "gone"
    added = writing.conn.execute(or_nothing(writing.conn, S3_WORK).values(
        uri=heard.uri, etag=heard.etag, model_digest=model_digest, size_bytes=heard.size_bytes, rule_no=rule_no,
        queued_at=writing.now, batch_no=_WAITING))
    return "queued" if added.rowcount else "known"


def _latest(writing: Writing) -> int:
    """The latest time that can have been stored since the clock was last set back."""
    return writing.now + clock.APART_US


def _is_later(heard: Heard, row: dict[str, object]) -> bool:
    """Whether an event tells of something later than what is known of its object."""
    if heard.one_version and row["version_id"] not in ("", heard.version_id):
        return False  # an old version is gone
    if heard.sequencer and row["sequencer"]:
        return heard.sequencer > str(row["sequencer"])
    if (heard.at_ns, heard.gone, heard.etag) > (row["at_ns"], bool(row["gone"]), row["etag"]):
        return True
    # SeaweedFS' deletions bear the time of the put, which is before that of the listing that found it
    return heard.gone and bool(row["by_listing"]) and not row["gone"] and heard.etag == row["etag"]


def _rule_number(writing: Writing, rule: TakingRule) -> int:
    digest = stable_id(rule.rule, rule.model_digest)  # what waits for one is one run, of one model
    conn = writing.conn
    number: int | None = conn.execute(select(S3_RULES.c.number).where(S3_RULES.c.digest == digest)).scalar()
    if number is None:
        number = int(conn.execute(select(func.max(S3_RULES.c.number))).scalar() or 0) + 1
        conn.execute(insert(S3_RULES).values(number=number, digest=digest, rule=rule.rule, seconds=rule.seconds,
                                             images=rule.images))
    return number


def _keep_aside(writing: Writing, stray: Stray) -> None:
    conn = writing.conn
    kept = conn.execute(select(func.count()).select_from(S3_STRAYS)).scalar() or 0
    full = kept >= MOST_STRAYS
    new = inserting(conn.dialect.name, S3_STRAYS).values(
        sha256="further" if full else stray.sha256, reason="further ones" if full else stray.reason,
        body="" if full else stray.body, size_bytes=stray.size_bytes, times=1, first_at=writing.now, last_at=writing.now)
    conn.execute(new.on_conflict_do_update(index_elements=["sha256"], set_={
        "times": S3_STRAYS.c.times + 1, "last_at": new.excluded.last_at}))
