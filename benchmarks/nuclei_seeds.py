"""The packaged models of nuclei, trained anew by the command from several seeds: figures on the half that was held out.

Prints a JSON list of three rows: Dice at 0.5 of `nuclei` (mean of the seeds), AP at IoU 0.5 of `nuclei-instances`, and the
minutes that a training of the latter takes with what it is judged by (out-of-fold models). The data are written by
`segsvc.training.nuclei_data`; the held-out half is not blind: its maker saw earlier models' figures there.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import fmean

from _common import Bound, Row, say, scratch, segsvc, show

from segsvc.settings import settings
from segsvc.training import nuclei_data

DICE, AP50, MINUTES = 0.94, 0.82, 10.0


def trained(data: Path, folder: Path, task: str, seed: int) -> tuple[dict[str, float], float]:
    """The figures on the split `test`, and the minutes that training took."""
    begun = time.monotonic()
    segsvc("train", data, "--task", task, "--domain", "any", "--out", folder / "model", "--seed", str(seed))
    minutes = (time.monotonic() - begun) / 60
    segsvc("evaluate", folder / "model", "--data", data, "--split", "test", "--out", folder / "figures")
    figures = json.loads((folder / "figures" / "metrics.json").read_text())["figures"]
    say(f"{task} seed {seed}: {minutes:.1f} min, {figures}")
    return {name: each["value"] for name, each in figures.items()}, minutes


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="The models of nuclei from several seeds.")
    parser.add_argument("--semantic", type=int, default=5, help="seeds of nuclei")
    parser.add_argument("--instances", type=int, default=3, help="seeds of nuclei-instances")
    given = parser.parse_args()
    with scratch() as folder:
        nuclei_data.write(settings().assets_dir, folder / "data")
        semantic = [trained(folder / "data" / "semantic", folder / f"semantic-{seed}", "semantic", seed)
                    for seed in range(given.semantic)]
        instances = [trained(folder / "data" / "instances", folder / f"instances-{seed}", "instance", seed)
                     for seed in range(given.instances)]
    dice, ap50 = [each["dice"] for each, _ in semantic], [each["ap50"] for each, _ in instances]
    show([Row("nuclei, Dice of px at 0.5, mean of the seeds", fmean(dice), "share", None, None, None, None, DICE,
              Bound.OURS_AT_LEAST, {"seeds": dice}),
          Row("nuclei-instances, AP at IoU 0.5, mean of the seeds", fmean(ap50), "share", None, None, None, None, AP50,
              Bound.OURS_AT_LEAST, {"seeds": ap50, "ap": [each["ap"] for each, _ in instances]}),
          Row("a training of nuclei-instances, start to exit", fmean(minutes for _, minutes in instances), "min", None, None,
              None, None, MINUTES, Bound.OURS_AT_MOST, {})])


if __name__ == "__main__":
    main()
