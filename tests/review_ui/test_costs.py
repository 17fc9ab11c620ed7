"""What a recall costs, over HTTP: a run's own candidates counted once, a model's expected, and what is said without any."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import httpx2 as httpx
import pytest

from review_ui.run_costs import RunCosts
from segsvc.ledger import label_sets, labelling, users
from segsvc.ledger.label_records import DrawnImage, Frame, LabelTask, NewLabelling, NewObject, NewSet
from segsvc.ledger.records import LOCAL, ImageRecord, ReviewPolicy, Role
from segsvc.results import RunFolder
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.types import Box
from tests.calibrated import RECALLS, calibrated_run, point, proof, write_calibrated_model
from tests.ledger.runs import Drawn, put_bands, write_run
from tests.listings import make
from tests.review_ui.conftest import Served, begun
from tests.s3_servers import Asked, Said, UseServer, s3_error, scripted

DRAWN = [Drawn("cell", place / 100, place % 7) for place in range(100)]
POLICY = ReviewPolicy(audit_share=0.1, gold_share=0.0, seed=3)


@pytest.fixture
def costly(tmp_path: Path, in_process: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server on a calibrated run, that knows a calibrated model."""
    calibration = point(cell=proof(RECALLS, beyond={0.98: 30, 0.99: None}))
    calibrated_run(tmp_path / "out", DRAWN, calibration)
    write_calibrated_model(tmp_path / "models", "cells", calibration)
    monkeypatch.setenv("SEGSVC_MODELS_DIR", str(tmp_path / "models"))
    settings.cache_clear()
    with ExitStack() as stack:
        yield begun(stack, tmp_path, tmp_path / "out", POLICY, is_local=True)


def answer(served: Served, path: str, status: int = 200) -> dict[str, Any]:
    found = served.client.get(path)
    assert found.status_code == status, found.text
    document: dict[str, Any] = found.json()
    return document


def test_a_runs_candidates_are_counted_at_each_recall_and_a_command_puts_it_in_force(costly: Served, tmp_path: Path) -> None:
    found = answer(costly, f"/v1/review/runs/{costly.run_id}/cost")
    assert [(row["recall"], row["review"], row["accepted"], row["rejected"]) for row in found["rows"]] == [
        (0.8, 30, 10, 60), (0.9, 50, 10, 40), (0.95, 60, 10, 30)]
    assert [row["audit"] for row in found["rows"]] == pytest.approx([7.0, 5.0, 4.0])
    assert found["rows"][0]["hours"] == pytest.approx(37 * 2.0 / 3600)
    assert found["rows"][1]["command"] == f"segsvc band {tmp_path / 'out'} --recall 0.9"
    assert found["beyond"] == [{"recall": 0.98, "more_units": 60, "more_images": 60},
                               {"recall": 0.99, "more_units": None, "more_images": None}]
    assert (found["counted"], found["images"], found["in_force"], found["pace"]["basis"]) == (True, 7, 0.95, "assumed")
    assert found["says"] == ("at recall 0.95 you will review 60 candidates of 7 images, 2 minutes; to promise 0.98 label 60 "
                             "images more")
    assert found["wording"] == "guaranteed as calibrated"


def test_a_models_costs_are_expected_for_as_many_images_as_are_asked_for(costly: Served) -> None:
    small, large = (answer(costly, f"/v1/models/cells/cost?images={images}") for images in (1000, 50_000))
    assert [row["review"] for row in small["rows"]] == [50, 250, 500]
    assert [row["review"] for row in large["rows"]] == [2500, 12_500, 25_000]
    assert large["rows"][2]["command"] == "segsvc run INPUT --model cells --out OUT --recall 0.95"
    assert (large["counted"], large["images"], large["in_force"]) == (False, 50_000, 0.95)
    for images in ("0", "-1", "x", str(10**10)):
        assert answer(costly, f"/v1/models/cells/cost?images={images}", 422)["type"].endswith("invalid")
    unknown = answer(costly, "/v1/models/none/cost", 404)
    assert "expected one of" in unknown["detail"] and "cells" in unknown["detail"]


