"""Label sets over HTTP, on a real server."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

import httpx2 as httpx
import pytest

from segsvc.ledger import images, label_sets
from segsvc.ledger.label_records import DrawnImage, Frame, LabelTask, NewSet, ShownCandidate
from segsvc.types import Box
from tests.review_ui.conftest import Served

_FRAME = Frame("frame.parquet", "0" * 64, 12, 12, datetime(2026, 11, 2, tzinfo=UTC))


def make_set(served: Served, *, name: str = "streets", task: LabelTask = LabelTask.OBJECTS, readers: int = 1,
             classes: tuple[str, ...] = ("bright", "dark")) -> list[str]:
    """A label set of the images that the ledger's run has candidates on; their ids in drawn order."""
    ids = sorted({str(item["image_id"]) for item in served.client.get(
        "/v1/candidates", params={"run": served.run_id, "limit": 500}).json()["items"]})
    drawn = [DrawnImage(image.uri, image.image_id, image, candidates=(
        ShownCandidate("c1", "bright", Box(1, 2, 9, 8), None, 0.7),)) for image in (
            images.find(served.ledger, image_id) for image_id in ids)]
    label_sets.create(served.ledger, NewSet(name, task, classes, "/data", _FRAME, seed=0, readers=readers), drawn,
                      units=len(drawn))
    return ids


def _post(served: Served, path: str, **body: object) -> httpx.Response:
    return served.client.post(path, json=body)


def test_images_are_leased_labelled_and_counted(served: Served) -> None:
    ids = make_set(served)
    answer = _post(served, "/v1/label/sets/streets/lease", n=2).json()
    assert [item["image_id"] for item in answer["items"]] == ids[:2]
    assert [item["candidates"] for item in answer["items"]] == [None, None]  # hidden unless they are asked for
    assert answer["progress"]["left"] == len(ids)
    done = _post(served, f"/v1/images/{ids[0]}/done?set=streets", nothing=False, seconds=2.5, objects=[
        {"class_name": "bright", "box": {"x0": 1, "y0": 2, "x1": 9, "y1": 8}}, {"class_name": "dark", "polygon": [
            [0, 0], [8, 0], [8, 8]]}, {"class_name": "bright", "box": {"x0": 0, "y0": 0, "x1": 3, "y1": 2}, "mask_rle": "06",
                                       "candidate_id": "c1"}])
    assert done.status_code == 201, done.text
    said = done.json()
    assert (said["n_objects"], said["set"], said["position"], said["seconds"]) == (3, "streets", 1, 2.5)
    item = served.client.get(f"/v1/label/sets/streets/images/{ids[0]}", params={"candidates": True}).json()
    assert [each["class_name"] for each in item["objects"]] == ["bright", "dark", "bright"]
    assert item["objects"][1]["outline"] == [[[0, 0], [8, 0], [8, 8]]]
    assert item["objects"][2]["outline"]
    assert item["labelled"]
    assert [each["candidate_id"] for each in item["candidates"]] == ["c1"]
    assert served.client.get("/v1/label/sets/streets").json()["labelled"] == 1
    assert [each["image_id"] for each in served.client.get("/v1/label/sets/streets/mine").json()["items"]] == [ids[0]]
    assert [each["name"] for each in served.client.get("/v1/label/sets").json()["items"]] == ["streets"]


def test_a_miss_on_an_image_of_a_run_is_a_record(served: Served) -> None:
    item = served.lease(1)[0]
    for body in ({"box": [10.4, 5, 20.2, 9]}, {"polygon": [10, 5, 20, 5, 20, 9]}):
        answer = _post(served, f"/v1/images/{item['image_id']}/objects", class_name="lamp", note="behind a tree", **body)
        assert answer.status_code == 201, answer.text
    assert answer.json()["polygon"] == [[10, 5], [20, 5], [20, 9]]
    done = _post(served, f"/v1/images/{item['image_id']}/done", nothing=False)
    assert (done.status_code, done.json()["run"], done.json()["set"], done.json()["n_objects"]) == (
        201, served.run_id, None, 2)


def test_the_same_request_is_answered_the_same_and_stored_once(served: Served) -> None:
    ids = make_set(served)
    for path, body in (("objects", {"class_name": "dark", "box": [0, 0, 5, 5], "request_id": "r1"}),
                       ("done", {"nothing": False, "request_id": "r2"})):
        first, again = (_post(served, f"/v1/images/{ids[0]}/{path}", **body) for _ in range(2))
        assert (first.status_code, first.json()) == (201, again.json())
    assert len(served.client.get(f"/v1/label/sets/streets/images/{ids[0]}").json()["objects"]) == 1


@pytest.mark.parametrize(("body", "says"), [
    ({"class_name": "lamp", "box": [0, 0, 5, 5]}, "expected a class of the label set streets"),
    ({"class_name": "dark", "box": [5, 0, 0, 5]}, "box: "),
    ({"class_name": "dark", "box": [-4, 0, 5, 5]}, "expected one within the image"),
    ({"class_name": "dark", "box": [0, 0, 1e300, 5]}, "expected one within the image"),
    ({"class_name": "dark", "box": [0, 0, 5]}, "box"),
    ({"class_name": "dark", "polygon": [1, 2, 3]}, "expected pairs of x and y, got 3 numbers"),
    ({"class_name": "dark", "polygon": [[1, 2], [3, 4]]}, "expected 3 to 10000 corners, got 2"),
    ({"class_name": "dark", "polygon": [[1, 2], [3, 4], [1e400, 4]]}, ""),
    ({"class_name": "dark", "box": [0, 0, 5, 5], "mask_rle": "zz\N{SNOWMAN}"}, "mask_rle: "),
    ({"class_name": "dark", "box": [0, 0, 5, 5], "mask_rle": "i0"}, "mask_rle: "),
    ({"class_name": "dark\0", "box": [0, 0, 5, 5]}, "class_name: expected text without the character 0"),
    ({"class_name": "", "box": [0, 0, 5, 5]}, "class_name: expected a class"),
    ({"class_name": "dark", "box": [0, 0, 5, 5], "colour": "red"}, "colour"),
], ids=str)
def test_what_is_no_object_is_refused(served: Served, body: dict[str, object], says: str) -> None:
    image_id = make_set(served)[0]
    path = f"/v1/images/{image_id}/objects?set=streets"
    answer = served.client.post(path, content=_json(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert says in answer.text
    assert served.client.get(f"/v1/label/sets/streets/images/{image_id}").json()["objects"] == []


def _json(body: dict[str, object]) -> bytes:
    import json

    return json.dumps(body).encode()


@pytest.mark.parametrize("path", ["/v1/label/sets/none", "/v1/label/sets/none/mine", "/v1/label/sets/none/images/x",
                                  f"/v1/label/sets/{quote('<script>', safe='')}"])
def test_what_is_not_there_is_said(shared: Served, path: str) -> None:
    answer = shared.client.get(path)
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:segsvc:problem:unknown"


def test_nothing_and_objects_contradict_each_other(served: Served) -> None:
    image_id = make_set(served)[0]
    for body in ({"nothing": True, "objects": [{"class_name": "dark", "box": [0, 0, 5, 5]}]}, {"nothing": False},
                 {"nothing": False, "objects": []}):
        answer = _post(served, f"/v1/images/{image_id}/done?set=streets", **body)
        assert (answer.status_code, "nothing: expected" in answer.text) == (422, True)
    assert served.client.get("/v1/label/sets/streets").json()["labelled"] == 0
