"""A ledger that an earlier version made tells the same once this one has opened it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from segsvc.ledger import candidates, decisions, gold, images, label_sets, labelling, queue
from segsvc.ledger.intake import import_run
from segsvc.ledger.label_records import DrawnImage, LabelTask, NewLabelling, NewObject, NewSet, ShownCandidate
from segsvc.ledger.missed import missed
from segsvc.ledger.opening import Ledger, open_ledger
from segsvc.ledger.records import ImageRecord, NewDecision, ReviewPolicy, Verdict
from segsvc.settings import RecordSettings
from segsvc.types import Band, Box
from tests.ledger.conftest import ANN, BOB
from tests.ledger.runs import Drawn, review, write_run
from tests.ledger.test_labels import FRAME

LOW = [*(Drawn("cell", 0.1, place % 5) for place in range(60)), *(Drawn("fibre", 0.2, place % 5) for place in range(40))]
KEPT = {"band_counts": ("n_objects", "n_nothing", "n_unsure", "n_unread"),
        "label_sets": ("drawn", "labelled", "unreadable", "twice", "agreement", "has_candidates")}

WHOLE_IDS = (
    "DROP TABLE image_ids", "DROP TABLE ids",
    "CREATE TABLE ids (candidate_id TEXT NOT NULL PRIMARY KEY, candidate_no BIGINT NOT NULL)",
    "INSERT INTO ids (candidate_id, candidate_no) SELECT candidate_id, number FROM candidates")


def review_some(ledger: Ledger, folder: Path) -> str:
    """A run whose audit sample has one of each: read as something, as nothing, unsure, known beforehand, not read."""
    write_run(folder, [*LOW, *review(3)])
    run_id = import_run(ledger, str(folder), ReviewPolicy(audit_share=0.3, gold_share=0.0, seed=5)).run_id
    items = [item for name in ("cell", "fibre") for item in queue.lease(ledger, ANN, run_id, class_name=name, n=100)]
    sampled = [item.candidate_id for item in items if item.band in (None, Band.REJECTED)]
    for candidate_id, verdict in zip(sampled, (Verdict.ACCEPTED, Verdict.UNSURE, Verdict.REJECTED), strict=False):
        decisions.decide(ledger, ANN, candidate_id, NewDecision(verdict), if_match="*")
    gold.put(ledger, run_id, {sampled[5]: Verdict.ACCEPTED, sampled[-1]: Verdict.REJECTED}, "lead")
    return run_id


def label_some(ledger: Ledger) -> None:
    """A set of four images: one labelled by two who differ, one by one person, one open, one that cannot be opened."""
    images = [ImageRecord(f"{place:032x}", f"file:///data/{place}.png", "1", 100, 80, 1) for place in range(3)]
    drawn = [DrawnImage(each.uri, each.uri, each, candidates=(ShownCandidate("c", "car", Box(1, 2, 3, 4), None, 0.5),))
             for each in images]
    label_sets.create(ledger, NewSet("streets", LabelTask.OBJECTS, ("car",), "/data", FRAME, seed=0, readers=2),
                      [*drawn, DrawnImage("bad", "bad", None, fault="no image")], units=4)
    car = NewObject("car", Box(10, 10, 30, 30))
    for reader, place, objects in ((ANN, 0, (car,)), (BOB, 0, ()), (ANN, 1, (car,))):
        labelling.done(ledger, reader, images[place].image_id, NewLabelling(not objects, objects), set_name="streets")


def test_counts_that_were_not_kept_are_made_of_what_is_there(place: str, record: RecordSettings, tmp_path: Path) -> None:
    with open_ledger(place, record=record) as ledger:
        run_id = review_some(ledger, tmp_path / "run")
        label_some(ledger)
        bounds, found = missed(ledger, run_id), label_sets.find(ledger, "streets")
        items = candidates.page(ledger, ANN, run_id).items
        with ledger.engine.execution_options(writes=True).connect() as conn, conn.begin():
            for statement in WHOLE_IDS:
                conn.execute(text(statement))
            for table in ("jobs", "job_moves", "job_keys", "deliveries",
                          "s3_objects", "s3_rules", "s3_work", "s3_batches", "s3_strays"):
                conn.execute(text(f"DROP TABLE {table}"))
            for table, columns in KEPT.items():
                for column in columns:
                    conn.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
            conn.execute(text("UPDATE alembic_version SET version_num = '0003'"))
    of_cells = bounds.classes[0].audited
    assert min(of_cells.objects, of_cells.nothing, of_cells.unsure, of_cells.left) >= 1
    assert (found.drawn, found.labelled, found.unreadable, found.agreement, found.has_candidates) == (4, 1, 1, 0.0, True)
    with open_ledger(place, record=record) as ledger:
        assert missed(ledger, run_id) == bounds
        assert label_sets.find(ledger, "streets") == found
        assert [candidates.find(ledger, ANN, each.candidate_id) for each in items] == list(items)
        assert {images.find(ledger, each.image_id).uri for each in items} == {each.image_uri for each in items}
