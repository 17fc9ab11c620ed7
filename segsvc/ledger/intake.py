"""A run's review band and audit sample into the ledger: part by part, and the same however often it is done.

First rows are added in the run's order, a thousand a transaction; then what is sorted otherwise (ids, lanes of the
queue) is made of them by sorted statements. So a million candidates are written once, not a page for each, and the next
run takes as long as the first one.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from itertools import chain, compress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, delete, exists, func, insert, select, update

from segsvc.documents import RunDocument
from segsvc.ledger import audit, ids, jobs, lanes, service_counts
from segsvc.ledger.bulk import insert_rows
from segsvc.ledger.candidates import chunks, decision_rows, is_entry
from segsvc.ledger.images import add_images
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import Decider, ImageRecord, ReviewPolicy, RunRecord, Verdict
from segsvc.ledger.runs import chosen_policy, find, policy_columns, policy_of
from segsvc.ledger.selecting import Selected, select_part
from segsvc.ledger.service_counts import Counted
from segsvc.ledger.standing import stand, tallies
from segsvc.ledger.tables import (
    BAND_COUNTS,
    CANDIDATES,
    CLASSES,
    DECISIONS,
    ENTRIES,
    RUNS,
    TALLIES,
    entry_number,
)
from segsvc.ledger.writer import Writing
from segsvc.operating_point import OperatingPoint
from segsvc.results import RunFolder
from segsvc.stores import store_of
from segsvc.summary import finished_document
from segsvc.types import Band
from segsvc.views import OpenRun

_ROWS_AT_ONCE = 1000  # some 20 ms, for which decisions wait
_SAYS_EVERY = 100_000
_CONTENT = "frame kind x0 y0 x1 y1 area_px mask_rle text touches_edge score".split()
_OF_CANDIDATE = ["candidate_id", "image_id", "class_name", "band", "probability", *_CONTENT]
_OF_IMAGE = "image_id width_px height_px frames image_uri image_version".split()
_REVIEWED = "read_by outcome gold gold_at gold_by".split()  # kept of an entry that is imported again
_CANDIDATE = ["number", "candidate_id", "image_no", "class_no", *_CONTENT]
_ENTRY = ["number", "run_no", "candidate_no", "class_no", "band", "audit", "probability", "distance", "shuffle", "import_no",
          *_REVIEWED]


@dataclass(slots=True)
class _Import:
    """An import under way: the run's number, which import of it this is, and what is known of it so far."""

    run_no: int
    import_no: int
    run: OpenRun
    point: OperatingPoint | None
    policy: ReviewPolicy
    images: dict[str, int] = field(default_factory=dict)  # numbers of those that came last: the next rows may be of them
    decided: Counter[Band] = field(default_factory=Counter)
    bands: Counter[tuple[str, str]] = field(default_factory=Counter)  # of all candidates, by class and band
    px: Counter[str] = field(default_factory=Counter)  # of all images, by status
    review: int = 0
    audit: int = 0


def import_run(ledger: Ledger, out: str, policy: ReviewPolicy | None = None,
               say: Callable[[str], None] = lambda text: None) -> RunRecord:
    """Takes the run in OUT into the ledger, or what changed of it since; the run as it stands there.

    policy: how it is reviewed; None: as it was, or as the settings say. After `segsvc band` candidates that are newly in
    review are added; those that are no more are taken out, unless somebody decided of them. Raises ConfigError for a run
    that is not finished.
    """
    folder = RunFolder(store_of(out).folder(out))
    run, document = OpenRun(folder), finished_document(folder, out)
    point = run.operating_point
    begun = ledger.write(lambda writing: _begin(writing, document, run, point, policy))
    if begun is None:
        say("the ledger holds this run already, as it stands")
        return find(ledger, document.id)
    there = told = 0
    for some in _joined(_selected(begun)):
        _write(ledger, begun, some)
        there += len(some.audit)
        if there - told >= _SAYS_EVERY:
            told = there
            say(f"{told} candidates are in the ledger")
    key = import_key(document, point, begun.policy)
    ledger.write(lambda writing: ids.fill(writing.conn))
    ledger.write(lambda writing: _finish(writing, begun, document, key))
    return find(ledger, document.id)


def _selected(begun: _Import) -> Iterator[_Some]:
    """What of the run people are to see; the rest is counted on the way."""
    for images, candidates in begun.run.parts(begun.point):
        selected = select_part(candidates, begun.point, audit_share=begun.policy.audit_share, seed=begun.policy.seed)
        begun.decided.update(selected.decided)
        begun.bands.update(_by_class_and_band(candidates))
        begun.px.update(_px_by_status(images))
        begun.audit += int(selected.audit.sum())
        begun.review += len(selected.audit) - int(selected.audit.sum())
        yield from _some(images, selected)