def test_without_a_calibration_it_says_how_to_come_by_one(costly: Served, tmp_path: Path) -> None:
    assert answer(costly, "/v1/models/nuclei/cost")["says"].startswith("there is no calibration: `segsvc calibrate MODEL")
    write_run(tmp_path / "plain", DRAWN)
    with ExitStack() as stack:
        (tmp_path / "other").mkdir()
        plain = begun(stack, tmp_path / "other", tmp_path / "plain", POLICY, is_local=True)
        found = answer(plain, f"/v1/review/runs/{plain.run_id}/cost")
    assert (found["rows"], found["beyond"]) == ([], [])


def test_a_run_that_is_gone_or_unknown_is_told(costly: Served, tmp_path: Path) -> None:
    assert answer(costly, "/v1/review/runs/none/cost", 404)["type"].endswith("unknown")
    shutil.rmtree(tmp_path / "out")
    assert "spec.json" in answer(costly, f"/v1/review/runs/{costly.run_id}/cost", 503)["detail"]


def test_the_parts_are_read_once_and_other_bands_are_told_at_once(tmp_path: Path) -> None:
    calibrated_run(tmp_path / "out", DRAWN, point(cell=proof(RECALLS)))
    costs, out = RunCosts(), str(tmp_path / "out")
    first = costs.of(out)
    shutil.rmtree(tmp_path / "out" / "candidates")
    second = costs.of(out)
    assert first is not None and second is not None
    assert second.counts is first.counts
    put_bands(tmp_path / "out", 0.2, None)  # by hand: the calibration is the same
    third = costs.of(out)
    assert third is not None
    assert (third.counts is first.counts, first.in_force, third.in_force) == (True, 0.95, None)
    folder = RunFolder(store_of(out).folder(out))
    assert len(folder.operating_points()) == 2


def test_the_pages_are_there_for_runs_and_models(costly: Served) -> None:
    for path in (f"/review/{costly.run_id}/cost", "/cost", "/cost?model=cells&images=20", "/cost?model=nuclei"):
        page = costly.client.get(path)
        assert (page.status_code, "What a recall costs" in page.text) == (200, True), path
    assert costly.client.get("/cost?model=none").status_code == 404
    assert costly.client.get("/review/none/cost").status_code == 404


def test_what_rules_missed_at_the_most_is_told_by_the_route_and_on_both_pages(costly: Served) -> None:
    path = f"/v1/review/runs/{costly.run_id}/missed"
    [before] = answer(costly, path)["items"]
    assert (before["class_name"], before["rejected"], before["left"], before["at_most"]) == ("cell", 30, before["drawn"], 30)
    assert 0 < before["drawn"] < 30
    while more := costly.lease(n=50):
        for item in more:
            assert costly.decide(item, verdict="rejected").status_code == 201
    [after] = answer(costly, path)["items"]
    assert (after["left"], after["nothing"], after["drawn"]) == (0, before["drawn"], before["drawn"])
    assert after["at_most"] < 30
    assert "Objects among them, at most" in costly.client.get("/review").text
    side = costly.client.get(f"/review/{costly.run_id}").text
    assert "Missed by rule, at most" in side and f"<dd>{after['at_most']} of 30</dd>" in side
    assert answer(costly, "/v1/review/runs/none/missed", 404)["type"].endswith("unknown")


def test_whole_images_that_were_labelled_are_told_as_far_as_they_are_labelled(costly: Served) -> None:
    path = f"/v1/review/runs/{costly.run_id}/missed"
    assert answer(costly, path)["images"] == []
    images = [DrawnImage(f"file:///data/{place}.png", f"{place}", ImageRecord(
        f"{place:032x}", f"file:///data/{place}.png", "1", 100, 80, 1), candidates=()) for place in range(3)]
    frame = Frame("frame.parquet", "0" * 64, 7, 7, datetime(2026, 11, 2, tzinfo=UTC))
    label_sets.create(costly.ledger, NewSet("cells", LabelTask.OBJECTS, ("cell",), "/data", frame, seed=0,
                                            run_id=costly.run_id), images, units=3)
    bounds = []
    for place in range(3):
        objects = (NewObject("cell", Box(1, 1, 9, 9)),) if place == 1 else ()
        labelling.done(costly.ledger, LOCAL, f"{place:032x}", NewLabelling(not objects, objects), set_name="cells")
        [found] = answer(costly, path)["images"]
        bounds.append((found["missed"], found["left"], found["at_most"]))
    assert (found["set"], found["unit"], found["class_name"], found["units"], found["drawn"]) == (
        "cells", "image", "cell", 7, 3)
    assert [each[:2] for each in bounds] == [(0, 2), (1, 1), (1, 0)]
    assert [each[2] for each in bounds] == sorted((each[2] for each in bounds), reverse=True)
    assert "With a miss, at most" in costly.client.get(f"/review/{costly.run_id}").text


