"""A whole run against a stock pipeline of Ray Data: JPEGs to masks by the same U-Net with resnet18 and the same weights.

The peer: `read_binary_files` -> `map_batches` of a class that decodes by Pillow, normalises to float32, computes the network
in eager PyTorch on whole images, takes the sigmoid, thresholds it and writes a mask as PNG; with one actor that has all
threads and with two that share them, and the better one counts. Ours: `segsvc run` with as many threads; it also cuts and
merges overlapping tiles, extracts regions, encodes them and writes Parquet.

Start-up is left out on both sides: ours is timed from the first image read (its file's time of access) to the last shard
published; the peer from its first batch begun, when reading is already ahead, to its last mask written. Outputs are compared
as masks: the share of px on which both agree. Prints a JSON list of one row for each size of image; medians of interleaved
repeats.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import torch
from _common import Row, first_reads, forget_reads, nuclei_picture, say, scratch, segsvc, show, write_pictures

import segsvc as library
from segsvc.card import ClassNode, Extraction, ModelCard, Task
from segsvc.imaging import masks
from segsvc.loaded import available_cores
from segsvc.models.checkpoint import save_model
from segsvc.models.library import WEIGHTS, Model, load_weights, read_model

SIDES_PX = (512, 1024)  # one tile an image, and nine that overlap: the peer computes both whole
SHARD = 5
BATCH = 4
THRESHOLD = 0.5
DEMANDED = 1.5
AGREEMENT = 0.98  # of px: ours merges tiles that overlap, the peer sees the whole image at once
FOREGROUND = 0.005  # of px, at least: empty masks agree on nothing

Mask = npt.NDArray[np.uint8]


def resnet18(folder: Path) -> Model:
    """A U-Net with resnet18 whose weights are random but for its head, which is fitted to the pictures' brightness."""
    torch.manual_seed(20)
    module = smp.create_model("unet", "resnet18", encoder_weights=None, in_channels=3, classes=1).eval()
    draft = ModelCard(name="resnet18", family="smp", task=Task.SEMANTIC, arch="unet", encoder="resnet18",
                      classes=(ClassNode(name="thing"),), weights_sha256="0" * 64, licence="Apache-2.0",
                      extraction=Extraction(extent_min=THRESHOLD, floor=THRESHOLD, min_area_px=1))
    features: list[torch.Tensor] = []
    head = module.segmentation_head[0]
    hook = head.register_forward_hook(lambda _, inputs, __: features.append(inputs[0]))
    pictures = [nuclei_picture(seed, 512) for seed in range(10_000, 10_003)]
    with torch.inference_mode():
        for picture in pictures:
            module(torch.from_numpy(normalised(np.repeat(picture[:, :, None], 3, 2), draft))[None])
        hook.remove()
        rows = torch.cat([torch.nn.functional.unfold(each, 3, padding=1)[0].T for each in features])[::7]
        bright = torch.from_numpy(np.concatenate([picture.reshape(-1) > 60 for picture in pictures]))[::7]
        design = torch.cat([rows, torch.ones(len(rows), 1)], 1).double()
        normal = design.T @ design + 1e-3 * torch.eye(design.shape[1], dtype=torch.float64)
        fitted = torch.linalg.solve(normal, design.T @ (bright.double() * 12 - 6)).float()
        head.weight.copy_(fitted[:-1].reshape(head.weight.shape))
        head.bias.copy_(fitted[-1:])
    folder.mkdir()
    digest = save_model(module.state_dict(), folder / WEIGHTS, half=False)
    (folder / "card.json").write_text(draft.model_copy(update={"weights_sha256": digest}).to_json())
    return read_model(folder)


def normalised(pixels: npt.NDArray[np.uint8], card: ModelCard) -> npt.NDArray[np.float32]:
    """(h, w, 3) uint8 -> (3, h, w) float32, as the card says."""
    mean, std = np.float32(card.normalisation.mean), np.float32(card.normalisation.std)
    return np.ascontiguousarray(((pixels.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1))


@dataclass(frozen=True, slots=True)
class Job:
    """What an actor of the peer must know."""

    model: Path
    out: Path
    threads: int


class Segmenter:
    """The peer's actor: as the documentation of Ray Data shows batch inference."""

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(job.threads)
        model = read_model(job.model)
        self._card = model.card
        self._network = smp.create_model("unet", "resnet18", encoder_weights=None, in_channels=3, classes=1).eval()
        self._network.load_state_dict(load_weights(model))
        self._job = job
        self._begun = False

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        from PIL import Image

        if not self._begun:
            self._begun = True
            (self._job.out / f"begun-{os.getpid()}").touch()
        pixels = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in batch["bytes"]]
        with torch.inference_mode():
            scores = torch.sigmoid(self._network(torch.from_numpy(np.stack(
                [normalised(each, self._card) for each in pixels])))).numpy()
        for path, score in zip(batch["path"], scores, strict=True):
            Image.fromarray((score[0] >= THRESHOLD).astype(np.uint8) * 255).save(self._job.out / f"{Path(path).stem}.png")
        return {"path": batch["path"]}


