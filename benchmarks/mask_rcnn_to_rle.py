"""Mask R-CNN v2 on images of 1024 px to masks as RLE: this project against torchvision's own path with pycocotools.

Prints a JSON list: seconds an image, peak memory of the masks' part, and how many masks are the same. Random weights, made
such that 100 objects come out of each image with masks that are sure of themselves, as trained ones are. Each contender is
a process of its own with two threads; the calls are interleaved. The peer may use its threads in its best way: both on one
image, or an image each; the faster way counts. It pastes full-frame masks, as torchvision does, and encodes each with
pycocotools. Ours is measured as a run uses it, from pixels to candidates.

A mask counts as the same where class and RLE in the frame of the image are equal. That is demanded of the masks' part, on
equal numbers of the network. From image to mask nothing is demanded: floating-point sums depend on their order, and a px at
the threshold or a corner at an integer may then fall either way; the peer's figure there is how many of its own masks are
the same when it uses its threads the other way. Random weights make masks like gravel, with more such px than trained ones.

`python benchmarks/mask_rcnn_to_rle.py --repeats 1` is quicker. Needs about 4 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from _common import Bound, Row, medians, nuclei_picture, say, scratch, show

SIDE_PX = 1024
OBJECTS = 100
THREADS = 2
CLASSES = 90  # as in COCO
PASTED = 10  # times OBJECTS small masks that are pasted
A_CALL = 2  # images, different ones in each
DEMANDED_SPEED, DEMANDED_MEMORY, DEMANDED_SAME = 1.15, 0.3, 0.999
OURS, BOTH_ON_ONE, ONE_EACH = "segsvc", "both threads on one image", "an image for each thread"

Image = npt.NDArray[np.uint8]  # (SIDE_PX, SIDE_PX, 3)
Masks = list[list[list[str]]]  # of each image: class and RLE in its frame


def picture(seed: int) -> Image:
    """A picture with objects of about 24 to 100 px."""
    channels = [cv2.resize(nuclei_picture(3 * seed + channel, SIDE_PX // 3), (SIDE_PX, SIDE_PX)) for channel in range(3)]
    return np.stack(channels, axis=2)


def write_model(folder: Path) -> None:
    """A model's folder: torchvision's network with random weights, whose last layers speak up."""
    import torch

    from segsvc import plugins
    from segsvc.card import ClassNode, Detection, Extraction, ModelCard, Task
    from segsvc.models.checkpoint import save_model

    card = ModelCard(name="random-mask-rcnn", family="mask_rcnn", task=Task.INSTANCE, arch="maskrcnn_resnet50_fpn_v2",
                     classes=tuple(ClassNode(name=str(number + 1)) for number in range(CLASSES)), weights_sha256="0" * 64,
                     tile_px=SIDE_PX, stride_px=1, detection=Detection(score_min=0.0, most=OBJECTS),
                     extraction=Extraction(extent_min=0, floor=0), licence="Apache-2.0")
    torch.manual_seed(20)
    network = plugins.load(plugins.PluginKind.MODEL, card.family).build(card)
    mean, std = (np.asarray(values, np.float32) for values in (card.normalisation.mean, card.normalisation.std))
    pixels = torch.from_numpy(np.moveaxis((picture(99) / np.float32(255) - mean) / std, 2, 0)[None, :, ::2, ::2].copy())
    network.train()
    with torch.no_grad():
        for _ in range(8):
            network.backbone(pixels)
    network.eval()
    with torch.inference_mode():
        network.rpn.head.cls_logits.weight *= 100
        network.roi_heads.box_predictor.cls_score.weight *= 8
        [found] = network.to(torch.float32)([pixels[0]])
        spread = (found["masks"] - 0.5).abs().mean()
        network.roi_heads.mask_predictor.mask_fcn_logits.weight *= 0.4 / float(spread.clamp(min=0.01))
    digest = save_model(network.state_dict(), folder / "model.safetensors", half=False)
    (folder / "card.json").write_text(card.model_copy(update={"weights_sha256": digest}).to_json())


# -- the contenders, each in a process of its own ------------------------------------------------------------------------


class Ours:
    """As a run computes it: a predictor with two threads, and an image more in work."""

    def __init__(self, folder: Path) -> None:
        from segsvc.models.library import read_model
        from segsvc.models.runtime import Predictor, choose_runtime
        from segsvc.settings import RuntimeChoice

        model = read_model(folder)
        self.runtime = choose_runtime(model, RuntimeChoice.AUTO).runtime.value
        self._predictor = Predictor(model, choose_runtime(model, RuntimeChoice.AUTO).runtime, threads=THREADS)

    def masks(self, images: Sequence[Image], way: str) -> Masks:
        with ThreadPoolExecutor(THREADS + 1) as lanes:
            return list(lanes.map(self._of_one, images))

    def _of_one(self, image: Image) -> list[list[str]]:
        from segsvc.imaging.masks import full_frame_rle
        from segsvc.loaded import ArraySource
        from segsvc.segment import Stopwatch, segment_source

        found = segment_source(ArraySource(image), self._predictor, Stopwatch())
        return [[each.class_name, full_frame_rle(each.mask_rle or b"", each.box, width_px=SIDE_PX,
                                                 height_px=SIDE_PX).decode()] for each in found]


class Theirs:
    """torchvision's model as it comes, with the same weights."""

    runtime = "PyTorch eager, NCHW"

    def __init__(self, folder: Path) -> None:
        import safetensors.torch
        from torchvision.models.detection import maskrcnn_resnet50_fpn_v2

        self._network = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=CLASSES + 1,
                                                 box_score_thresh=0.0, box_detections_per_img=OBJECTS).eval()
        self._network.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))

    def masks(self, images: Sequence[Image], way: str) -> Masks:
        if way == BOTH_ON_ONE:
            return [self._of_one(image, THREADS) for image in images]
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(lambda image: self._of_one(image, 1), images))

    def _of_one(self, image: Image, threads: int) -> list[list[str]]:
        import torch

        torch.set_num_threads(threads)
        with torch.inference_mode():
            [found] = self._network([torch.from_numpy(image).permute(2, 0, 1) / 255])
            return encoded(found["masks"], found["labels"].tolist())


