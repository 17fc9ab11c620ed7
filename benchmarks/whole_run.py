"""A whole run over JPEGs of 1024 px with the model nuclei, against the model alone on the very same tiles.

Prints a JSON list of one row; `ours` and `peer` are images a second with the same threads. Start-up is left out: a run
is timed from the moment at which its first image is read (its file's time of access) to the publication of its last
shard (its part's time of modification). The model alone is `Predictor.submit` on tiles that were prepared before the
clock starts, always with some waiting, in batches of 25 images. The images are taken in four parts: run, model, model,
run, run, model, model, run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from _common import Row, first_reads, forget_reads, say, scratch, segsvc, show, write_pictures

import segsvc as library
from segsvc.imaging.intensity import affine, to_channels, to_input
from segsvc.imaging.tiling import cut_tile, plan_tiles
from segsvc.loaded import LoadedModel, available_cores
from segsvc.models.library import PACKAGED, read_model
from segsvc.models.runtime import Predictor
from segsvc.readers import ReadLimits, open_source
from segsvc.stores import store_of
from segsvc.types import Box, Runtime

MODEL = PACKAGED / "nuclei"
SIDE_PX = 1024
BATCH = 25  # images whose tiles are held at a time
PARTS = 4
COMPARED = 2  # images of each part whose candidates are computed again in this process
DEMANDED = 0.95

Tile = npt.NDArray[np.float32]


def run_seconds(paths: Sequence[Path], out: Path, threads: int) -> float:
    """From the first image's start to the last shard's publication."""
    forget_reads(paths)
    segsvc("run", paths[0].parent, "--model", MODEL, "--out", out, "--workers", "1", "--threads", str(threads))
    published = max(part.stat().st_mtime_ns for part in (out / "images").glob("part-*")) / 1e9
    return published - min(first_reads(paths).values())


def alone_seconds(paths: Sequence[Path], predictor: Predictor) -> float:
    """The model's time for all tiles of these images."""
    total = 0.0
    for batch in _batches(paths):
        tiles = [tile for path in batch for tile in tiles_of(path, predictor)]
        begun = time.perf_counter()
        for future in [predictor.submit(tile) for tile in tiles]:
            future.result()
        total += time.perf_counter() - begun
    return total


def _batches(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for first in range(0, len(paths), BATCH):
        yield paths[first: first + BATCH]


def tiles_of(path: Path, predictor: Predictor) -> list[Tile]:
    """The tiles of an image as a run cuts them."""
    card = predictor.card
    store = store_of(str(path))
    blob = store.open(store.find(str(path)))
    source = open_source(blob, ReadLimits())
    pixels = to_channels(source.read(Box(0, 0, source.width_px, source.height_px)), card.channels)
    to = affine(card.normalisation, dtype=source.dtype, sample=pixels)
    plan = plan_tiles(source.width_px, source.height_px, tile_px=card.tile_px, overlap_px=card.overlap_px,
                      stride_px=card.stride_px, flexible=predictor.flexible)
    source.close()
    blob.close()
    bands = [pixels[plan.band(row).y0: plan.band(row).y1] for row in range(plan.rows)]
    return [to_input(cut_tile(band, plan, row=row, column=column), to)
            for row, band in enumerate(bands) for column in range(plan.columns)]


def same_candidates(out: Path, paths: Sequence[Path], predictor: Predictor) -> bool:
    """Whether the run published what the model answers in this process, on some of the images."""
    loaded = LoadedModel(predictor, ReadLimits())
    rows = library.open_run(str(out)).candidates().to_pylist()
    for path in paths[:: max(1, len(paths) // COMPARED)]:
        published = [(row["x0"], row["y0"], row["x1"], row["y1"], row["score"], row["mask_rle"]) for row in rows
                     if row["image_uri"] == path.as_uri()]
        again = [(found.box.x0, found.box.y0, found.box.x1, found.box.y1, found.score, (found.mask_rle or b"").decode())
                 for found in loaded.segment(path)]
        if published != again or not again:
            return False
    return True


def stage_seconds(out: Path, images: int) -> dict[str, float]:
    """Seconds an image in each stage, over all threads."""
    return {stage: round(total / images, 5) for stage, total in library.open_run(str(out)).timings().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--threads", type=int, default=min(2, available_cores()))
    given = parser.parse_args()
    with scratch() as folder:
        each = max(1, given.images // PARTS)
        parts = [write_pictures(folder / f"part-{part}", each, side_px=SIDE_PX, ending="jpg", first_seed=part * each)
                 for part in range(PARTS)]
        predictor = Predictor(read_model(MODEL), Runtime.OPENVINO, threads=given.threads)  # keeps the model, if need be
        alone_seconds(parts[0][:2], predictor)
        runs, alone = [], []
        for number, paths in enumerate(parts):
            for is_run in (number % 2 == 0, number % 2 == 1):
                if is_run:
                    runs.append(run_seconds(paths, folder / f"out-{number}", given.threads))
                else:
                    alone.append(alone_seconds(paths, predictor))
                say(f"part {number + 1}: {'run' if is_run else 'model alone'} {(runs if is_run else alone)[-1]:.2f} s "
                    f"for {each} images")
        equal = all(same_candidates(folder / f"out-{number}", paths, predictor) for number, paths in enumerate(parts))
        images, tiles = PARTS * each, len(tiles_of(parts[0][0], predictor))
        ours, peer = images / sum(runs), images / sum(alone)
        show([Row(f"whole run of {images} JPEGs of {SIDE_PX} px, nuclei, {given.threads} threads, start-up left out", ours,
                  "images/s", peer, "the model alone on the same tiles", ours / peer, equal, DEMANDED,
                  details={"run_s": [round(value, 3) for value in runs], "alone_s": [round(value, 3) for value in alone],
                           "tiles_an_image": tiles, "thread_seconds_an_image": stage_seconds(folder / "out-0", each)})])
        predictor.close()


if __name__ == "__main__":
    main()