def counted(client: httpx.Client, place: object, status: int = 200, **headers: str) -> dict[str, Any]:
    found = client.post("/v1/inputs/count", json={"input": str(place)}, headers=headers)
    assert found.status_code == status, found.text
    document: dict[str, Any] = found.json()
    return document


def test_the_images_of_a_folder_are_counted_by_listing_and_not_opened(costly: Served, tmp_path: Path) -> None:
    make(tmp_path / "street", "a.png", "below/b.tif", "notes.txt", ".hidden", "no image at all")
    found = counted(costly.client, tmp_path / "street")
    assert (found["images"], found["skipped"], found["whole"]) == (3, 2, True)
    assert found["says"] == "3 images; 2 others are passed over"
    assert counted(costly.client, tmp_path / "street" / "*.png")["says"] == "1 image"
    (tmp_path / "empty").mkdir()
    assert counted(costly.client, tmp_path / "empty")["says"] == "0 images"


def test_what_is_no_input_is_said_and_what_cannot_be_reached_too(costly: Served, tmp_path: Path, use: UseServer) -> None:
    missing = counted(costly.client, tmp_path / "nowhere", 422)
    assert missing["type"].endswith("invalid")
    assert "expected a file, folder, glob or manifest" in missing["detail"]
    for place in ("ftp://host/folder", "", "a\0b", "x" * 4001):
        assert counted(costly.client, place, 422)["type"].endswith("invalid")
    with scripted(lambda asked: s3_error("NoSuchBucket", 404)) as (server, _):
        use(server)
        assert counted(costly.client, "s3://none-such/street/", 422)["type"].endswith("invalid")


def test_where_users_were_made_only_an_admin_has_places_listed_that_the_server_may_use(
        costly: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "street", "a.png")
    make(tmp_path / "private", "b.png")
    (tmp_path / "street" / "list.csv").write_text("uri\n../private/b.png\n")
    monkeypatch.setenv("SEGSVC_SERVE__ROOTS", json.dumps([str(tmp_path / "street")]))
    settings.cache_clear()
    tokens = {}
    for name, role in (("ada", Role.ADMIN), ("bob", Role.REVIEWER)):
        users.add(costly.ledger, name, role, "correct horse battery")
        tokens[name] = users.new_token(costly.ledger, name, label="test", hours=None)
    ada, bob = ({"Authorization": f"Bearer {tokens[name]}"} for name in ("ada", "bob"))
    assert counted(costly.client, tmp_path / "street", 401)["type"].endswith("sign-in")
    assert counted(costly.client, tmp_path / "street", 403, **bob)["type"].endswith("not-permitted")
    assert counted(costly.client, tmp_path / "street", **ada)["images"] == 1
    for place in (tmp_path / "private", tmp_path / "street" / "list.csv", "s3://any/street/", tmp_path / "street" / ".."):
        assert "that this server may use" in counted(costly.client, place, 422, **ada)["detail"]
    pages = [costly.client.get("/cost?model=cells", headers=who).text for who in (ada, bob)]
    assert ['id="counted"' in page for page in pages] == [True, False]


def test_the_server_answers_others_while_a_store_keeps_a_count_waiting(costly: Served, use: UseServer) -> None:
    asked, may_go = Event(), Event()

    def wait(_: Asked) -> Said:
        asked.set()
        may_go.wait(30)
        return s3_error("AccessDenied", 403)

    with scripted(wait) as (server, _), ThreadPoolExecutor(1) as pool:
        use(server)
        waiting = pool.submit(costly.client.post, "/v1/inputs/count", json={"input": "s3://slow/street/"})
        assert asked.wait(30)
        assert httpx.get(f"{costly.url}/healthz").status_code == 200
        may_go.set()
        assert waiting.result().status_code == 422
