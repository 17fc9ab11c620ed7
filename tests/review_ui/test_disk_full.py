"""A disk that is really full: said so, nothing half written, and it goes on once there is room."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.review_ui.conftest import MadeRun

_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


@pytest.fixture
def small_disk(tmp_path: Path, made_run: MadeRun, environment: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """A server whose ledger is on a disk of 12 MB: its address, and a file on that disk, as it is seen from here."""
    if subprocess.run([*_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk (unshare --user --mount)")
    (tmp_path / "disk").mkdir()
    segsvc = f"{sys.executable} -m segsvc"
    process = subprocess.Popen(
        [*_NAMESPACE, "sh", "-c", f"mount -t tmpfs -o size=12m small {tmp_path}/disk && "
         f"{segsvc} review import {made_run.out} --ledger {tmp_path}/disk/ledger >&2 && "
         f"exec {segsvc} serve --port 0 --ledger {tmp_path}/disk/ledger"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, process.communicate()[1]
        yield url.removesuffix("/review"), Path(f"/proc/{process.pid}/root{tmp_path}/disk/ballast")
    finally:
        process.kill()
        process.communicate()


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)):
                    continue
            except OSError as error:
                assert error.errno == errno.ENOSPC


def test_a_full_disk_is_said_to_be_and_it_goes_on_once_there_is_room(small_disk: tuple[str, Path]) -> None:
    url, ballast = small_disk
    with httpx.Client(base_url=url, timeout=60) as client:
        run, = client.get("/v1/review/runs").json()["items"]
        queue = f"/v1/review/runs/{run['run']['run_id']}"
        items = client.post(f"{queue}/lease", json={"n": 50}).json()["items"]

        def decide(item: dict[str, object]) -> httpx.Response:
            return client.post(f"/v1/candidates/{item['candidate_id']}/decisions", headers={"If-Match": f'"{item["tag"]}"'},
                               json={"verdict": "accepted", "note": "x" * 4000, "request_id": str(item["candidate_id"])})

        assert decide(items[0]).status_code == 201
        fill(ballast)
        answers = [decide(item) for item in items[1:]]
        refused = [answer for answer in answers if answer.status_code == 507]
        assert {answer.status_code for answer in answers} <= {201, 507}
        assert refused and all(answer.json()["type"] == "urn:segsvc:problem:full" for answer in refused)
        # what is there can still be looked at, images too
        assert client.get(f"/v1/candidates/{items[-1]['candidate_id']}").status_code == 200
        assert client.get(f"/v1/images/{items[0]['image_id']}/region.jpg",
                          params={"x0": 0, "y0": 0, "x1": 50, "y1": 50, "width": 50}).status_code == 200
        stored = {each["candidate_id"] for each in client.get(f"{queue}/mine?limit=100").json()["items"]}
        confirmed = {item["candidate_id"] for item, answer in zip(items[1:], answers, strict=True)
                     if answer.status_code == 201} | {items[0]["candidate_id"]}
        assert stored == confirmed
        ballast.unlink()
        assert [decide(item).status_code for item in items] == [201] * len(items)
        assert len(client.get(f"{queue}/mine?limit=100").json()["items"]) == len(items)
