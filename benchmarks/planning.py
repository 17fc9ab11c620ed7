"""Planning at scale: 10 million keys through the plan and into OUT, against 100,000.

Prints a JSON list of three rows, `ours` over the many keys and `peer` over the few: the peak (VmHWM) of the planning process
in MB, the seconds of processor per million keys, and the seconds by the clock, in which the disk and whatever else the
machine does have their part (nothing is demanded of those). Measured is listing, cutting into shards and publishing the
plan's parts, as a run does it. Keys come from a generator, so that no server's pace is in it; `listing` in the details is
its own time.
`outputs_equal`: the parts of the few keys are the same bytes as the first ones of the many.

Needs about 1.3 GB in TMPDIR for 10 million keys.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from _common import Bound, Row, say, scratch, show

from segsvc.plan import Input, InputKind, shards
from segsvc.readahead import in_order
from segsvc.results import RunFolder, part_name
from segsvc.runner import DEFAULT_SHARD_SIZE
from segsvc.stores import Listed, store_of
from segsvc.types import ImageRef

FEW, MANY = 100_000, 10_000_000
MEMORY_RATIO, TIME_RATIO = 1.1, 1.1
ENTRY_POINT = "[segsvc.stores]\ngenerated = planning:PLUGIN\n"


class Generated:
    """The store of `generated://bucket/COUNT`: so many keys, as a listing brings them."""

    scheme = "generated"
    in_flight = 1

    def list(self, uri: str, *, after: str | None = None, exclude: str | None = None) -> Iterator[Listed]:
        first = int(after[-15:-6]) + 1 if after is not None else 0
        for number in range(first, int(uri.rsplit("/", 1)[1])):
            key = f"2026/camera-{number // 100_000:03d}/image-{number:09d}-x.jpg"
            yield Listed(key, ImageRef(f"generated://bucket/{key}", f"{number * 7919:032x}", 100_000 + number % 7919))


PLUGIN = Generated()


def plan(count: int, out: Path) -> None:
    """Plans so many keys in this process and prints what it took."""
    folder = RunFolder(store_of(str(out)).folder(str(out)))
    source = Input(InputKind.LISTING, f"generated://bucket/{count}")
    begun, computed = time.perf_counter(), time.process_time()
    for shard in in_order(lambda shard: (folder.publish_plan(shard), shard)[1],
                          shards(source, shard_size=DEFAULT_SHARD_SIZE, limit=None, exclude=folder.uri),
                          at_once=folder.in_flight):
        last = shard
    seconds, computed = time.perf_counter() - begun, time.process_time() - computed
    if not last.is_last or last.units[-1].ordinal != count - 1:
        raise RuntimeError(f"expected a plan of {count} units, got one that ends with {last.units[-1]}")
    begun = time.perf_counter()
    for _ in store_of(source.uri).list(source.uri):
        pass
    print(json.dumps({"seconds": seconds, "computing": computed, "listing": time.perf_counter() - begun,
                      "parts": last.number + 1, "peak_mb": _peak_mb()}))


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def planned(count: int, folder: Path) -> dict[str, float]:
    """What planning so many keys takes, in a process of its own."""
    here = Path(__file__).resolve().parent
    found = folder / "plugin"
    (found / "generated-1.0.dist-info").mkdir(parents=True, exist_ok=True)
    (found / "generated-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: generated\nVersion: 1.0\n")
    (found / "generated-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINT)
    answer = subprocess.run([sys.executable, here / "planning.py", "--plan", str(count), "--out", folder / f"out-{count}"],
                            env={**os.environ, "PYTHONPATH": f"{found}:{here}:{os.environ.get('PYTHONPATH', '')}"},
                            stdout=subprocess.PIPE, check=True, text=True)
    took: dict[str, float] = json.loads(answer.stdout)
    say(f"{count} keys: " + ", ".join(f"{name} {value:.4g}" for name, value in took.items()))
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--few", type=int, default=FEW)
    parser.add_argument("--many", type=int, default=MANY)
    parser.add_argument("--plan", type=int, help="plan so many keys in this process")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.plan is not None:
        plan(given.plan, given.out)
        return
    with scratch() as folder:
        few, many = planned(given.few, folder), planned(given.many, folder)
        full = given.few // DEFAULT_SHARD_SIZE
        equal = all((folder / f"out-{given.few}" / part_name("plan", number)).read_bytes()
                    == (folder / f"out-{given.many}" / part_name("plan", number)).read_bytes() for number in range(full))
    pace = {name: (many[name] / given.many * 1e6, few[name] / given.few * 1e6) for name in ("computing", "seconds")}
    details = {"few": few, "many": many}
    show([Row(f"peak memory of planning {given.many} keys", many["peak_mb"], "MB", few["peak_mb"],
              f"the same of {given.few} keys", many["peak_mb"] / few["peak_mb"], equal, MEMORY_RATIO, Bound.RATIO_AT_MOST,
              {f"{name}_{key}": value for name, took in details.items() for key, value in took.items()}),
          *(Row(f"planning {given.many} keys, {words}", ours, "s per million keys", peer, f"the same of {given.few} keys",
                ours / peer, equal, demanded, Bound.RATIO_AT_MOST)
            for (ours, peer), words, demanded in ((pace["computing"], "seconds of processor", TIME_RATIO),
                                                  (pace["seconds"], "seconds by the clock", None)))])


if __name__ == "__main__":
    main()
