"""Thresholds for a table of 1,000,000 candidates: seconds and peak memory.

Generated: one class in 50,000 units with 10.5 objects each, found or missed together, and 9.5 candidates that find nothing
(`_crowds`). Chosen is what a calibration chooses: the thresholds for the targets, those of the whole curve of recalls
and precisions, the highest recall that can be shown, and the map from scores to probabilities. A child process does it,
compiled before. Prints a JSON list of three rows: seconds of the processor and by the clock, in which whatever else
the machine does has its part (one thread computes, so that on a quiet machine both are the same; nothing is demanded of the
second), medians of the repeats, and the peak (VmHWM) of the process, the table included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _common import Bound, Row, say, show

CANDIDATES, A_UNIT = 1_000_000, 20
SECONDS, PEAK_MB = 10.0, 1000.0
REPEATS = 3


def choose_once(candidates: int) -> None:
    """Chooses in this process, and prints what it took."""
    from _crowds import Crowd, drawn

    from segsvc.calibration.choosing import Targets, choose

    crowd, targets = Crowd(others=A_UNIT - Crowd().objects), Targets(0.95, 0.95, 0.95)
    choose(["object"], drawn([crowd], 500, seed=(1,)), targets, images=500, seed=0,
           demands_precision=False)  # compiles
    tallies = drawn([crowd], candidates // A_UNIT, seed=(0,))
    begun, computed = time.perf_counter(), time.process_time()
    choice = choose(["object"], tallies, targets, images=tallies[0].n_units, seed=0, demands_precision=False)
    computed, seconds = time.process_time() - computed, time.perf_counter() - begun
    proof = choice.proofs["object"]
    print(json.dumps({
        "computing_s": computed, "seconds": seconds, "peak_mb": peak_mb(), "units": tallies[0].n_units,
        "objects": len(tallies[0].object_unit), "candidates": len(tallies[0].candidate_unit),
        "recalls": len(proof.recalls), "precisions": len(proof.precisions), "best_recall": proof.best_recall}))


def peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def took(candidates: int) -> dict[str, float]:
    """What choosing for so many candidates takes, in a process of its own."""
    command = [sys.executable, __file__, "--in-this-process", "--candidates", str(candidates)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(answer.stdout)
    say(", ".join(f"{name} {value:.6g}" for name, value in found.items()))
    return found


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Thresholds for a table of many candidates: seconds and memory.")
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--in-this-process", action="store_true", help="choose once, here")
    given = parser.parse_args()
    if given.in_this_process:
        choose_once(given.candidates)
        return
    repeats = [took(given.candidates) for _ in range(given.repeats)]
    median = {name: statistics.median(repeat[name] for repeat in repeats) for name in repeats[0]}
    what = f"choosing thresholds for {given.candidates} candidates"
    show([Row(f"{what}, {words}", ours, unit, None, None, None, None, demanded, Bound.OURS_AT_MOST,
              {"repeats": given.repeats, **median})
          for words, ours, unit, demanded in (("seconds of processor", median["computing_s"], "s", SECONDS),
                                              ("seconds by the clock", median["seconds"], "s", None),
                                              ("peak memory", median["peak_mb"], "MB", PEAK_MB))])


if __name__ == "__main__":
    main()
