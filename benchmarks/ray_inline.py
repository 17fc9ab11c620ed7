"""A run by Ray against the same run inline: JPEGs of 1024 px, the model nuclei.

Prints a JSON list of two rows; `ours` and `peer` are images a second: Ray with 2 workers of 1 thread against inline with 2
workers of 1 thread, and against inline with 1 worker of 2 threads. Ray is a local cluster, as `--executor ray` starts it.
Start-up is left out on all sides: a run is timed from the moment at which its first image is read (its file's time of
access) to the publication of its last shard (its part's time of modification). Medians of interleaved repeats.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
from collections.abc import Sequence
from pathlib import Path

from _common import Row, first_reads, forget_reads, say, scratch, segsvc, show, write_pictures

from segsvc.models.library import PACKAGED

SIDE_PX = 1024
SHARD = 5
DEMANDED = 0.93
RAY = "ray, 2 x 1"
INLINE = {"inline, 2 x 1": ("2", "1"), "inline, 1 x 2": ("1", "2")}


def run_seconds(paths: Sequence[Path], out: Path, *, executor: str, workers: str, threads: str) -> float:
    """From the first image's start to the last shard's publication."""
    forget_reads(paths)
    segsvc("run", paths[0].parent, "--model", PACKAGED / "nuclei", "--out", out, "--executor", executor, "--workers",
           workers, "--threads", threads, "--shard-size", str(SHARD))
    published = max(part.stat().st_mtime_ns for part in (out / "images").glob("part-*")) / 1e9
    return published - min(first_reads(paths).values())


def parts(out: Path) -> list[str]:
    """The digests of the parts that must be the same bytes."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for kind in ("plan", "candidates", "images")
            for path in sorted((out / kind).glob("part-*"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with scratch() as folder:
        paths = write_pictures(folder / "in", given.images, side_px=SIDE_PX, ending="jpg")
        segsvc("run", paths[0], "--model", PACKAGED / "nuclei", "--out", folder / "warm")  # converts the model, if need be
        seconds: dict[str, list[float]] = {name: [] for name in (RAY, *INLINE)}
        outs: dict[str, Path] = {}
        for repeat in range(given.repeats):
            for name, taken in seconds.items():
                workers, threads = INLINE.get(name, ("2", "1"))
                outs[name] = folder / f"{name.replace(' ', '')}-{repeat}"
                taken.append(run_seconds(paths, outs[name], executor="ray" if name == RAY else "inline", workers=workers,
                                         threads=threads))
                say(f"{name}: {taken[-1]:.2f} s for {given.images} images")
        rate = {name: given.images / statistics.median(values) for name, values in seconds.items()}
        show([Row(f"run of {given.images} JPEGs of {SIDE_PX} px, nuclei, by Ray with 2 workers of 1 thread, start-up left "
                  "out", rate[RAY], "images/s", rate[name], name, rate[RAY] / rate[name],
                  parts(outs[RAY]) == parts(outs[name]), DEMANDED, details={
                      "ray_s": [round(value, 3) for value in seconds[RAY]],
                      "inline_s": [round(value, 3) for value in seconds[name]]}) for name in INLINE])


if __name__ == "__main__":
    main()