def encoded(masks: Any, labels: Sequence[int]) -> list[list[str]]:
    """Class and RLE of full-frame masks (n, 1, h, w) in [0, 1], of those that are not empty."""
    from pycocotools import mask as coco

    above = (masks[:, 0] >= 0.5).numpy().view(np.uint8)
    return [[str(label), coco.encode(np.asfortranarray(mask))["counts"].decode()]
            for label, mask in zip(labels, above, strict=True) if mask.any()]


def small_masks(n: int, side_px: int, seed: int) -> Any:
    """Detections such as a network gives: boxes of 20 to 400 px with soft masks."""
    from segsvc.imaging.instances import Detections

    draw = np.random.default_rng(seed)
    sides = np.exp(draw.uniform(np.log(20), np.log(400), (n, 2)))
    corners = draw.uniform(0, 1, (n, 2)) * np.maximum(side_px - sides, 1)
    boxes = np.concatenate((corners, corners + sides), axis=1).clip(0, side_px).astype(np.float32)
    coarse = draw.uniform(0, 1, (n, 7, 7)).astype(np.float32)
    masks = np.stack([cv2.resize(each, (28, 28), interpolation=cv2.INTER_CUBIC) for each in coarse]).clip(0, 1)
    return Detections(boxes, np.full(n, 65535, np.uint16), np.zeros(n, np.int64), masks)


def paste_ours(n: int, side_px: int, seed: int) -> list[list[str]]:
    from segsvc.card import Extraction
    from segsvc.imaging.instances import InstanceCollector
    from segsvc.imaging.masks import full_frame_rle
    from segsvc.imaging.tiling import plan_tiles

    plan = plan_tiles(side_px, side_px, tile_px=SIDE_PX, overlap_px=64, stride_px=1)
    collector = InstanceCollector(plan, extraction=Extraction(extent_min=0, floor=0), mask_min=0.5, class_names=("1",),
                                  frame=0)
    collector.add(small_masks(n, side_px, seed), row=0, column=0)
    return [["1", full_frame_rle(each.mask_rle or b"", each.box, width_px=side_px, height_px=side_px).decode()]
            for each in collector.finish()[0]]


def paste_theirs(n: int, side_px: int, seed: int) -> list[list[str]]:
    import torch
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    found = small_masks(n, side_px, seed)
    pasted = paste_masks_in_image(torch.from_numpy(found.masks)[:, None], torch.from_numpy(found.boxes), (side_px, side_px))
    return encoded(pasted, [1] * n)


def status_bytes(name: str) -> int:
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) * 1024


