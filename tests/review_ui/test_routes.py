"""What the API answers, and what becomes of bad input."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from review_ui.pictures import MOST_SIDE_PX
from segsvc.imaging import masks
from tests.review_ui.conftest import MadeRun, Serve, Served
from tests.scenes import write_scenes


def kind(answer) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["title"] and document["detail"]
    return str(document["type"]).removeprefix("urn:segsvc:problem:")


def test_candidates_are_given_out_decided_and_counted(served: Served) -> None:
    items = served.lease(3)
    assert len({item["candidate_id"] for item in items}) == 3
    answer = served.decide(items[0], verdict="accepted", seconds=1.5, request_id=str(uuid.uuid4()))
    assert answer.status_code == 201
    assert (answer.json()["verdict"], answer.json()["reader"]) == ("accepted", "local")
    progress = served.client.get(f"/v1/review/runs/{served.run_id}/progress").json()
    assert (progress["done"], progress["left"]) == (1, progress["total"] - 1)
    shown = served.client.get(f"/v1/candidates/{items[0]['candidate_id']}")
    assert shown.headers["etag"] == answer.headers["etag"] == f'"{shown.json()["tag"]}"'
    assert [each["verdict"] for each in shown.json()["decisions"]] == ["accepted"]


def test_the_same_request_sent_twice_is_stored_once(served: Served) -> None:
    item, = served.lease(1)
    body = {"verdict": "rejected", "request_id": str(uuid.uuid4())}
    first, second = served.decide(item, **body), served.decide(item, **body)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    mine = served.client.get(f"/v1/review/runs/{served.run_id}/mine").json()["items"]
    assert [each["decision_id"] for each in mine] == [first.json()["decision_id"]]


def test_a_decision_is_undone_by_another(served: Served) -> None:
    item, = served.lease(1)
    first = served.decide(item, verdict="accepted")
    undone = served.client.post(
        f"/v1/candidates/{item['candidate_id']}/decisions", headers={"If-Match": first.headers["etag"]},
        json={"verdict": "withdrawn", "undoes": first.json()["decision_id"]})
    assert undone.status_code == 201
    shown = served.client.get(f"/v1/candidates/{item['candidate_id']}").json()["decisions"]
    assert [(each["verdict"], each["undone"]) for each in shown] == [("accepted", True), ("withdrawn", False)]
    assert served.client.get(f"/v1/review/runs/{served.run_id}/mine").json()["items"] == []


def test_a_decision_on_what_was_seen_before_is_refused_with_the_one_that_came_first(served: Served) -> None:
    item, = served.lease(1)
    first = served.decide(item, verdict="accepted")
    second = served.decide(item, verdict="rejected")
    assert (second.status_code, kind(second)) == (412, "stale")
    assert second.json()["first"]["decision_id"] == first.json()["decision_id"]
    assert len(served.client.get(f"/v1/candidates/{item['candidate_id']}").json()["decisions"]) == 1


def test_a_decision_without_the_tag_of_what_was_seen_is_refused(shared: Served) -> None:
    item, = shared.lease(1)
    path = f"/v1/candidates/{item['candidate_id']}/decisions"
    for header in ({}, {"If-Match": ""}, {"If-Match": '"a", "b"'}):
        answer = shared.client.post(path, json={"verdict": "accepted"}, headers=header)
        assert (answer.status_code, kind(answer)) == (428, "no-if-match")


@pytest.mark.parametrize("body", [
    {"verdict": "perhaps"}, {"verdict": None}, {}, {"verdict": "accepted", "verdit": 1}, {"verdict": "edited"},
    {"verdict": "accepted", "seconds": -1}, {"verdict": "accepted", "seconds": "NaN"},
    {"verdict": "accepted", "shown_at": "noon"},
    {"verdict": "accepted", "shown_at": "2026-01-01T00:00:00"}, {"verdict": "accepted", "note": "x" * 5000},
    {"verdict": "accepted", "note": "a\u0000b"}, {"verdict": "withdrawn"}, {"verdict": "accepted", "undoes": "x"},
    {"verdict": "edited", "mask_rle": "0"}, {"verdict": "edited", "mask_rle": "\u00e9"},
    {"verdict": "edited", "mask_rle": ""},
    {"verdict": "edited", "mask_rle": "04", "box": {"x0": 9, "y0": 0, "x1": 3, "y1": 4}},
    {"verdict": "edited", "mask_rle": "04", "box": {"x0": 0, "y0": 0, "x1": 10**6, "y1": 4}},
    {"verdict": "edited", "mask_rle": "04", "box": {"x0": 0, "y0": 0, "x1": 0, "y1": 4}},
    {"verdict": "edited", "mask_rle": "4", "box": {"x0": 0, "y0": 0, "x1": 2, "y1": 2}},
])
def test_what_is_no_decision_is_refused_and_nothing_is_stored(shared: Served, body: dict[str, object]) -> None:
    item, = shared.lease(1)
    answer = shared.decide(item, **body)
    assert (answer.status_code, kind(answer)) == (422, "invalid")
    assert shared.client.get(f"/v1/review/runs/{shared.run_id}/mine").json()["items"] == []


def test_what_is_no_json_is_refused(shared: Served) -> None:
    item, = shared.lease(1)
    for content in (b"", b"{", b"[]", b"\xff\xfe", b'{"verdict": "accepted", "note": "\\ud800"}'):
        answer = shared.client.post(f"/v1/candidates/{item['candidate_id']}/decisions", content=content,
                                    headers={"If-Match": '"a"', "Content-Type": "application/json"})
        assert (answer.status_code, kind(answer)) == (422, "invalid"), content


def test_where_json_ends_being_json_is_told(shared: Served) -> None:
    answer = shared.client.post("/v1/runs", content=b'{"input":', headers={"Content-Type": "application/json"})
    assert (answer.status_code, kind(answer)) == (422, "invalid")
    assert "expected JSON, got something else from character 9 on" in answer.json()["detail"]


def test_json_that_does_not_say_so_is_told_how_to(shared: Served) -> None:
    answer = shared.client.post(f"/v1/review/runs/{shared.run_id}/lease", content=b'{"n": 1}')
    assert (answer.status_code, kind(answer)) == (422, "invalid")
    assert "Content-Type: application/json" in answer.json()["detail"]


def test_a_corrected_mask_is_kept_though_it_leaves_the_old_box(served: Served) -> None:
    item, = served.lease(1)
    rle = masks.encode(np.ones((5, 7), np.bool_)).decode("ascii")
    answer = served.decide(item, verdict="edited", mask_rle=rle, box={"x0": 100, "y0": 90, "x1": 107, "y1": 95})
    assert answer.status_code == 201, answer.text
    assert (answer.json()["mask_rle"], answer.json()["box"]) == (rle, {"x0": 100, "y0": 90, "x1": 107, "y1": 95})


def test_unknown_candidates_runs_and_images_are_said_to_be_so(shared: Served) -> None:
    client = shared.client
    answers = [
        client.get("/v1/candidates/00000000000000000000000000000000"), client.get("/v1/candidates?run=nowhere"),
        client.post("/v1/candidates/0/decisions", json={"verdict": "accepted"}, headers={"If-Match": '"a"'}),
        client.post("/v1/review/runs/nowhere/lease", json={}), client.get("/v1/review/runs/nowhere/progress"),
        client.post("/v1/review/runs/nowhere/release", json={"candidate_ids": []}),
        client.get("/v1/review/runs/nowhere/mine"), client.get("/v1/images/0/region.jpg?x0=0&y0=0&x1=1&y1=1&width=1"),
        client.get("/v1/images/..%2f..%2fetc%2fpasswd/region.jpg?x0=0&y0=0&x1=1&y1=1&width=1")]
    assert [answer.status_code for answer in answers] == [404] * 9
    assert [kind(answer) for answer in answers] == ["unknown"] * 8 + ["not-found"]
    assert kind(client.get("/v1/nothing")) == "not-found"
    assert kind(client.delete("/v1/me")) == "not-allowed"


def test_a_list_is_paged_by_its_cursor(shared: Served) -> None:
    seen: list[str] = []
    cursor = None
    while True:
        page = shared.client.get("/v1/candidates", params={"run": shared.run_id, "limit": 7, "band": "review",
                                                           **({"cursor": cursor} if cursor else {})}).json()
        seen += [item["candidate_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        assert len(page["items"]) == 7
    run, = shared.client.get("/v1/review/runs").json()["items"]
    assert len(seen) == len(set(seen)) == run["run"]["review"] == run["progress"]["total"]
    for wrong in ({"limit": 0}, {"limit": 10**9}, {"cursor": "'; drop table"}, {"band": "perhaps"}):
        answer = shared.client.get("/v1/candidates", params={"run": shared.run_id, **wrong})
        assert (answer.status_code, kind(answer)) == (422, "invalid")


def test_an_unchanged_candidate_is_not_sent_again(shared: Served) -> None:
    item, = shared.lease(1)
    path = f"/v1/candidates/{item['candidate_id']}"
    assert shared.client.get(path, headers={"If-None-Match": f'"{item["tag"]}"'}).status_code == 304
    assert shared.client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_outline_of_a_candidate_runs_around_its_mask(shared: Served) -> None:
    for item in shared.lease(10):
        rings = [np.array(ring) for ring in item["outline"]]
        corners = np.concatenate(rings)
        assert corners.min(axis=0).tolist() == [item["x0"], item["y0"]]
        assert corners.max(axis=0).tolist() == [item["x1"], item["y1"]]
        doubled = [np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) for x, y in (ring.T for ring in rings)]
        assert abs(sum(doubled)) / 2 == item["area_px"]


def region(served: Served, item: dict[str, object], **changed: object):
    asked = {"x0": 0, "y0": 0, "x1": 160, "y1": 120, "width": 320, **changed}
    return served.client.get(f"/v1/images/{item['image_id']}/region.jpg", params=asked)


def test_a_crop_comes_from_here_and_is_kept_for_ever_by_this_browser_alone(shared: Served) -> None:
    item, = shared.lease(1)
    answer = region(shared, item)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert simplejpeg.decode_jpeg(answer.content).shape == (240, 320, 3)
    again = shared.client.get(answer.url, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("changed", [
    {"width": 10**9}, {"width": MOST_SIDE_PX + 1}, {"width": 0}, {"width": -1}, {"width": "wide"}, {"width": 10**30},
    {"x1": 161}, {"y1": 10**9}, {"x0": -1}, {"x0": 160}, {"x0": 100, "x1": 50}, {"frame": 1}, {"frame": -1},
    {"x1": 1, "width": 4096}, {"x1": "1e3"}, {"y0": 2**70}])
def test_a_region_outside_or_of_no_size_is_refused(shared: Served, changed: dict[str, object]) -> None:
    item, = shared.lease(1)
    answer = region(shared, item, **changed)
    assert (answer.status_code, kind(answer)) == (422, "invalid")


def test_an_image_that_is_gone_is_said_to_be_and_its_candidates_can_still_be_decided(
        serve: Serve, made_run: MadeRun, tmp_path: Path) -> None:
    served = serve()
    item, = served.lease(1)
    image = made_run.images / str(item["image_name"])
    moved = image.rename(tmp_path / "moved")
    try:
        answer = region(served, item)
        assert (answer.status_code, kind(answer)) == (404, "image-gone")
        assert served.decide(item, verdict="rejected").status_code == 201
    finally:
        moved.rename(image)


def test_models_are_listed(shared: Served) -> None:
    models = {model["name"]: model for model in shared.client.get("/v1/models").json()["items"]}
    assert models["bright"]["classes"] == ["bright"]
    assert models["nuclei"]["task"] == "semantic"


def test_the_server_tells_how_it_is(served: Served) -> None:
    assert served.client.get("/healthz").json() == {"status": "ok"}
    assert served.client.get("/readyz").json() == {"status": "ready"}
    served.lease(1)
    text = served.client.get("/metrics").text
    assert 'segsvc_requests_total{method="POST",route="/v1/review/runs/{run_id}/lease",status="200"} 1.0' in text
    assert 'segsvc_runs{state="succeeded"} 1.0' in text
    assert 'segsvc_images_total{state="done"} 12.0' in text
    assert f'segsvc_megapixels_total{{state="done"}} {12 * 160 * 120 / 1e6}' in text
    assert "segsvc_review_backlog 0.0" not in text
    assert served.run_id not in text
    [item] = served.lease(1)
    assert served.decide(item, verdict="accepted", seconds=2.5).status_code == 201
    decided = served.client.get("/metrics").text
    assert "segsvc_decision_seconds_count 1.0" in decided
    assert "segsvc_decision_seconds_sum" in decided


def test_the_description_of_the_api_has_examples_that_hold(shared: Served) -> None:
    document = shared.client.get("/openapi.json").json()
    assert {"/v1/candidates/{candidate_id}/decisions", "/v1/images/{image_id}/region.jpg",
            "/v1/review/runs/{run_id}/lease", "/v1/models", "/healthz"} <= set(document["paths"])
    for path, method in ((path, method) for path, methods in document["paths"].items() for method in methods):
        described = document["paths"][path][method]
        assert described.get("description"), path
        assert "responses" in described
    for name in ("DecisionBody", "LeaseBody", "ItemAnswer", "DecisionAnswer", "ProgressAnswer", "MeAnswer"):
        assert document["components"]["schemas"][name]["examples"], name
    assert shared.client.get("/docs").status_code == 404


@pytest.mark.parametrize("n", [0, 51])
def test_not_too_many_are_given_out_at_once(shared: Served, n: int) -> None:
    answer = shared.client.post(f"/v1/review/runs/{shared.run_id}/lease", json={"n": n})
    assert answer.status_code == (200 if n == 0 else 422)


def test_what_is_given_back_is_given_to_others(served: Served) -> None:
    held: list[object] = []
    while items := served.lease(50, holding=held):
        held += [item["candidate_id"] for item in items]
    given_back = held.pop(3)
    assert served.client.post(f"/v1/review/runs/{served.run_id}/release",
                              json={"candidate_ids": [given_back]}).status_code == 204
    assert [item["candidate_id"] for item in served.lease(5, holding=held)] == [given_back]


def test_names_of_files_may_hold_anything(environment: dict[str, str], serve: Serve, tmp_path: Path, segsvc) -> None:
    script = '<img src=x onerror=alert(1)>" & \u202e.png'
    scene, = write_scenes(tmp_path / "images", 1)
    scene.rename(tmp_path / "images" / script)
    assert segsvc("run", tmp_path / "images", "--model", "bright", "--out", "OUT").code == 0
    served = serve(out=tmp_path / "OUT")
    item, = served.lease(1)
    assert item["image_name"] == script
    assert region(served, item).status_code == 200
