"""The job API on a real server whose runs its own processes work on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from segsvc import open_run
from segsvc.ledger import users
from segsvc.ledger.opening import open_ledger
from segsvc.ledger.records import Role
from tests.conftest import Program
from tests.scenes import write_scenes

MOST_S = 120.0
pytestmark = pytest.mark.timeout(300)


def serving(segsvc: Program, **environment: str) -> Iterator[httpx.Client]:
    process = segsvc.start("serve", "--port", "0", environment={"SEGSVC_REVIEW__SEED": "1", **environment})
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip().removesuffix("/review")
        with httpx.Client(base_url=url, timeout=60) as client:
            yield client
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def place(environment: dict[str, str], bright: object, tmp_path_factory: pytest.TempPathFactory) -> Program:
    folder = tmp_path_factory.mktemp("service")
    write_scenes(folder / "in", 12)
    write_scenes(folder / "many", 400)
    (folder / "in" / "broken.png").write_bytes(b"no image")
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("a")
    return Program(environment, folder)


@pytest.fixture(scope="module")
def client(place: Program) -> Iterator[httpx.Client]:
    """A server that nobody needs to sign in to."""
    yield from serving(place)


def submit(client: httpx.Client, folder: Path, key: str | None = None, **body: object) -> httpx.Response:
    asked = {"input": str(folder / "in"), "model": "bright", "flag_at": 0.5, **body}
    return client.post("/v1/runs", json=asked, headers={"Idempotency-Key": key} if key is not None else {})


def ended(client: httpx.Client, run_id: str) -> dict[str, Any]:
    give_up = time.monotonic() + MOST_S
    while (found := client.get(f"/v1/runs/{run_id}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < give_up, found
        time.sleep(0.05)
    return dict(found)


def test_a_run_is_submitted_polled_and_reviewed(client: httpx.Client, place: Program) -> None:
    answer = submit(client, place.folder, out=str(place.folder / "out"))
    job = answer.json()
    assert (answer.status_code, job["state"], job["attempt"]) == (202, "queued", 1)
    assert answer.headers["location"] == f"/v1/runs/{job['id']}"
    assert int(answer.headers["retry-after"]) >= 1
    done = ended(client, job["id"])
    assert done["images"] == {"listed": 13, "done": 12, "empty": 0, "failed": 1, "quarantined": 0}
    assert (done["state"], done["error"], done["eta_s"]) == ("succeeded", None, None)
    document = json.loads((place.folder / "out" / "run.json").read_text())
    assert (document["id"], document["images"], document["candidates"]) == (done["id"], done["images"], done["candidates"])
    assert open_run(str(place.folder / "out")).candidates().num_rows == sum(done["candidates"].values())
    waiting = client.get("/v1/candidates", params={"run": done["id"], "band": "review", "limit": 500}).json()
    assert len(waiting["items"]) == done["candidates"]["review"] > 0
    assert client.get(f"/review/{done['id']}").status_code == 200


def test_nothing_is_sent_where_nothing_moved(client: httpx.Client, place: Program) -> None:
    run_id = submit(client, place.folder).json()["id"]
    ended(client, run_id)
    first = client.get(f"/v1/runs/{run_id}")
    assert "retry-after" not in first.headers
    again = client.get(f"/v1/runs/{run_id}", headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    resumed = client.post(f"/v1/runs/{run_id}/resume", json={"retry_failed": True}).json()
    assert (resumed["state"], resumed["attempt"]) == ("queued", 2)
    assert client.get(f"/v1/runs/{run_id}", headers={"If-None-Match": first.headers["etag"]}).status_code == 200
    assert ended(client, run_id)["attempt"] == 2


def test_the_same_key_and_body_are_the_same_run_however_often_and_at_once(client: httpx.Client, place: Program) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: submit(client, place.folder, "one"), range(8)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    first = submit(client, place.folder, "one")
    assert (first.status_code, first.headers["location"]) == (202, f"/v1/runs/{first.json()['id']}")
    other = submit(client, place.folder, "one", limit=3)
    assert (other.status_code, other.json()["type"]) == (422, "urn:segsvc:problem:invalid")
    assert submit(client, place.folder, "two", model="nowhere").status_code == 422
    assert submit(client, place.folder, "two").status_code == 202  # the first one began no run
    assert submit(client, place.folder).json()["id"] != submit(client, place.folder).json()["id"]
    out = str(place.folder / "again")
    assert submit(client, place.folder, out=out).json()["id"] == submit(client, place.folder, out=out).json()["id"]


def test_a_run_is_followed_until_it_ends(client: httpx.Client, place: Program) -> None:
    run_id = submit(client, place.folder).json()["id"]
    seen: list[dict[str, Any]] = []
    with client.stream("GET", f"/v1/runs/{run_id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = list(stream.iter_lines())
    seen = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    ids = [int(line.removeprefix("id: ")) for line in lines if line.startswith("id: ")]
    assert ids == sorted(set(ids))
    assert seen[-1] == client.get(f"/v1/runs/{run_id}").json()
    assert seen[-1]["state"] == "succeeded"
    with client.stream("GET", f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": str(ids[-1])}) as stream:
        assert list(stream.iter_lines()) == []
    with client.stream("GET", f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": str(ids[0] - 1)}) as stream:
        assert sum(line.startswith("data: ") for line in stream.iter_lines()) == 1
    assert client.get(f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": "x"}).status_code == 422
    assert client.get("/v1/runs/none/events").status_code == 404


def test_a_run_is_cancelled_and_goes_on_where_it_ended(client: httpx.Client, place: Program) -> None:
    run_id = submit(client, place.folder, input=str(place.folder / "many"), shard_size=2, out=str(place.folder / "long")
                    ).json()["id"]
    give_up = time.monotonic() + MOST_S
    while not list((place.folder / "long").glob("images/part-*")):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert client.post(f"/v1/runs/{run_id}/resume").status_code == 409
    first = client.post(f"/v1/runs/{run_id}/cancel")
    assert (first.status_code, client.post(f"/v1/runs/{run_id}/cancel").status_code) == (202, 202)
    stopped = ended(client, run_id)
    assert stopped["state"] == "cancelled"
    parts = len(list((place.folder / "long").glob("images/part-*")))
    assert 0 < parts < 200
    assert json.loads((place.folder / "long" / "run.json").read_text())["state"] == "cancelled"
    assert client.post(f"/v1/runs/{run_id}/cancel").status_code == 202
    assert client.post(f"/v1/runs/{run_id}/resume").json()["attempt"] == 2
    assert client.post(f"/v1/runs/{run_id}/resume").status_code == 409
    done = ended(client, run_id)
    assert (done["state"], done["images"]["done"] + done["images"]["empty"]) == ("succeeded", 400)
    for action in ("cancel", "resume"):
        refused = client.post(f"/v1/runs/{run_id}/{action}")
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:segsvc:problem:conflict")


def test_runs_are_listed_from_the_newest_on(client: httpx.Client, place: Program) -> None:
    mine = [submit(client, place.folder, limit=number).json()["id"] for number in (1, 2, 3)]
    listed: list[str] = []
    cursor = None
    while True:
        page = client.get("/v1/runs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        listed += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert listed[:3] == mine[::-1]
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize(("body", "says"), [
    ({"model": "nowhere"}, "no model is called 'nowhere'"), ({"input": "/nowhere/at/all"}, "there is no"),
    ({"input": "TEXTS"}, "expected at least one image"), ({"input": ""}, "input"), ({"input": "a\0b"}, "input"),
    ({"input": "ftp://x/y"}, "file://"), ({"recall": 2}, "recall"), ({"recall": 0.9, "flag_at": 0.5}, "got both"),
    ({"flag_at": None, "recall": 0.9}, "calibration"), ({"limit": 0}, "limit"), ({"limit": "many"}, "limit"),
    ({"surprise": 1}, "surprise"), ({"out": "/proc/none"}, "can be written"), ({"out": "OTHER"}, "other files"),
    ({"webhook": "http://169.254.169.254/"}, "webhook"), ({"model": "../../etc"}, "card.json"),
    ({"shard_size": 0}, "shard_size")])
def test_what_cannot_be_run_is_refused_at_once(client: httpx.Client, place: Program, body: dict[str, object], says: str
                                               ) -> None:
    named = {name: {"TEXTS": str(place.folder / "texts"), "OTHER": str(place.folder / "in")}.get(str(value), value)
             for name, value in body.items()}
    answer = submit(client, place.folder, **named)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), answer.text
    assert says in answer.json()["detail"]


def test_bodies_that_are_none_or_too_large_are_refused(client: httpx.Client) -> None:
    for content, status in ((b"{", 422), (b"[]", 422), (b"\xff", 422), (b'{"input": "' + b"a" * 10_000_000 + b'"}', 413)):
        answer = client.post("/v1/runs", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == status, answer.text[:200]


def test_where_users_were_made_runs_stay_where_the_settings_say(place: Program, tmp_path: Path) -> None:
    write_scenes(tmp_path / "open" / "in", 3)
    write_scenes(tmp_path / "closed", 1)
    (tmp_path / "open" / "link").symlink_to(tmp_path / "closed")
    (tmp_path / "open" / "list.csv").write_text(
        f"uri\n{tmp_path}/open/in/scene-00000.png\n{tmp_path}/closed/scene-00000.png\n")
    with open_ledger(str(tmp_path / "segsvc-data")) as ledger:
        for name, role in (("adm", Role.ADMIN), ("rev", Role.REVIEWER)):
            users.add(ledger, name, role, "correct horse battery")
        admin, reviewer = (users.new_token(ledger, name) for name in ("adm", "rev"))
    program = Program(place.environment, tmp_path)
    settings = {"SEGSVC_SERVE__ROOTS": json.dumps([str(tmp_path / "open")]), "SEGSVC_SERVE__BUCKETS": '["photos/2026/"]'}
    for client in serving(program, **settings):
        client.headers["Authorization"] = f"Bearer {reviewer}"
        assert submit(client, tmp_path / "open").status_code == 403
        client.headers["Authorization"] = f"Bearer {admin}"
        for wrong in ({"input": str(tmp_path / "closed")}, {"input": f"{tmp_path}/open/link"}, {"out": str(tmp_path / "x")},
                      {"input": f"{tmp_path}/open/../closed"}, {"input": f"{tmp_path}/clo*/*.png"}, {"model": str(tmp_path)},
                      {"input": "s3://other/2026/"}, {"input": "s3://photos/2025/"}, {"out": "s3://other/out"}):
            answer = submit(client, tmp_path / "open", **wrong)
            assert answer.status_code == 422, (wrong, answer.text)
            assert "this server may use" in answer.json()["detail"]
        listed = ended(client, submit(client, tmp_path / "open", input=f"{tmp_path}/open/list.csv").json()["id"])
        assert (listed["state"], "this server may use" in listed["error"]) == ("failed", True)
        done = ended(client, submit(client, tmp_path / "open", out=f"{tmp_path}/open/out").json()["id"])
        assert (done["state"], done["images"]["listed"]) == ("succeeded", 3)