def _by_class_and_band(candidates: pa.Table) -> dict[tuple[str, str], int]:
    counts = candidates.group_by(["class_name", "band"]).aggregate([([], "count_all")])
    return {(row["class_name"], row["band"]): row["count_all"] for row in counts.to_pylist()}


def _px_by_status(images: pa.Table) -> dict[str, int]:
    px = pc.multiply(images["width_px"].cast(pa.int64()), images["height_px"].cast(pa.int64()))
    table = pa.table({"status": images["status"], "px": pc.coalesce(px, 0)}).group_by("status").aggregate([("px", "sum")])
    return {row["status"]: row["px_sum"] for row in table.to_pylist()}


def _write(ledger: Ledger, begun: _Import, some: _Some) -> None:
    begun.images = ledger.write(lambda writing: _add(writing.conn, begun, some))


def import_key(document: RunDocument, point: OperatingPoint | None, policy: ReviewPolicy) -> str:
    """What tells a run as it stands from the same run at another time, or reviewed otherwise."""
    said = [document.id, document.attempt, str(document.finished_at), document.images.model_dump(), point_digest(point),
            astuple(policy)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def point_digest(point: OperatingPoint | None) -> str | None:
    """The digest of an operating point: of all that it says, whenever it was put in force."""
    if point is None:
        return None
    return hashlib.sha256(point.model_copy(update={"set_at": None}).to_json().encode()).hexdigest()


def _begin(writing: Writing, document: RunDocument, run: OpenRun, point: OperatingPoint | None,
           policy: ReviewPolicy | None) -> _Import | None:
    """The import, with its row; None where the ledger holds the run as it stands."""
    conn = writing.conn
    row = conn.execute(select(RUNS).where(RUNS.c.run_id == document.id)).mappings().one_or_none()
    if policy is None:
        policy = policy_of(row) if row is not None else chosen_policy()
    if row is not None and row["import_key"] == import_key(document, point, policy) and _is_counted(conn, row):
        return None
    spec = document.spec
    columns = {"out": document.out, "input": spec.input, "model": spec.model, "model_digest": spec.model_digest,
               "point_digest": point_digest(point), "point_wording": document.operating_point_wording, "import_key": None}
    if row is None:
        number = (conn.execute(select(func.max(RUNS.c.number))).scalar() or 0) + 1
        conn.execute(insert(RUNS).values(
            number=number, run_id=document.id, class_names="[]", imports=1, review=0, audit=0, accepted=0, rejected=0,
            **policy_columns(policy), **columns))
        imports = 1
    else:
        number, imports = row["number"], row["imports"] + 1
        conn.execute(update(RUNS).where(RUNS.c.number == number).values(imports=imports, import_key=None))
    ids.fill(conn)  # what an import that was cut off has left
    return _Import(number, imports, run, point, policy)


def _is_counted(conn: Connection, row: Mapping[Any, Any]) -> bool:
    """Whether the run's candidates were counted by class and band, as they are by this version."""
    total = row["review"] + row["accepted"] + row["rejected"]
    return not total or conn.execute(select(BAND_COUNTS.c.run_no).where(
        BAND_COUNTS.c.run_no == row["number"]).limit(1)).scalar() is not None


@dataclass(frozen=True, slots=True)
class _Some:
    """Some of the selected candidates, by column; and their parts' images by id."""

    columns: Mapping[str, list[Any]]
    audit: list[bool]
    distance: list[int]
    shuffle: list[int]
    images: Mapping[str, Mapping[str, Any]]


def _some(images: pa.Table, selected: Selected) -> Iterator[_Some]:
    table = selected.candidates
    if table.num_rows == 0:
        return
    by_id = {row["image_id"]: row for row in images.select(_OF_IMAGE).to_pylist()}
    for start in range(0, table.num_rows, _ROWS_AT_ONCE):
        some = table.slice(start, _ROWS_AT_ONCE)
        stop = start + some.num_rows
        yield _Some({name: some[name].to_pylist() for name in _OF_CANDIDATE}, selected.audit[start:stop].tolist(),
                    selected.distance[start:stop].tolist(), selected.shuffle[start:stop].tolist(), by_id)


def _joined(parts: Iterable[_Some]) -> Iterator[_Some]:
    """As many together as a transaction takes; one for each part costs a flush of the disk for each."""
    waiting: list[_Some] = []
    rows = 0
    for some in parts:
        if waiting and rows + len(some.audit) > _ROWS_AT_ONCE:
            yield _as_one(waiting)
            waiting, rows = [], 0
        waiting.append(some)
        rows += len(some.audit)
    if waiting:
        yield _as_one(waiting)


def _as_one(some: Sequence[_Some]) -> _Some:
    if len(some) == 1:
        return some[0]
    joined = chain.from_iterable
    return _Some({name: list(joined(each.columns[name] for each in some)) for name in _OF_CANDIDATE},
                 list(joined(each.audit for each in some)), list(joined(each.distance for each in some)),
                 list(joined(each.shuffle for each in some)),
                 {image_id: image for each in some for image_id, image in each.images.items()})


def _add(conn: Connection, begun: _Import, some: _Some) -> dict[str, int]:
    """Adds candidates that are not there yet, and their entries in the run; the numbers of their images."""
    column, count = some.columns, len(some.audit)
    candidate_ids, image_ids = column["candidate_id"], column["image_id"]
    found = ids.numbers(conn, ids.IMAGE, image_ids)
    there = {each: number for each, number in begun.images.items() if each in some.images} | found
    # a candidate's id is a hash of its image's too: on an image that is new all are
    known = ids.numbers(conn, ids.CANDIDATE, compress(candidate_ids, [each in there for each in image_ids])) if there else {}
    images = add_images(conn, [_image(some.images[each]) for each in dict.fromkeys(image_ids)], there)
    classes = _class_numbers(conn, sorted(set(column["class_name"])))
    last = conn.execute(select(func.max(CANDIDATES.c.number))).scalar() or 0
    numbers, is_new = [], []
    for candidate_id in candidate_ids:
        number = known.get(candidate_id)
        is_new.append(number is None)
        if number is None:
            last += 1
            number = known[candidate_id] = last
        numbers.append(number)
    class_nos = [classes[name] for name in column["class_name"]]
    rows = zip(numbers, candidate_ids, [images[each] for each in image_ids], class_nos,
               *(column[name] for name in _CONTENT), strict=True)
    insert_rows(conn, CANDIDATES, _CANDIDATE, list(compress(rows, is_new)))
    run_no = begun.run_no
    entries = dict(zip(numbers, zip(
        [entry_number(run_no, number) for number in numbers], [run_no] * count, numbers, class_nos, column["band"],
        some.audit, column["probability"], some.distance, some.shuffle, [begun.import_no] * count, [lanes.NOBODY] * count,
        *([None] * count for _ in _REVIEWED[1:]), strict=True), strict=True))
    if begun.import_no > 1:
        _keep_reviewed(conn, run_no, entries)
    insert_rows(conn, ENTRIES, _ENTRY, list(entries.values()))
    return images


def _keep_reviewed(conn: Connection, run_no: int, entries: dict[int, tuple[Any, ...]]) -> None:
    """Puts into new entries, by number, what was reviewed of those that they take the place of, which are removed."""
    for some in chunks(sorted(entries)):
        for row in conn.execute(select(ENTRIES).where(is_entry(run_no, some))).mappings():
            number = row["candidate_no"]
            entries[number] = (*entries[number][:-len(_REVIEWED)], *(row[name] for name in _REVIEWED))
        conn.execute(delete(ENTRIES).where(is_entry(run_no, some)))


def _image(row: Mapping[str, Any]) -> ImageRecord:
    return ImageRecord(row["image_id"], row["image_uri"], row["image_version"], row["width_px"], row["height_px"],
                       row["frames"])


def _class_numbers(conn: Connection, names: Sequence[str]) -> dict[str, int]:
    """The numbers of these classes, which are added where they are not there yet."""
    found = {row[0]: row[1] for row in conn.execute(select(CLASSES.c.name, CLASSES.c.number))}
    for name in names:
        if name not in found:
            found[name] = max(found.values(), default=0) + 1
            conn.execute(insert(CLASSES).values(number=found[name], name=name))
    return found


def _finish(writing: Writing, begun: _Import, document: RunDocument, key: str) -> None:
    """Takes out what is no more in review, notes what rules decided, and makes queue and tallies anew."""
    conn, run_no = writing.conn, begun.run_no
    if begun.import_no > 1:
        decided = exists().where(DECISIONS.c.candidate_no == ENTRIES.c.candidate_no)
        conn.execute(delete(ENTRIES).where(ENTRIES.c.run_no == run_no, ENTRIES.c.import_no < begun.import_no,
                                           ENTRIES.c.gold.is_(None), ~decided))
    _note_rules(writing, begun)
    _count_again(conn, begun)
    _count_bands(conn, begun)
    lanes.build(conn, run_no)
    classes = conn.execute(select(CLASSES.c.number, CLASSES.c.name)).all()
    here = sorted(name for number, name in classes if conn.execute(select(ENTRIES.c.candidate_no).where(
        ENTRIES.c.run_no == run_no, ENTRIES.c.class_no == number).limit(1)).scalar() is not None)
    conn.execute(update(RUNS).where(RUNS.c.number == run_no).values(
        out=document.out, point_digest=point_digest(begun.point), point_wording=document.operating_point_wording,
        class_names=json.dumps(here, ensure_ascii=False), imported_at=writing.now, import_key=key, review=begun.review,
        audit=begun.audit, accepted=begun.decided[Band.ACCEPTED], rejected=begun.decided[Band.REJECTED],
        **policy_columns(begun.policy)))
    jobs.take_in(writing, document)
    if begun.import_no == 1:
        _count_work(writing, begun, document)
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("ANALYZE")  # it plans by what it counted, and that may be the empty tables of before


def _note_rules(writing: Writing, begun: _Import) -> None:
    """A decision for all candidates of a band that the operating point decided, where the last one says otherwise."""
    digest, spec = point_digest(begun.point), begun.run.spec
    for band, verdict in ((Band.ACCEPTED, Verdict.ACCEPTED), (Band.REJECTED, Verdict.REJECTED)):
        said = writing.conn.execute(select(DECISIONS.c.point_digest, DECISIONS.c.n_candidates).where(
            DECISIONS.c.run_no == begun.run_no, DECISIONS.c.decider == Decider.RULE.value,
            DECISIONS.c.verdict == verdict.value).order_by(DECISIONS.c.number.desc()).limit(1)).one_or_none()
        count = begun.decided[band]
        if (said is None and count == 0) or (said is not None and tuple(said) == (digest, count)):
            continue
        writing.add_decision({
            "decider": Decider.RULE.value, "run_no": begun.run_no, "candidate_no": None, "candidate_id": None,
            "verdict": verdict.value, "user_id": None, "reader": "", "shown_at": None, "worked_us": None,
            "worked_until": writing.now, "note": "", "text": None, "mask_rle": None, "x0": None, "y0": None, "x1": None,
            "y1": None, "undoes": None, "request_id": None, "model_digest": spec.model_digest, "point_digest": digest,
            "n_candidates": count})


def _count_work(writing: Writing, begun: _Import, document: RunDocument) -> None:
    """What the run was, for whoever watches the service; once, however often it is imported."""
    for status, count in document.images.model_dump(exclude={"listed"}).items():
        service_counts.count(writing, Counted.IMAGES, count, of=status)
    for status, px in begun.px.items():
        service_counts.count(writing, Counted.PX, px, of=status)
    for stage, seconds in document.seconds_by_stage.items():
        service_counts.count(writing, Counted.STAGE_US, round(seconds * 1e6), of=stage)


def _count_bands(conn: Connection, begun: _Import) -> None:
    numbers = _class_numbers(conn, sorted({name for name, _ in begun.bands}))
    audited = audit.counted(conn, begun.run_no, import_no=begun.import_no, readers=begun.policy.readers)
    conn.execute(delete(BAND_COUNTS).where(BAND_COUNTS.c.run_no == begun.run_no))
    rows = []
    for (name, band), count in begun.bands.items():
        came = audited.get((numbers[name], band), Counter[audit.Outcome]())
        rows.append((begun.run_no, numbers[name], band, count, *(came[each] for each in audit.Outcome)))
    insert_rows(conn, BAND_COUNTS, ["run_no", "class_no", "band", "count", *audit.Outcome], sorted(rows))


def _count_again(conn: Connection, begun: _Import) -> None:
    """Makes the run's tallies out of its entries, and what stands of those that were decided by the policy of now."""
    run_no, readers = begun.run_no, begun.policy.readers
    count: Counter[tuple[str, int]] = Counter()
    in_run = conn.execute(select(func.count()).select_from(ENTRIES).where(
        ENTRIES.c.run_no == run_no, ENTRIES.c.gold.is_(None))).scalar() or 0
    untouched = stand((), readers=readers)
    for key, one in tallies(untouched, readers=readers, gold=None).items():
        count[key] += one * in_run
    decided = select(DECISIONS.c.candidate_no, ENTRIES.c.gold).join(
        ENTRIES, ENTRIES.c.number == DECISIONS.c.candidate_no + entry_number(run_no, 0)).distinct()
    golds = {row[0]: row[1] for row in conn.execute(decided)}
    for some in chunks(sorted(golds)):
        for number, rows in decision_rows(conn, some).items():
            standing, gold = stand(rows, readers=readers), golds[number]
            count.update(tallies(standing, readers=readers, gold=gold))
            if gold is None:
                count.subtract(tallies(untouched, readers=readers, gold=None))
            conn.execute(update(ENTRIES).where(is_entry(run_no, [number])).values(
                read_by=standing.read_by, outcome=standing.outcome_verdict))
    conn.execute(delete(TALLIES).where(TALLIES.c.run_no == run_no))
    insert_rows(conn, TALLIES, ["run_no", "name", "user_id", "count"],
                [(run_no, name, user_id, number) for (name, user_id), number in sorted(count.items())])
