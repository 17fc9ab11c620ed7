"""The server's part of a review: the next candidate, a decision, a crop that is cached, over real HTTP.

The ledger (SQLite) holds a million candidates. One reader does what the page does: decides the candidate in hand, asks for
one more while three wait, and fetches crops. Times are the client's, from the request to the last byte of the answer.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx2 as httpx
import numpy as np
from _common import Bound, Row, say, scratch, show
from _ledger_runs import SIDE_PX, write_run

from review_ui.pyramid import write_pyramid
from segsvc.ledger.intake import import_run
from segsvc.ledger.opening import open_ledger
from segsvc.loaded import ArraySource
from segsvc.types import stable_id

P95_MS = 25.0
_IMAGES = 20
_WAITING = 3  # candidates that are fetched ahead


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1000)
    asked = parser.parse_args()
    with scratch() as folder:
        say(f"writing and importing {asked.candidates:,} candidates")
        run = write_run(folder / "OUT", asked.candidates)
        with open_ledger(str(folder / "ledger")) as ledger:
            import_run(ledger, str(folder / "OUT"))
        image_ids = _pyramids(folder / "ledger" / "pictures")
        with _server(folder / "ledger") as url, httpx.Client(base_url=url, timeout=60) as client:
            times = _review(client, run.id, image_ids, asked.rounds)
    show([Row(figure=f"review: {name}, p95 over HTTP, {asked.candidates:,} candidates in the ledger",
              ours=float(np.percentile(found, 95)), unit="ms", peer=None, peer_name=None, ratio=None, outputs_equal=None,
              demanded=P95_MS, bound=Bound.OURS_AT_MOST,
              details={"p50": round(float(np.median(found)), 2), "p99": round(float(np.percentile(found, 99)), 2),
                       "requests": len(found)}) for name, found in times.items()])


def _pyramids(folder: Path) -> list[str]:
    """Images as the server keeps them after they were seen once; their ids."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    ids = [stable_id(f"file:///images/{number:08d}.png", "1-1") for number in range(_IMAGES)]
    for image_id in ids:
        coarse = draw.random((SIDE_PX // 16, SIDE_PX // 16, 3), np.float32) * 255
        pixels = cv2.resize(coarse, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
        with (folder / f"{image_id}-0.tif").open("wb") as file:
            write_pyramid(file, ArraySource(pixels))
    return ids


@contextmanager
def _server(ledger: Path) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-m", "segsvc", "serve", "--port", "0", "--ledger", ledger],
                               stdout=subprocess.PIPE, text=True)
    try:
        yield str(process.stdout.readline()).strip().removesuffix("/review") if process.stdout is not None else ""
    finally:
        process.terminate()
        process.wait()


def _review(client: httpx.Client, run_id: str, image_ids: list[str], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each request, by what it is."""
    times: dict[str, list[float]] = {"next": [], "decide": [], "region": []}
    draw = np.random.default_rng(1)

    def timed(name: str, method: str, path: str, **arguments: Any) -> httpx.Response:
        begun = time.perf_counter()
        answer = client.request(method, path, **arguments)
        times[name].append((time.perf_counter() - begun) * 1000)
        answer.raise_for_status()
        return answer

    def lease(n: int, held: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        body = {"order": "uncertain", "n": n, "holding": [item["candidate_id"] for item in held]}
        items: list[Mapping[str, Any]] = timed("next", "POST", f"/v1/review/runs/{run_id}/lease", json=body).json()["items"]
        return items

    waiting = lease(_WAITING + 1, [])
    for number in range(rounds + len(image_ids)):
        item = waiting.pop(0)
        timed("decide", "POST", f"/v1/candidates/{item['candidate_id']}/decisions", params={"run": run_id},
              headers={"If-Match": f'"{item["tag"]}"'},
              json={"verdict": "accepted", "seconds": 1.0, "request_id": str(uuid.uuid4())})
        waiting += lease(1, waiting)
        x0, y0 = (int(value) for value in draw.integers(0, SIDE_PX // 2, 2))
        side = int(draw.integers(100, SIDE_PX // 2))
        timed("region", "GET", f"/v1/images/{image_ids[number % len(image_ids)]}/region.jpg",
              params={"x0": x0, "y0": y0, "x1": x0 + side, "y1": y0 + side * 3 // 4, "width": 1024})
        if number + 1 == len(image_ids):
            for found in times.values():
                found.clear()  # each image was opened once, and the kernels are compiled
    return times


if __name__ == "__main__":
    main()
