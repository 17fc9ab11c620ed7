"""A run comes into the ledger: its review band and an audit sample, once, however often it is done."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select

from segsvc.documents import RunState
from segsvc.errors import ConfigError, SegsvcError
from segsvc.ledger import candidates, decisions, images, intake, progress, queue, runs
from segsvc.ledger.errors import Refused, Unknown
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import ImageRecord, NewDecision, ReviewPolicy, Verdict
from segsvc.ledger.tables import CANDIDATES, DECISIONS, ENTRIES, IDS, IMAGE_IDS, IMAGES, QUEUE
from segsvc.settings import settings
from segsvc.types import Band
from tests.ledger.conftest import ANN, LEAD, TakeIn
from tests.ledger.runs import Drawn, image_id, put_bands, review, write_run

NO_SAMPLES = ReviewPolicy(audit_share=0.0, gold_share=0.0)


def rows(ledger: Ledger) -> dict[str, int]:
    with ledger.read() as conn:
        return {table.name: conn.execute(select(func.count()).select_from(table)).scalar() or 0
                for table in (CANDIDATES, IDS, IMAGES, IMAGE_IDS, ENTRIES, QUEUE, DECISIONS)}


def all_ids(ledger: Ledger, run_id: str, band: Band | None = None) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = candidates.page(ledger, LEAD, run_id, band=band, cursor=cursor, limit=7)
        found += [item.candidate_id for item in page.items]
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


def test_the_review_band_comes_in_and_what_rules_decided_is_one_row_a_band(ledger: Ledger, take_in: TakeIn) -> None:
    drawn = [*review(20), *(Drawn("cell", 0.9) for _ in range(5)), *(Drawn("cell", 0.1) for _ in range(3))]
    run = take_in(drawn)
    assert (run.review, run.audit, run.accepted, run.rejected) == (20, 0, 5, 3)
    assert all_ids(ledger, run.run_id) == [each.candidate_id(place) for place, each in enumerate(drawn[:20])]
    with ledger.read() as conn:
        said = conn.execute(select(DECISIONS.c.decider, DECISIONS.c.verdict, DECISIONS.c.n_candidates)).all()
    assert sorted(map(tuple, said)) == [("rule", "accepted", 5), ("rule", "rejected", 3)]
    assert [each.run_id for each in runs.all_runs(ledger)] == [run.run_id]


def test_the_same_again_changes_nothing_and_says_so(ledger: Ledger, tmp_path: Path) -> None:
    write_run(tmp_path / "run", review(10))
    told: list[str] = []
    first = intake.import_run(ledger, str(tmp_path / "run"), NO_SAMPLES, told.append)
    before = rows(ledger)
    assert told == []
    assert intake.import_run(ledger, str(tmp_path / "run"), None, told.append) == first
    assert rows(ledger) == before
    assert told == ["the ledger holds this run already, as it stands"]


def test_other_bands_add_what_is_newly_in_review_and_keep_what_was_decided(ledger: Ledger, tmp_path: Path) -> None:
    drawn = review(10, low=0.0, high=1.0)  # 0.05, 0.15, ... 0.95
    write_run(tmp_path / "run", drawn)
    run = intake.import_run(ledger, str(tmp_path / "run"), NO_SAMPLES)
    ids = [each.candidate_id(place) for place, each in enumerate(drawn)]
    assert all_ids(ledger, run.run_id) == ids[3:7]
    decisions.decide(ledger, ANN, ids[3], NewDecision(Verdict.REJECTED), if_match="*")
    put_bands(tmp_path / "run", 0.4, 0.9)
    again = intake.import_run(ledger, str(tmp_path / "run"))
    assert sorted(all_ids(ledger, run.run_id)) == sorted(ids[3:9])  # 3 was decided; 7 and 8 are new
    assert (again.review, again.accepted, again.rejected) == (5, 1, 4)
    assert candidates.find(ledger, ANN, ids[3]).decided
    standing = progress.progress(ledger, run.run_id, ANN)
    assert (standing.total, standing.done, standing.left) == (6, 1, 5)
    assert {item.candidate_id for item in queue.lease(ledger, ANN, run.run_id, n=50)} == set(ids[4:9])
    with pytest.raises(Unknown, match="candidate: expected one of the ledger"):
        candidates.find(ledger, ANN, ids[0])


def test_an_image_that_a_run_names_twice_gives_its_candidates_once(ledger: Ledger, tmp_path: Path) -> None:
    drawn = [Drawn("cell", 0.5, image=0), Drawn("cell", 0.6, image=1)]
    write_run(tmp_path / "run", drawn, shard_images=1)
    part = tmp_path / "run" / "candidates" / "part-00000.parquet"
    (tmp_path / "run" / "candidates" / "part-00001.parquet").write_bytes(part.read_bytes())
    (tmp_path / "run" / "images" / "part-00001.parquet").write_bytes(
        (tmp_path / "run" / "images" / "part-00000.parquet").read_bytes())
    run = intake.import_run(ledger, str(tmp_path / "run"), NO_SAMPLES)
    assert all_ids(ledger, run.run_id) == [drawn[0].candidate_id(0)]
    assert rows(ledger)["queue"] == 4  # a lane for every order


def test_an_image_whose_candidates_lie_apart_is_one_image(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                          ) -> None:
    monkeypatch.setattr(intake, "_ROWS_AT_ONCE", 1)
    drawn = [Drawn("cell", 0.5, image=image) for image in (0, 1, 0, 1)]
    write_run(tmp_path / "run", drawn)
    part = tmp_path / "run" / "candidates" / "part-00000.parquet"
    table = pq.read_table(part)
    pq.write_table(table.take([0, 2, 1, 3]), part, write_page_checksum=True)  # it is written image by image
    run = intake.import_run(ledger, str(tmp_path / "run"), NO_SAMPLES)
    found = [candidates.find(ledger, ANN, each.candidate_id(place)) for place, each in enumerate(drawn)]
    assert [item.image_id for item in found] == [image_id(each.image) for each in drawn]
    assert {images.find(ledger, image_id(image)).uri for image in (0, 1)} == {item.image_uri for item in found}
    assert (rows(ledger)["images"], rows(ledger)["image_ids"], run.review) == (2, 2, 4)


def test_an_import_that_was_cut_off_is_gone_on_with(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_ROWS_AT_ONCE", 1)
    drawn, others = [Drawn("cell", 0.5, image=place % 2) for place in range(6)], review(5, class_name="fibre")
    write_run(tmp_path / "run", drawn, shard_images=1)
    part = tmp_path / "run" / "candidates" / "part-00001.parquet"
    whole = part.read_bytes()
    part.write_bytes(b"")
    with pytest.raises(SegsvcError):
        intake.import_run(ledger, str(tmp_path / "run"), NO_SAMPLES)
    assert (rows(ledger)["candidates"], rows(ledger)["ids"]) == (2, 0)
    write_run(tmp_path / "other", others)
    other = intake.import_run(ledger, str(tmp_path / "other"), NO_SAMPLES)
    part.write_bytes(whole)
    run = intake.import_run(ledger, str(tmp_path / "run"), NO_SAMPLES)
    assert sorted(all_ids(ledger, run.run_id)) == sorted(each.candidate_id(place) for place, each in enumerate(drawn))
    assert all_ids(ledger, other.run_id) == [each.candidate_id(place) for place, each in enumerate(others)]
    assert rows(ledger) == {"candidates": 11, "ids": 11, "images": 2, "image_ids": 2, "entries": 11, "queue": 44,
                            "decisions": 0}


def test_two_runs_that_come_in_at_once_with_the_same_candidates_both_have_them(
        ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [Drawn("cell", 0.5, image=place % 3) for place in range(7)]
    both_began, both_came = threading.Barrier(2), threading.Barrier(2)
    selected, key, held = intake.select_part, intake.import_key, set[int]()

    def select_part(*given: Any, **more: Any) -> Any:
        if threading.get_ident() not in held:
            held.add(threading.get_ident())
            both_began.wait(60)
        return selected(*given, **more)

    def import_key(*given: Any) -> str:
        if threading.get_ident() in held:
            both_came.wait(60)
        return key(*given)

    monkeypatch.setattr(intake, "select_part", select_part)
    monkeypatch.setattr(intake, "import_key", import_key)
    for name in ("one", "two"):
        write_run(tmp_path / name, drawn)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda name: intake.import_run(ledger, str(tmp_path / name), NO_SAMPLES), ("one", "two")))
    ids = [each.candidate_id(place) for place, each in enumerate(drawn)]
    assert [sorted(all_ids(ledger, run.run_id)) for run in found] == [sorted(ids)] * 2
    assert rows(ledger) == {"candidates": 7, "ids": 7, "images": 3, "image_ids": 3, "entries": 14, "queue": 56,
                            "decisions": 0}
    item = candidates.find(ledger, ANN, ids[0])
    assert images.find(ledger, item.image_id).uri == item.image_uri


def test_the_audit_sample_is_a_share_that_depends_on_candidate_and_seed_alone(ledger: Ledger, tmp_path: Path) -> None:
    drawn = [*review(10), *(Drawn("cell", 0.9, image=place % 7) for place in range(400))]
    sampled = {}
    for name, seed, shard_images in (("one", 1, 2), ("two", 1, 5), ("three", 2, 5)):
        write_run(tmp_path / name, drawn, shard_images=shard_images)
        run = intake.import_run(ledger, str(tmp_path / name), ReviewPolicy(audit_share=0.25, seed=seed))
        assert run.audit == len(all_ids(ledger, run.run_id, Band.ACCEPTED))
        assert 60 < run.audit < 140
        sampled[name] = set(all_ids(ledger, run.run_id, Band.ACCEPTED))
    assert sampled["one"] == sampled["two"] != sampled["three"]


def test_the_seed_is_drawn_when_a_run_first_comes_in_and_kept_with_it(ledger: Ledger, tmp_path: Path) -> None:
    seeds = []
    for name in ("one", "two"):
        write_run(tmp_path / name, review(3))
        first = intake.import_run(ledger, str(tmp_path / name))
        put_bands(tmp_path / name, 0.4, 0.6)
        assert intake.import_run(ledger, str(tmp_path / name)).policy == first.policy
        seeds.append(first.policy.seed)
    assert len({0, *seeds}) == 3


def test_the_settings_may_say_the_seed(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSVC_REVIEW__SEED", "7")
    settings.cache_clear()
    write_run(tmp_path / "run", review(3))
    assert intake.import_run(ledger, str(tmp_path / "run")).policy.seed == 7
    settings.cache_clear()


def test_a_run_that_is_not_finished_is_refused_and_says_what_to_do(ledger: Ledger, tmp_path: Path) -> None:
    write_run(tmp_path / "run", review(1), state=RunState.FAILED)
    with pytest.raises(ConfigError, match=r"expected a finished run, got .* which is failed\. First run the same"):
        intake.import_run(ledger, str(tmp_path / "run"))
    with pytest.raises(ConfigError, match=r"without spec\.json"):
        intake.import_run(ledger, str(tmp_path / "nothing"))


def test_a_run_without_an_operating_point_is_all_for_review(ledger: Ledger, tmp_path: Path) -> None:
    write_run(tmp_path / "run", review(5, low=0.0, high=1.0), with_bands=False)
    run = intake.import_run(ledger, str(tmp_path / "run"), NO_SAMPLES)
    assert (run.review, run.accepted, run.rejected, run.point_digest) == (5, 0, 0, None)


def test_a_candidate_of_two_runs_has_one_record_of_decisions(ledger: Ledger, take_in: TakeIn) -> None:
    drawn = review(3)
    first, second = take_in(drawn, "one"), take_in(drawn, "two")
    one = drawn[0].candidate_id(0)
    assert candidates.find(ledger, ANN, one).run_id == second.run_id
    decisions.decide(ledger, ANN, one, NewDecision(Verdict.ACCEPTED), if_match="*")
    for run in (first, second):
        assert progress.progress(ledger, run.run_id, ANN).done == 1
        assert candidates.find(ledger, ANN, one, run.run_id).decided


def test_pages_are_by_class_and_band_and_begin_at_their_cursor(ledger: Ledger, take_in: TakeIn) -> None:
    run = take_in([*review(9), *review(5, class_name="fibre")])
    page = candidates.page(ledger, LEAD, run.run_id, class_name="fibre", band=Band.REVIEW, limit=3)
    assert [item.class_name for item in page.items] == ["fibre"] * 3
    assert len(candidates.page(ledger, LEAD, run.run_id, class_name="fibre", cursor=page.next_cursor).items) == 2
    assert candidates.page(ledger, LEAD, run.run_id, class_name="none") == candidates.Page((), None)
    for wrong in ("", "x", "-1", "1" * 30):
        with pytest.raises(Refused, match="cursor: expected the next_cursor of a page"):
            candidates.page(ledger, LEAD, run.run_id, cursor=wrong)


def test_images_are_found_by_their_id(ledger: Ledger, take_in: TakeIn) -> None:
    take_in([Drawn("cell", 0.5, image=3)])
    assert images.find(ledger, image_id(3)).uri == "file:///images/3.png"
    with pytest.raises(Unknown, match="image: expected one with candidates in the ledger"):
        images.find(ledger, image_id(0))


def test_an_image_that_is_named_twice_at_once_is_added_once(ledger: Ledger, take_in: TakeIn) -> None:
    take_in([Drawn("cell", 0.5, image=3)])
    there = images.find(ledger, image_id(3))
    new = ImageRecord(image_id(4), "file:///images/4.png", "1-1", 10, 20, 1)
    numbers = ledger.write(lambda writing: images.image_numbers(writing.conn, [new, there, new]))
    assert numbers == {image_id(3): 1, image_id(4): 2}
    assert images.find(ledger, image_id(4)) == new
    assert (rows(ledger)["images"], rows(ledger)["image_ids"]) == (2, 2)
