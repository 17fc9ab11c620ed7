"""How long `segsvc` takes from start to exit: a run over 8 small images with a model that is kept, and --help.

Prints a JSON list of two rows; `ours` is the median of interleaved repeats in seconds. The peer is what no program in
Python comes below, the interpreter that imports numpy and ends; nothing is demanded of the ratio to it.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys

from _common import Bound, Row, interleaved, medians, say, scratch, segsvc, show, write_pictures

from segsvc.models.library import PACKAGED

IMAGES, SIDE_PX = 8, 256
RUN_S, HELP_S = 6.0, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with scratch() as folder:
        write_pictures(folder / "in", IMAGES, side_px=SIDE_PX, ending="png")
        numbers = itertools.count()

        def run() -> None:
            segsvc("run", folder / "in", "--model", PACKAGED / "nuclei", "--out", folder / f"out-{next(numbers)}")

        times = interleaved({
            "run": run, "help": lambda: segsvc("--help"),
            "numpy": lambda: subprocess.run([sys.executable, "-c", "import numpy"], check=True),
        }, repeats=given.repeats)  # the call that warms up keeps the model
        for name, values in times.items():
            say(f"{name}: " + " ".join(f"{value:.2f}" for value in values))
        median = medians(times)
        images = {(folder / f"out-{number}" / "images" / "part-00000.parquet").read_bytes()
                  for number in range(given.repeats + 1)}
    show([Row(figure, median[name], "s", median["numpy"], "python -c 'import numpy'", median["numpy"] / median[name], equal,
              demanded, Bound.OURS_AT_MOST, {"repeats": given.repeats, "longest_s": round(max(times[name]), 3)})
          for figure, name, demanded, equal in (
              (f"run of {IMAGES} images of {SIDE_PX} px, model kept, start to exit", "run", RUN_S, len(images) == 1),
              ("segsvc --help, start to exit", "help", HELP_S, None))])


if __name__ == "__main__":
    main()
