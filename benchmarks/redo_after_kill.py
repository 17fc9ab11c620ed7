"""What is done again after `kill -9` of a run with all its processes at 10, 50 and 90 %.

Prints a JSON list, one row a kill; `ours` is the number of images that had been read before the kill and are not in a
published shard, and so are read again by the same command (times of access of the files tell which were read); shards
whose parts were touched by the resumed run would count in full. `peer` is the work of one shard for each worker.
`outputs_equal`: plan, candidates and images end as the same bytes as those of a run that was not killed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from _common import Bound, Row, command, first_reads, forget_reads, say, scratch, show, write_pictures
from _common import segsvc as run_segsvc

import segsvc as library
from segsvc.models.library import PACKAGED

SIDE_PX = 160
SHARD_SIZE, WORKERS = 8, 2
SHARES = (0.1, 0.5, 0.9)
TIMEOUT_S = 300.0


def arguments(folder: Path, out: Path) -> list[str | Path]:
    return ["run", folder, "--model", PACKAGED / "nuclei", "--out", out, "--shard-size", str(SHARD_SIZE),
            "--workers", str(WORKERS), "--threads", "1"]


def parts(out: Path, *kinds: str) -> dict[str, Path]:
    return {f"{kind}/{part.name}": part for kind in kinds for part in sorted((out / kind).glob("part-*.parquet"))}


def digests(out: Path) -> dict[str, str]:
    """What must be the same bytes, however a run came to its end."""
    return {name: hashlib.sha256(part.read_bytes()).hexdigest()
            for name, part in parts(out, "plan", "candidates", "images").items()}


def run_until(folder: Path, out: Path, shards: int, more_s: float) -> None:
    """A run that is killed, with all its processes, some time after so many shards are published."""
    process = subprocess.Popen(command(*arguments(folder, out)), start_new_session=True, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + TIMEOUT_S
    try:
        while len(parts(out, "images")) < shards and process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.002)
        time.sleep(more_s)
        if process.poll() is not None:
            raise RuntimeError(f"expected a run to be killed after {shards} shards, got one that had ended "
                               f"({process.returncode}). Take more --images.")
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.wait()


def images_of(out: Path) -> set[str]:
    """The images in published shards."""
    return set(library.open_run(str(out)).images()["image_uri"].to_pylist())


def killed_at(share: float, paths: Sequence[Path], out: Path, clean: dict[str, str]) -> Row:
    folder, draw = paths[0].parent, random.Random(share)
    forget_reads(paths)
    run_until(folder, out, max(1, round(share * len(paths) / SHARD_SIZE)), draw.uniform(0.0, 0.15))
    read = {path.as_uri() for path in first_reads(paths)}
    published = parts(out, "images")
    before = {name: part.stat().st_mtime_ns for name, part in parts(out, "images", "candidates", "timings").items()
              if f"images/{part.name}" in published}
    again = read - images_of(out)
    run_segsvc(*arguments(folder, out))
    touched = {Path(name).name for name, when in before.items() if (out / name).stat().st_mtime_ns != when}
    redone = len(again) + SHARD_SIZE * len(touched)
    say(f"killed at {share:.0%}: {len(published)} shards published, {len(read)} images read, {redone} redone")
    allowed = SHARD_SIZE * WORKERS
    return Row(f"images done again after kill -9 at {share:.0%} of {len(paths)}, {WORKERS} workers, shards of {SHARD_SIZE}",
               redone, "images", allowed, "one shard a worker", redone / allowed, digests(out) == clean, allowed,
               Bound.OURS_AT_MOST, {"read_before_the_kill": len(read), "shards_published": len(published),
                                    "published_shards_touched": len(touched)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=320)
    given = parser.parse_args()
    with scratch() as folder:
        paths = write_pictures(folder / "in", given.images, side_px=SIDE_PX, ending="png")
        run_segsvc(*arguments(folder / "in", folder / "clean"))
        clean = digests(folder / "clean")
        show([killed_at(share, paths, folder / f"killed-{share:.0%}", clean) for share in SHARES])


if __name__ == "__main__":
    main()
