"""Key press to the next candidate painted, in a real Chromium, on a ledger of a million candidates.

The pictures are generated, and each stands under many names, so that every candidate comes from an image that the server
has not opened before. Two figures: at the pace of a quick person (a key every 400 ms), and as fast as they are painted.
A candidate counts as painted in the first task after the frame with its picture. Options: `--candidates`, `--items`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from _common import command, say, scratch, segsvc, show, waits
from _ledger_runs import DIGEST, IMAGES_A_SHARD, begin_run, finish_run, put_shard
from playwright.sync_api import Page, sync_playwright

from segsvc.imaging import masks
from segsvc.tables import CANDIDATES_SCHEMA, IMAGES_SCHEMA
from segsvc.types import stable_id

SIDE_PX, PICTURES, AN_IMAGE = 1024, 16, 40
PACE_MS = 400
DEMANDED_MS = 50.0
NAMES = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
WATCH = """
window.painted = [];
let pressed = 0;
addEventListener("keydown", (event) => { pressed = event.timeStamp; }, true);
document.addEventListener("DOMContentLoaded", () => new MutationObserver(() => {
  if (pressed) window.painted.push(performance.now() - pressed);
}).observe(document.getElementById("stage"), { attributeFilter: ["data-candidate"] }));
"""


def draw_picture(seed: int) -> tuple[bytes, list[dict[str, Any]]]:
    """A JPEG of discs on noise, and the discs as candidates."""
    draw = np.random.default_rng(seed)
    image = draw.normal(30, 6, (SIDE_PX, SIDE_PX, 3)).astype(np.float32)
    found = []
    for _ in range(AN_IMAGE):
        (x, y), radius = draw.integers(40, SIDE_PX - 40, 2).tolist(), int(draw.integers(6, 34))
        disc = np.zeros((2 * radius + 1, 2 * radius + 1), np.uint8)
        cv2.circle(disc, (radius, radius), radius, 1, -1)
        x0, y0 = x - radius, y - radius
        image[y0: y0 + disc.shape[0], x0: x0 + disc.shape[1]] += disc[..., None] * np.array([120.0, 60.0, 40.0], np.float32)
        found.append({"x0": x0, "y0": y0, "x1": x0 + disc.shape[1], "y1": y0 + disc.shape[0], "area_px": int(disc.sum()),
                      "mask_rle": masks.encode(disc.astype(bool)).decode()})
    ok, encoded = cv2.imencode(".jpg", image.clip(0, 255).astype(np.uint8))
    if not ok:
        raise RuntimeError("a picture could not be encoded")
    return encoded.tobytes(), found


def write_run(out: Path, count: int) -> None:
    """A finished run of `count` candidates for review, and the images below `images` beside it."""
    folder, spec = begin_run(out)
    (out.parent / "images").mkdir()
    drawn = [draw_picture(seed) for seed in range(PICTURES)]
    sources = [out.parent / f"picture-{number}.jpg" for number in range(PICTURES)]
    for source, (encoded, _) in zip(sources, drawn, strict=True):
        source.write_bytes(encoded)
    scores = np.round(np.random.default_rng(0).uniform(0.2, 0.9, count) * 65535) / 65535
    images = -(-count // AN_IMAGE)
    for number, first in enumerate(range(0, images, IMAGES_A_SHARD)):
        rows, seen = [], []
        for image in range(first, min(first + IMAGES_A_SHARD, images)):
            path = out.parent / "images" / f"{image:08d}.jpg"
            os.link(sources[image % PICTURES], path)
            status = path.stat()
            version = f"{status.st_size}-{status.st_mtime_ns}"
            shared = {"image_id": stable_id(path.as_uri(), version), "image_uri": path.as_uri(), "image_version": version}
            some = drawn[image % PICTURES][1][: count - image * AN_IMAGE]
            seen.append({**shared, "status": "done", "width_px": SIDE_PX, "height_px": SIDE_PX, "frames": 1,
                         "n_candidates": len(some), "n_below_floor": 0, "n_below_min_area": 0, "meta": []})
            for place, each in enumerate(some):
                score = float(scores[image * AN_IMAGE + place])
                box = [each[side] for side in ("x0", "y0", "x1", "y1")]
                candidate = stable_id(shared["image_id"], DIGEST, 0, "region", "disc", *box, each["mask_rle"].encode())
                rows.append({**shared, **each, "frame": 0, "model": "drawn", "model_digest": DIGEST, "class_name": "disc",
                             "kind": "region", "score": score, "mean_score": score, "touches_edge": False,
                             "candidate_id": candidate})
        put_shard(folder, number, pa.Table.from_pylist(rows, CANDIDATES_SCHEMA), pa.Table.from_pylist(seen, IMAGES_SCHEMA))
    finish_run(folder, spec, images=images, review=count, accepted=0)


@contextmanager
def serving(ledger: Path) -> Iterator[str]:
    """The address of `segsvc serve` on the ledger."""
    server = subprocess.Popen([*command("serve"), "--ledger", str(ledger), "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        if server.stdout is None or not (address := server.stdout.readline().strip()):
            raise RuntimeError("segsvc serve did not begin")
        yield address.removesuffix("/review")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def review(page: Page, items: int, pace_ms: int) -> list[float]:
    """Milliseconds from each key to the next candidate painted, `items` of them."""
    page.wait_for_selector("#stage[data-candidate][class='']")
    page.wait_for_timeout(1000)
    page.evaluate("() => { window.painted.length = 0; }")
    for number in range(items):
        seen = page.locator("#stage").get_attribute("data-candidate")
        page.keyboard.press("ax"[number % 2])
        page.wait_for_selector(f"#stage:not([data-candidate='{seen}'])[class='']")
        page.wait_for_timeout(pace_ms)
    found: list[float] = page.evaluate("() => window.painted")
    if len(found) != items:
        raise RuntimeError(f"expected {items} candidates to be painted, got {len(found)}")
    return found


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--candidates", type=int, default=1_000_000)
    asked.add_argument("--items", type=int, default=200)
    options = asked.parse_args()
    if CHROMIUM is None:
        sys.exit("expected a Chromium on the PATH, got none. Install it: `apt-get install chromium`")
    with scratch() as folder:
        say(f"writing a run of {options.candidates} candidates")
        write_run(folder / "OUT", options.candidates)
        say("taking it into the ledger")
        segsvc("review", "import", folder / "OUT", "--ledger", folder / "ledger")
        run = json.loads((folder / "OUT" / "run.json").read_text())["id"]
        with serving(folder / "ledger") as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.add_init_script(WATCH)
            page.goto(f"{address}/review/{run}")
            paced = review(page, options.items, PACE_MS)
            fast = review(page, options.items, 0)
            page.wait_for_selector("#waiting[data-state=calm]")
            browser.close()
    show([waits("key press to next candidate painted, a key every 400 ms", paced, DEMANDED_MS,
                candidates=options.candidates),
          waits("the same, a key as soon as it is painted", fast, None, candidates=options.candidates)])


if __name__ == "__main__":
    main()
