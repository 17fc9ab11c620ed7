"""How long a run of 100,000 finished images takes to go on: from the start of `segsvc run` to the first new image.

Prints a JSON list of two rows: OUT whose plan was complete when the run was cut off, and OUT whose plan was not, so that
the listing goes on too. `ours` is what the resume costs: the seconds from the start of the process until the first new
image is read, less the same of a fresh run over the new images alone (`peer`: starting Python, the model and a worker).
Medians of interleaved repeats. When an image is read first is told by its time of access; what was finished is not read.
`outputs_equal`: every resumed run ends with all images, and the finished parts are still the same files.

The finished parts are made directly, with the library's own functions, and hold images without candidates. The model is
the one of the tests, which finds what is bright: nothing here is about its pace.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import median

from _common import Bound, Row, command, first_reads, forget_reads, say, scratch, show, write_pictures

from segsvc.card import RunSpec
from segsvc.plan import read_input, shards
from segsvc.results import RunFolder, unit_rows
from segsvc.stores import store_of
from segsvc.summary import Attempt, begun
from segsvc.types import ExtractionCounts, ImageResult, ImageStatus, Segmentation

ROOT = Path(__file__).resolve().parent.parent
DONE_SHARDS, SHARD_SIZE, NEW = 1563, 64, 200
SIDE_PX = 64
LINKS = 20_000  # names that one file gets; file systems have a limit
DEMANDED_S = 2.0


def settings(folder: Path) -> dict[str, str]:
    """The environment of every run, with the model `bright`."""
    sys.path.append(str(ROOT))
    sys.path.append(str(ROOT / "tests" / "plugins"))
    importlib.import_module("tests.conftest").write_model(folder / "models")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEGSVC_")}
    return {**kept, "SEGSVC_MODELS_DIR": str(folder / "models"), "SEGSVC_CACHE_DIR": str(folder / "cache"),
            "SEGSVC_CONFIG": str(folder / "none.toml"), "PYTHONPATH": str(ROOT / "tests" / "plugins")}


def write_input(folder: Path, done: int) -> tuple[Path, Path]:
    """A folder of as many images as are done and of new ones behind them, and one of the new ones alone."""
    new = write_pictures(folder / "new", NEW, side_px=SIDE_PX, ending="png")
    every, source = folder / "every", new[0]
    for number in range(done):
        place = every / f"a{number // 1000:04d}"
        if number % LINKS == 0:
            source = folder / f"source-{number}.png"
            shutil.copyfile(new[0], source)
        if number % 1000 == 0:
            place.mkdir(parents=True)
        os.link(source, place / f"{number:06d}.png")
    (every / "b").mkdir()
    for path in new:
        os.link(path, every / "b" / path.name)
    return every, folder / "new"


def write_out(out: Path, spec: RunSpec, *, done_shards: int, all_planned: bool) -> None:
    """OUT as a run leaves it that is cut off after so many shards."""
    folder = RunFolder(store_of(str(out)).folder(str(out)))
    folder.begin(spec)
    folder.put_json("bands.json", {"operating_points": []})
    planned = shards(read_input(spec.input), shard_size=SHARD_SIZE, limit=None, exclude=folder.uri)
    for shard in islice(planned, None if all_planned else done_shards):
        folder.publish_plan(shard)
        if shard.number < done_shards:
            found = Segmentation(SIDE_PX, SIDE_PX, 1, (), ExtractionCounts())
            folder.publish(shard.number, [
                unit_rows(ImageResult(unit.ref, ImageStatus.EMPTY, found, None, None, {"read": 0.001}), model=spec.model,
                          model_digest=spec.model_digest) for unit in shard.units])
    now = datetime.now(UTC)
    attempt = Attempt(number=1, created_at=now, started_at=now, workers=1, threads=1)
    folder.put_json("run.json", begun(folder, attempt).model_dump(mode="json"))


def first_new(source: Path, out: Path, new: Path, environment: Mapping[str, str]) -> tuple[float, dict[str, int]]:
    """Seconds from the start of a run until it reads the first new image, and the images that it ends with."""
    paths = sorted(new.iterdir())
    forget_reads(paths)
    started = time.time()
    answer = subprocess.run(
        command("run", source, "--model", "bright", "--out", out, "--workers", "1", "--threads", "1", "--json"),
        env=environment, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise RuntimeError(f"segsvc run: expected exit code 0, got {answer.returncode}: {answer.stderr.strip()[-500:]}")
    images: dict[str, int] = json.loads(answer.stdout)["images"]
    return min(first_reads(paths).values()) - started, images


def stamps(out: Path, shards: int) -> list[int]:
    return [(out / "images" / f"part-{number:05d}.parquet").stat().st_mtime_ns for number in range(shards)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shards", type=int, default=DONE_SHARDS)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    done = given.shards * SHARD_SIZE
    with scratch() as folder:
        environment = settings(folder)
        every, new = write_input(folder, done)
        first_new(new, folder / "warm", new, environment)  # the model is converted and kept
        spec = RunSpec.model_validate_json((folder / "warm" / "spec.json").read_bytes())
        spec = spec.model_copy(update={"input": every.as_uri()})
        kinds = {"plan complete": True, "plan not complete": False}
        for kind, all_planned in kinds.items():
            write_out(folder / kind, spec, done_shards=given.shards, all_planned=all_planned)
        say(f"{done} images are done in {given.shards} shards, {NEW} are new")
        seconds: dict[str, list[float]] = {"fresh": [], **{kind: [] for kind in kinds}}
        equal = True
        for repeat in range(given.repeats):
            seconds["fresh"].append(first_new(new, folder / f"fresh-{repeat}", new, environment)[0])
            for kind in kinds:
                out = folder / f"resumed-{repeat}"
                shutil.copytree(folder / kind, out, copy_function=os.link)  # parts are replaced, never written into
                before = stamps(out, given.shards)
                took, images = first_new(every, out, new, environment)
                seconds[kind].append(took)
                equal &= images["listed"] == done + NEW and before == stamps(out, given.shards)
                shutil.rmtree(out)
            say(", ".join(f"{name} {values[-1]:.2f} s" for name, values in seconds.items()))
    fresh = median(seconds["fresh"])
    show([Row(f"resume of a run of {done} finished images, {kind}, to the first new image",
              median(seconds[kind]) - fresh, "s", fresh, f"the start of a fresh run of {NEW} images", None, equal,
              DEMANDED_S, Bound.OURS_AT_MOST,
              {"from_start_to_first_new_image_s": seconds[kind], "fresh_s": seconds["fresh"]}) for kind in kinds])


if __name__ == "__main__":
    main()