def serve(kind: str, folder: Path) -> None:
    """Answers a line of JSON with a line of JSON, until there are no more."""
    paste = paste_ours if kind == OURS else paste_theirs
    paste(OBJECTS, 64, 0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status_bytes("VmRSS")
    begun = time.perf_counter()
    pasted = [paste(OBJECTS, SIDE_PX, 0)]
    part = {"paste_s": time.perf_counter() - begun, "paste_bytes": status_bytes("VmHWM") - before}
    pasted += [paste(OBJECTS, SIDE_PX, seed) for seed in range(1, PASTED)]
    contender = Ours(folder) if kind == OURS else Theirs(folder)
    print(json.dumps({**part, "pasted": pasted, "runtime": contender.runtime}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(contender.masks([picture(seed) for seed in asked["seeds"]], asked["way"])), flush=True)


class Child:
    """A contender's process."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, "--as", kind, "--folder", str(folder)], text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.part = self._answer()

    def masks(self, seeds: Sequence[int], way: str) -> Masks:
        if self._process.stdin is None:
            raise RuntimeError("expected a process with a pipe to it")
        self._process.stdin.write(json.dumps({"seeds": list(seeds), "way": way}) + "\n")
        self._process.stdin.flush()
        found: Masks = self._answer()
        return found

    def _answer(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"a contender ended early, with {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=60)


# -- the figures ---------------------------------------------------------------------------------------------------------


def same(some: Masks, others: Masks) -> float:
    """The share of the masks of `some` that are among `others`, image by image."""
    pairs = [({tuple(mask) for mask in mine}, {tuple(mask) for mask in theirs})
             for mine, theirs in zip(some, others, strict=True)]
    return sum(len(mine & theirs) for mine, theirs in pairs) / max(1, sum(len(mine) for mine, _ in pairs))


def least_iou(some: Masks, others: Masks) -> float | None:
    """Of the masks of `some` that are not among `others`, each compared with its nearest of its class, the least IoU."""
    from pycocotools import mask as coco

    worst = []
    for mine, theirs in zip(some, others, strict=True):
        for label, rle in mine:
            of_class = [{"size": [SIDE_PX, SIDE_PX], "counts": other.encode()} for name, other in theirs if name == label]
            if [label, rle] not in theirs:
                mask = {"size": [SIDE_PX, SIDE_PX], "counts": rle.encode()}
                worst.append(float(coco.iou([mask], of_class, [0] * len(of_class)).max()) if of_class else 0.0)
    return min(worst, default=None)


def figures(ours: Child, theirs: Child, repeats: int) -> list[Row]:
    by: dict[str, Masks] = {OURS: [], BOTH_ON_ONE: [], ONE_EACH: []}
    times: dict[str, list[float]] = {name: [] for name in by}
    for first in range(0, repeats * A_CALL, A_CALL):
        say(f"images {first + 1} and {first + 2} of {repeats * A_CALL}")
        for name, child in ((OURS, ours), (BOTH_ON_ONE, theirs), (ONE_EACH, theirs)):
            begun = time.perf_counter()
            by[name] += child.masks(range(first, first + A_CALL), name)
            times[name].append((time.perf_counter() - begun) / A_CALL)
    counts = [len(masks) for masks in by[BOTH_ON_ONE]]
    agreement, own = same(by[BOTH_ON_ONE], by[OURS]), same(by[BOTH_ON_ONE], by[ONE_EACH])
    median = medians(times)
    way = min((BOTH_ON_ONE, ONE_EACH), key=lambda name: median[name])
    pasted = same(theirs.part["pasted"], ours.part["pasted"])
    peer = "torchvision + pycocotools"
    return [
        Row(f"Mask R-CNN v2, {SIDE_PX} px image to RLE, {THREADS} threads", median[OURS], "s", median[way], f"{peer}, {way}",
            median[way] / median[OURS], None, DEMANDED_SPEED, details={
                "runtime": ours.part["runtime"], "peer_runtime": theirs.part["runtime"], "masks_an_image": counts,
                "repeats": repeats, BOTH_ON_ONE: round(median[BOTH_ON_ONE], 3), ONE_EACH: round(median[ONE_EACH], 3)}),
        Row("Mask R-CNN v2, image to RLE, share of masks that are the peer's to the byte", agreement, "share", own,
            "the peer itself with its threads the other way", None, None, None, details={
                "masks": sum(counts), "least_iou_of_the_others": least_iou(by[BOTH_ON_ONE], by[OURS]),
                "least_iou_of_the_peer's_own": least_iou(by[BOTH_ON_ONE], by[ONE_EACH])}),
        Row(f"small masks to RLE in {SIDE_PX} px, share that are the peer's to the byte", pasted, "share", None, peer, None,
            pasted == 1.0, DEMANDED_SAME, Bound.OURS_AT_LEAST, details={"masks": sum(map(len, theirs.part["pasted"]))}),
        Row(f"{OBJECTS} small masks to RLE in {SIDE_PX} px, peak memory", ours.part["paste_bytes"] / 2**20, "MiB",
            theirs.part["paste_bytes"] / 2**20, peer, ours.part["paste_bytes"] / theirs.part["paste_bytes"], None,
            DEMANDED_MEMORY, Bound.RATIO_AT_MOST),
        Row(f"{OBJECTS} small masks to RLE in {SIDE_PX} px", ours.part["paste_s"], "s", theirs.part["paste_s"], peer,
            theirs.part["paste_s"] / ours.part["paste_s"], None, None)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="calls of two images each; default 5")
    parser.add_argument("--as", dest="kind", choices=(OURS, "torchvision"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.kind is not None:
        serve(asked.kind, asked.folder)
        return
    with scratch() as folder:
        say("a network with random weights")
        write_model(folder)
        ours = Child(OURS, folder)
        theirs = Child("torchvision", folder)
        try:
            show(figures(ours, theirs, asked.repeats))
        finally:
            ours.close()
            theirs.close()


if __name__ == "__main__":
    main()
