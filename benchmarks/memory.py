"""The memory that a run takes: peak over 1,000 small images against 100.

Prints a JSON list of one row; `ours` is the peak of the longer run in MB (the median of interleaved repeats), `peer`
that of the shorter one, `ratio` the longer to the shorter. A peak is the sum of the largest resident sizes (VmHWM) that
the kernel recorded of the program and of all processes it started, shared pages counted for each.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import time
from pathlib import Path

from _common import Bound, Row, command, say, scratch, show, write_pictures

import segsvc as library
from segsvc.loaded import available_cores
from segsvc.models.library import PACKAGED

FEW, MANY = 100, 1000
SIDE_PX = 160
DEMANDED = 1.1
LOOK_EVERY_S = 0.05


def peaks_mb(process: subprocess.Popen[bytes]) -> list[float]:
    """The largest resident sizes of a process and its descendants, largest first, once it has ended."""
    peak_kb: dict[int, int] = {}
    while process.poll() is None:
        for pid in _family(process.pid):
            peak_kb[pid] = max(_peak_kb(pid), peak_kb.get(pid, 0))
        time.sleep(LOOK_EVERY_S)
    return sorted((kb / 1024 for kb in peak_kb.values()), reverse=True)


def _family(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _peak_kb(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


def run(folder: Path, out: Path) -> list[float]:
    threads = str(min(2, available_cores()))
    process = subprocess.Popen(command("run", folder, "--model", PACKAGED / "nuclei", "--out", out, "--workers", "1",
                                       "--threads", threads), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peaks = peaks_mb(process)
    if process.returncode != 0:
        raise RuntimeError(f"segsvc run {folder}: expected exit code 0, got {process.returncode}")
    say(f"{out.name}: {sum(peaks):.0f} MB of {len(peaks)} processes: " + " ".join(f"{peak:.0f}" for peak in peaks))
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=MANY)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    few, many = min(FEW, given.images), given.images
    with scratch() as folder:
        write_pictures(folder / "many", many, side_px=SIDE_PX, ending="png")
        (folder / "few").mkdir()
        for path in sorted((folder / "many").iterdir())[:few]:
            os.link(path, folder / "few" / path.name)
        found: dict[str, list[list[float]]] = {"few": [], "many": []}
        for repeat in range(given.repeats):
            for name, peaks in found.items():
                peaks.append(run(folder / name, folder / f"out-{name}-{repeat}"))
        columns = ["x0", "y0", "x1", "y1", "score", "mask_rle"]
        first, second = (library.open_run(str(folder / f"out-{name}-0")).candidates().select(columns) for name in found)
        equal = bool(second.slice(0, first.num_rows).equals(first))
    peak = {name: statistics.median(sum(each) for each in runs) for name, runs in found.items()}
    show([Row(f"peak memory over {many} images of {SIDE_PX} px against {few}", peak["many"], "MB", peak["few"],
              f"the same over {few} images", peak["many"] / peak["few"], equal, DEMANDED, Bound.RATIO_AT_MOST,
              {f"mb_{name}_{number}": [round(value, 1) for value in each]
               for name, runs in found.items() for number, each in enumerate(runs)})])


if __name__ == "__main__":
    main()
