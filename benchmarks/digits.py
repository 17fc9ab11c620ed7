"""A classifier from a folder per class, by the command: 80 real digits a class to learn from, 4,200 to be judged on.

Prints a JSON list of two rows: accuracy on the split `test` with the defaults of `segsvc train`, and the minutes that
training took. The 5,000 handwritten digits of 20 x 20 px are OpenCV's `digits.png` (Apache-2.0), which Debian's package
opencv-doc holds; `--digits` says where it is. They are cut up by a seeded permutation of each class.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from _common import Bound, Detail, Row, say, scratch, segsvc, show

DIGITS = Path("/usr/share/doc/opencv-doc/examples/data/digits.png")
SHA256 = "60c917758ef97cc090f35cd8e293e4de691ef942847da0ff80dedab33d57c662"
CLASSES, EACH, SIDE_PX, COLUMNS = 10, 500, 20, 100
LEARNT = 80
ACCURACY, MINUTES = 0.96, 5.0


def write_set(digits: Path, folder: Path, *, seed: int) -> None:
    """train/ and test/ with a folder per digit. Raises ValueError where the picture is another."""
    came = hashlib.sha256(digits.read_bytes()).hexdigest()
    if came != SHA256:
        raise ValueError(f"expected OpenCV's digits.png with sha256 {SHA256}, got {came} ({digits})")
    picture = cv2.imread(str(digits), cv2.IMREAD_GRAYSCALE)
    rows = EACH // COLUMNS
    cells = picture.reshape(CLASSES, rows, SIDE_PX, COLUMNS, SIDE_PX).swapaxes(2, 3).reshape(CLASSES, EACH, SIDE_PX, SIDE_PX)
    random = np.random.default_rng(seed)
    for digit, of_class in enumerate(cells):
        for place, number in enumerate(random.permutation(EACH).tolist()):
            path = folder / ("train" if place < LEARNT else "test") / str(digit) / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), of_class[number])


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="A classifier of digits, trained with the defaults.")
    parser.add_argument("--digits", type=Path, default=DIGITS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not given.digits.is_file():
        parser.error(f"expected digits.png at {given.digits}: install Debian's opencv-doc, or name it by --digits")
    with scratch() as folder:
        write_set(given.digits, folder / "data", seed=given.seed)
        begun = time.monotonic()
        segsvc("train", folder / "data", "--task", "classification", "--out", folder / "model", "--seed", str(given.seed))
        minutes = (time.monotonic() - begun) / 60
        say(f"trained in {minutes:.2f} min")
        segsvc("evaluate", folder / "model", "--data", folder / "data", "--out", folder / "figures")
        figure = json.loads((folder / "figures" / "metrics.json").read_text())["figures"]["accuracy"]
    details = {"interval": [figure["low"], figure["high"]], "seed": given.seed, "learnt": LEARNT * CLASSES}
    show([row("accuracy on 4,200 digits, 80 a class to learn from", figure["value"], "share", ACCURACY, Bound.OURS_AT_LEAST,
              details=details),
          row("that training, start to exit", minutes, "min", MINUTES, Bound.OURS_AT_MOST, details={})])


def row(figure: str, ours: float, unit: str, demanded: float, bound: Bound, *, details: Mapping[str, Detail]) -> Row:
    """A figure without a peer."""
    return Row(figure, ours, unit, None, None, None, None, demanded, bound, details)


if __name__ == "__main__":
    main()