def peer_seconds(paths: Sequence[Path], job: Job, actors: int) -> float:
    """From the first batch begun to the last mask written."""
    import ray

    job.out.mkdir()
    data = ray.data.read_binary_files([str(path) for path in paths], include_paths=True,
                                      override_num_blocks=max(1, len(paths) // BATCH))
    data.map_batches(Segmenter, batch_size=BATCH, num_cpus=job.threads, fn_constructor_args=(job,),
                     compute=ray.data.ActorPoolStrategy(size=actors)).materialize()
    last = max(path.stat().st_mtime_ns for path in job.out.glob("*.png"))
    return (last - min(path.stat().st_mtime_ns for path in job.out.glob("begun-*"))) / 1e9


def our_seconds(paths: Sequence[Path], model: Path, out: Path, threads: int) -> float:
    """From the first image's start to the last shard's publication."""
    forget_reads(paths)
    segsvc("run", paths[0].parent, "--model", model, "--out", out, "--workers", "1", "--threads", str(threads),
           "--shard-size", str(SHARD))
    published = max(part.stat().st_mtime_ns for part in (out / "images").glob("part-*")) / 1e9
    return published - min(first_reads(paths).values())


def agreement(out: Path, theirs: Path, paths: Sequence[Path]) -> tuple[float, float]:
    """The least share of px of an image on which our regions and the peer's mask agree; the share of px in our regions."""
    found: dict[str, Mask] = {path.as_uri(): np.zeros_like(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) for path in paths}
    for row in library.open_run(str(out)).candidates().to_pylist():
        crop = found[row["image_uri"]][row["y0"]: row["y1"], row["x0"]: row["x1"]]
        crop |= masks.decode(row["mask_rle"].encode(), height_px=crop.shape[0], width_px=crop.shape[1]).astype(np.uint8)
    shares = []
    for path in paths:
        mask = cv2.imread(str(theirs / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        shares.append(float(((mask > 0) == (found[path.as_uri()] > 0)).mean()))
    return min(shares), float(np.mean([mask.mean() for mask in found.values()]))


def compare(folder: Path, model: Path, *, side_px: int, images: int, threads: int, repeats: int) -> Row:
    """The row for images of that size."""
    paths = write_pictures(folder / "in", images, side_px=side_px, ending="jpg")
    ways = {actors: threads // actors for actors in (1, 2) if actors <= threads}
    ours: list[float] = []
    theirs: dict[int, list[float]] = {actors: [] for actors in ways}
    for repeat in range(repeats):
        ours.append(our_seconds(paths, model, folder / f"ours-{repeat}", threads))
        say(f"{side_px} px, segsvc: {ours[-1]:.2f} s for {images} images")
        for actors, each in ways.items():
            theirs[actors].append(peer_seconds(paths, Job(model, folder / f"peer-{actors}-{repeat}", each), actors))
            say(f"{side_px} px, Ray Data, {actors} x {each}: {theirs[actors][-1]:.2f} s")
    medians = {actors: statistics.median(values) for actors, values in theirs.items()}
    best = min(medians, key=lambda actors: medians[actors])
    share, foreground = agreement(folder / "ours-0", folder / f"peer-{best}-0", paths)
    peer = f"Ray Data, Pillow and PyTorch eager, {best} actor{'s' if best > 1 else ''}"
    return Row(f"{images} JPEGs of {side_px} px to masks, U-Net with resnet18, {threads} threads, start-up left out",
               images / statistics.median(ours), "images/s", images / medians[best], peer,
               medians[best] / statistics.median(ours), share >= AGREEMENT and foreground > FOREGROUND, DEMANDED, details={
                   "ours_s": [round(value, 3) for value in ours], "agreement": share, "goal": 2.0,
                   "foreground": foreground, **{f"peer_{actors}_actors_s": [round(value, 3) for value in values]
                                                for actors, values in theirs.items()}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=40, help="of 1024 px; of 512 px four times as many")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, available_cores()))
    parser.add_argument("--side-px", type=int, nargs="*", default=SIDES_PX)
    given = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    with scratch() as folder:
        ray.init(address="local", num_cpus=given.threads + 1, include_dashboard=False, log_to_driver=False,
                 logging_level="error")
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        model = resnet18(folder / "resnet18").folder
        warm = write_pictures(folder / "warm-in", 1, side_px=SIDES_PX[0], ending="jpg")
        segsvc("run", warm[0], "--model", model, "--out", folder / "warm")  # converts the model
        show([compare(folder / str(side), model, side_px=side, images=max(1, given.images * 1024**2 // side**2),
                      threads=given.threads, repeats=given.repeats) for side in given.side_px])
        ray.shutdown()


if __name__ == "__main__":
    main()
