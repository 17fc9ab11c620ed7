"""A scripted person labels images with 0 to 20 objects in a real Chromium: how long the page lets the person wait.

The images are generated discs on noise, drawn by `segsvc sample`. The person clicks a point on two objects of three and
drags a box around the third, thinks for a while, and says done, or that nothing is there. The page's own time of an image is
what a person waits for it: the longest time from an input to the frame that shows what it did, and that from done to the
next image painted. Beside it stands all that the page computes for an image, frames and moves of the pointer too, which lies
between the inputs, where nobody waits.
Options: `--images`, `--side-px`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from _common import say, scratch, segsvc, show, waits
from playwright.sync_api import Page, sync_playwright
from review_page import CHROMIUM, serving

MOST_OBJECTS = 20
SET = "discs"
THINKS_MS = 400
DEMANDED_MS = 100.0
Disc = tuple[int, int, int]  # x, y, radius
WATCH = """
window.images = [];
let own = 0, waits = [], pressed = 0, began = 0, frame = 0, asked = 0;
const inputs = ["pointerdown", "pointermove", "pointerup", "keydown"];
const ends = ({ type, key, timeStamp }) => {
  if (type === "keydown" && /^(Enter|n)$/.test(key)) { pressed = timeStamp; return; }
  own += performance.now() - Math.max(timeStamp, began);
  began = performance.now();
  if (type !== "pointermove") asked ||= timeStamp;
  if (frame) return;
  frame = requestAnimationFrame(() => {
    const drawn = performance.now();
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      frame = 0;
      own += performance.now() - drawn;
      if (asked) waits.push(performance.now() - asked);
      asked = 0;
    };
    port2.postMessage(0);
  });
};
addEventListener("load", () => inputs.forEach((type) => addEventListener(type, ends)));
document.addEventListener("DOMContentLoaded", () => new MutationObserver(() => {
  if (!pressed) return;
  const next = performance.now() - pressed;
  window.images.push({ own: own + next, next, waits });
  own = pressed = 0;
  waits = [];
}).observe(document.getElementById("stage"), { attributeFilter: ["data-image"] }));
"""


def write_images(folder: Path, count: int, side_px: int) -> dict[str, list[Disc]]:
    """Images of 0 to 20 discs on noise, and the discs, by the images' names."""
    folder.mkdir(parents=True)
    found = {}
    for number in range(count):
        draw = np.random.default_rng(number)
        image = draw.normal(30, 6, (side_px, side_px, 3)).astype(np.float32)
        discs = []
        for _ in range(number % (MOST_OBJECTS + 1)):
            (x, y), radius = draw.integers(60, side_px - 60, 2).tolist(), int(draw.integers(8, 30))
            cv2.circle(image, (x, y), radius, (170.0, 120.0, 90.0), -1)
            discs.append((x, y, radius))
        name = f"picture-{number:05d}.jpg"
        cv2.imwrite(str(folder / name), image.clip(0, 255).astype(np.uint8))
        found[name] = discs
    return found


def label(page: Page, api: str, discs: Mapping[str, Sequence[Disc]], side_px: int) -> int:
    """Labels the image that is shown; the next one is painted then. How many objects it has."""
    stage = page.locator("#stage")
    seen = stage.get_attribute("data-image")
    place = stage.bounding_box()
    if place is None:
        raise RuntimeError("the stage is not there")
    scale = min(place["width"], place["height"]) / side_px
    left = place["x"] + (place["width"] - side_px * scale) / 2
    top = place["y"] + (place["height"] - side_px * scale) / 2
    some = discs[page.request.get(f"{api}/images/{seen}").json()["image_name"]]
    for number, (x, y, radius) in enumerate(some):
        u, v, half = left + x * scale, top + y * scale, max(4.0, radius * scale)
        if number % 3 < 2:
            page.mouse.click(u, v)
            continue
        page.mouse.move(u - half, v - half)
        page.mouse.down()
        page.mouse.move(u, v)
        page.mouse.move(u + half, v + half)
        page.mouse.up()
    page.wait_for_timeout(THINKS_MS)
    marked = page.locator("#objects li").count()
    page.keyboard.press("Enter" if marked else "n")
    page.wait_for_selector(f"#stage:not([data-image='{seen}'])[class='']")
    return marked


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--images", type=int, default=100)
    asked.add_argument("--side-px", type=int, default=1600)
    options = asked.parse_args()
    if CHROMIUM is None:
        sys.exit("expected a Chromium on the PATH, got none. Install it: `apt-get install chromium`")
    with scratch() as folder:
        say(f"writing {options.images + 5} images")
        discs = write_images(folder / "images", options.images + 5, options.side_px)
        segsvc("sample", folder / "images", "--n", str(options.images + 5), "--name", SET, "--class", "disc",
               "--ledger", folder / "ledger")
        with serving(folder / "ledger") as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.add_init_script(WATCH)
            page.goto(f"{address}/label/{SET}")
            page.wait_for_selector("#stage[data-image][class='']")
            page.wait_for_timeout(1000)
            api = f"{address}/v1/label/sets/{SET}"
            marked = sum(label(page, api, discs, options.side_px) for _ in range(options.images))
            page.wait_for_selector("#waiting[data-state=calm]")
            images = page.evaluate("() => window.images")
            browser.close()
    if len(images) != options.images:
        raise RuntimeError(f"expected {options.images} images to be painted, got {len(images)}")
    show([waits("the page's own time an image of 0 to 20 objects: the longest wait for an input, and done to the next image",
                [max(each["waits"], default=0.0) + each["next"] for each in images], DEMANDED_MS, objects=marked),
          waits("done to next image painted", [each["next"] for each in images], None),
          waits("an input to the frame that shows it", [wait for each in images for wait in each["waits"]], None),
          waits("all that the page computes for an image", [each["own"] for each in images], None)])


if __name__ == "__main__":
    main()
