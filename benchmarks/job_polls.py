"""Programs that poll their runs: `GET /v1/runs/{id}` with 10,000 runs in the table, 50 clients each asking once a second.

A real server; times are the clients', from the request to the last byte of the answer. Three rows: the poll, the poll with
`If-None-Match` where nothing moved (all of these are 304 without a body, or it fails), and the seconds from submitting a run
of four real images (nuclei, 51 px) to its first candidate in the queue, where the server has done such a run before.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import numpy as np
from _common import Bound, Row, machine, say, scratch, show

from segsvc.asking import Asked
from segsvc.assets import demo_images
from segsvc.ledger import jobs
from segsvc.ledger.job_records import NewJob
from segsvc.ledger.opening import open_ledger
from segsvc.ledger.writer import Writing
from segsvc.settings import settings
from segsvc.types import stable_id

P95_MS, FIRST_RESULT_S = 25.0, 2.0
CLIENTS, SUBMISSIONS = 50, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=20)
    asked = parser.parse_args()
    machine()  # how busy it is before this begins
    with scratch() as folder:
        ids = _runs(folder / "ledger", asked.runs)
        with _server(folder / "ledger", runs_at_once=0) as url:
            say(f"{CLIENTS} clients poll for {asked.seconds} s, twice")
            plain = _poll(url, ids, asked.seconds, conditional=False)
            unmoved = _poll(url, ids, asked.seconds, conditional=True)
        with _server(folder / "other", runs_at_once=1) as url:
            firsts = _first_results(url)
    show([_row("GET /v1/runs/{id}", plain, P95_MS, "ms", runs=asked.runs),
          _row("GET /v1/runs/{id}, 304 where nothing moved", unmoved, P95_MS, "ms", runs=asked.runs),
          _row("submit to first candidate, embedded, warm", firsts, FIRST_RESULT_S, "s")])


def _row(figure: str, found: list[float], demanded: float, unit: str, *, runs: int = 0) -> Row:
    return Row(figure=f"service: {figure}, p95", ours=float(np.percentile(found, 95)), unit=unit, peer=None, peer_name=None,
               ratio=None, outputs_equal=None, demanded=demanded, bound=Bound.OURS_AT_MOST, details={
                   "p50": round(float(np.median(found)), 3), "most": round(max(found), 3), "requests": len(found),
                   "clients": CLIENTS if runs else 1, "runs": runs})


def _runs(place: Path, count: int) -> list[str]:
    """So many runs that wait; their ids."""
    ids = [stable_id("run", number) for number in range(count)]

    def work(writing: Writing) -> None:
        for number, run_id in enumerate(ids):
            asked = Asked(input="/images", model="nuclei", out=f"/out/{number}")
            jobs.queue(writing, NewJob(run_id, asked.model_dump_json(), f"file:///out/{number}", "file:///images", "nuclei",
                                       "0" * 64, "ada"))

    with open_ledger(str(place)) as ledger:
        ledger.write(work)
    return ids


@contextmanager
def _server(place: Path, *, runs_at_once: int) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "segsvc", "serve", "--port", "0", "--ledger", str(place)], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env={**os.environ, "SEGSVC_SERVE__RUNS_AT_ONCE": str(runs_at_once)})
    try:
        if process.stdout is None:
            raise RuntimeError("no pipe")
        yield process.stdout.readline().strip().removesuffix("/review")
    finally:
        process.terminate()
        process.communicate()


def _poll(url: str, ids: list[str], seconds: int, *, conditional: bool) -> list[float]:
    """Milliseconds of every answer."""
    found: list[float] = []
    failed: list[str] = []
    guard = threading.Lock()
    begin = time.monotonic() + 2.0

    def client(number: int) -> None:
        mine = ids[number * len(ids) // CLIENTS]
        with httpx.Client(base_url=url, timeout=30) as asking:
            tag = asking.get(f"/v1/runs/{mine}").headers["etag"]
            for turn in range(seconds):
                time.sleep(max(0.0, begin + turn + number / CLIENTS - time.monotonic()))
                begun = time.perf_counter()
                answer = asking.get(f"/v1/runs/{mine}", headers={"If-None-Match": tag} if conditional else {})
                took = (time.perf_counter() - begun) * 1e3
                with guard:
                    found.append(took)
                    if (answer.status_code, bool(answer.content)) != ((304, False) if conditional else (200, True)):
                        failed.append(f"{answer.status_code}: {answer.text[:200]}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed or len(found) != CLIENTS * seconds:
        raise RuntimeError(f"expected {CLIENTS * seconds} answers as asked for, got {len(found)}, wrong ones: {failed[:3]}")
    return found


def _first_results(url: str) -> list[float]:
    """Seconds from each submission but the first to its first candidate."""
    body = {"input": str(demo_images(settings().assets_dir, "windows")), "model": "nuclei", "limit": 4}
    found = []
    with httpx.Client(base_url=url, timeout=120) as client:
        for turn in range(SUBMISSIONS + 1):
            begun = time.perf_counter()
            run_id = client.post("/v1/runs", json=body).json()["id"]
            while not client.get("/v1/candidates", params={"run": run_id, "limit": 1}).json().get("items"):
                if time.perf_counter() - begun > 100:
                    raise RuntimeError(f"expected a candidate, got {client.get(f'/v1/runs/{run_id}').json()}")
                time.sleep(0.01)
            if turn:
                found.append(time.perf_counter() - begun)
            _see_to_the_end(client, run_id)
    return found


def _see_to_the_end(client: httpx.Client, run_id: str) -> None:
    """Waits until the run is over. Raises RuntimeError unless its four images were worked on in this run."""
    while (run := client.get(f"/v1/runs/{run_id}").json())["state"] in ("queued", "running"):
        time.sleep(0.01)
    if run["state"] != "succeeded" or run["attempt"] != 1 or run["images"]["done"] != 4:
        raise RuntimeError(f"expected a first attempt with four images done, got {run}")


if __name__ == "__main__":
    main()
