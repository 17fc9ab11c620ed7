"""U-Net forward of 512 px tiles on a CPU: this project against PyTorch, ONNX Runtime and OpenVINO called by hand.

Prints a JSON list: for each network and number of threads one row against the fastest peer and one against PyTorch
eager as it comes (NCHW). `ours` and `peer` are medians of seconds a tile at full throughput, from interleaved repeats.
With two threads every peer may use them in its best way: both on one tile, or a tile each; the faster way counts. Ours
is measured as a run uses it, by `Predictor.submit`, and gives finished scores; the peers give raw outputs alone.

Networks: U-Net with resnet18 and seeded random weights, its head scaled so that a mask is neither empty nor a coin
toss; and the packaged model nuclei. `python benchmarks/unet_forward.py --repeats 3` is quicker.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import openvino as ov
import segmentation_models_pytorch as smp
import torch
from _common import Detail, Row, interleaved, medians, nuclei_picture, say, scratch, show

from segsvc.card import ClassNode, ModelCard, Task
from segsvc.imaging.intensity import affine, to_channels, to_input
from segsvc.models.checkpoint import save_model
from segsvc.models.library import PACKAGED, WEIGHTS, Model, read_model
from segsvc.models.runtime import Predictor
from segsvc.models.scored import build_scored
from segsvc.settings import settings
from segsvc.types import SCORE_ONE, Runtime, ScoreArray

TILE_PX = 512
TILES = 2  # different ones; each timed call with two threads computes both, with one thread the first
AGREEMENT = 0.9999  # of px, of the masks at 0.5
DEMANDED_OF_BEST, DEMANDED_OF_EAGER = 1.0, 1.7
EAGER = "PyTorch eager, NCHW"
OURS = "segsvc"

Tile = npt.NDArray[np.float32]  # (1, C, TILE_PX, TILE_PX)
Raw = npt.NDArray[np.float32]  # (1, 1, TILE_PX, TILE_PX), raw outputs
Peer = Callable[[Sequence[Tile]], list[Raw]]


@dataclass(frozen=True, slots=True)
class Network:
    """What is measured: the model as the product reads it, tiles for it, and what the peers make of it."""

    name: str
    model: Model
    tiles: Sequence[Tile]
    module: torch.nn.Module
    channels_last: torch.nn.Module
    exported: bytes  # ONNX
    converted: ov.Model


def network(name: str, model: Model) -> Network:
    """The model for all contenders."""
    module, tiles = build_scored(model).network, tiles_for(model.card)
    channels_last: torch.nn.Module = copy.deepcopy(module).to(memory_format=torch.channels_last)
    with quiet(), torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        example = torch.from_numpy(tiles[0])
        program = torch.onnx.export(module, (example,), dynamo=True, verbose=False)
        if program is None:
            raise RuntimeError("torch.onnx.export: expected a program, got none")
        program.save(f"{folder}/model.onnx")
        converted = ov.convert_model(module, example_input=example, input=[ov.PartialShape(list(example.shape))])
        return Network(name, model, tiles, module, channels_last, Path(folder, "model.onnx").read_bytes(), converted)


def random_resnet18(folder: Path) -> Model:
    """A U-Net with resnet18 and random weights, written as a model's folder: a tenth to a half of the px are above 0.5."""
    torch.manual_seed(20)
    module = smp.create_model("unet", "resnet18", encoder_weights=None, in_channels=3, classes=1).eval()
    draft = ModelCard(name="random-resnet18", family="smp", task=Task.SEMANTIC, arch="unet", encoder="resnet18",
                      classes=(ClassNode(name="thing"),), weights_sha256="0" * 64, licence="Apache-2.0")
    with torch.inference_mode():
        raw = module(torch.from_numpy(tiles_for(draft)[0]))
        gain = 4.0 / float(raw.std())
        head = module.segmentation_head[0]
        head.weight.mul_(gain)
        head.bias.copy_((head.bias - float(raw.quantile(0.7))) * gain)
    folder.mkdir()
    digest = save_model(module.state_dict(), folder / WEIGHTS, half=False)
    (folder / "card.json").write_text(draft.model_copy(update={"weights_sha256": digest}).to_json())
    return read_model(folder)


def tiles_for(card: ModelCard) -> list[Tile]:
    """Pictures as the model's input."""
    tiles = []
    for seed in range(TILES):
        picture = to_channels(nuclei_picture(seed, TILE_PX)[:, :, None], card.channels)
        tiles.append(to_input(picture, affine(card.normalisation, dtype=picture.dtype, sample=picture)))
    return tiles


# -- peers ---------------------------------------------------------------------------------------------------------------


def in_turn(compute: Callable[[Tile], Raw]) -> Peer:
    return lambda tiles: [compute(tile) for tile in tiles]


def side_by_side(compute: Callable[[Tile], Raw], pool: ThreadPoolExecutor) -> Peer:
    return lambda tiles: list(pool.map(compute, tiles))


def by_torch(module: torch.nn.Module, layout: torch.memory_format, threads: int, tile: Tile) -> Raw:
    torch.set_num_threads(threads)  # of the calling thread
    with torch.inference_mode():
        raw: Raw = module(torch.from_numpy(tile).contiguous(memory_format=layout)).numpy()
    return raw


def by_onnx(session: onnxruntime.InferenceSession, tile: Tile) -> Raw:
    raw: Raw = session.run(None, {session.get_inputs()[0].name: tile})[0]
    return raw


def onnx_session(exported: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters and converters warn about themselves; stdout is for the figures alone."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def by_openvino(converted: ov.Model, options: Mapping[str, str | int]) -> Peer:
    """As its documentation has it: compiled for this device, with as many requests in flight as it says are best."""
    compiled = ov.Core().compile_model(converted, "CPU", dict(options))
    requests = ov.AsyncInferQueue(compiled)

    def compute(tiles: Sequence[Tile]) -> list[Raw]:
        answers: dict[int, Raw] = {}

        def take(request: ov.InferRequest, index: int) -> None:
            answers[index] = request.get_output_tensor().data.copy()

        requests.set_callback(take)
        for index, tile in enumerate(tiles):
            requests.start_async([tile], index, share_inputs=True)
        requests.wait_all()
        return [answers[index] for index in range(len(tiles))]

    return compute


def peers(given: Network, threads: int, pool: ThreadPoolExecutor) -> dict[str, Peer]:
    """Every peer, in every way that it can use the threads, by name and way (`name: way`)."""
    nchw, last = torch.contiguous_format, torch.channels_last
    exported, converted = given.exported, given.converted
    whole = f"{threads} on a tile"
    found: dict[str, Peer] = {
        f"{EAGER}: {whole}": in_turn(partial(by_torch, given.module, nchw, threads)),
        f"PyTorch eager, channels_last: {whole}": in_turn(partial(by_torch, given.channels_last, last, threads)),
        f"ONNX Runtime: {whole}": in_turn(partial(by_onnx, onnx_session(exported, threads))),
        f"OpenVINO by hand: hint LATENCY, {threads} threads": by_openvino(
            converted, {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}),
    }
    if threads > 1:
        each = f"a tile on each of {threads}"
        found |= {
            f"{EAGER}: {each}": side_by_side(partial(by_torch, given.module, nchw, 1), pool),
            f"PyTorch eager, channels_last: {each}": side_by_side(partial(by_torch, given.channels_last, last, 1), pool),
            f"ONNX Runtime: {each}": side_by_side(partial(by_onnx, onnx_session(exported, 1)), pool),
            f"OpenVINO by hand: hint THROUGHPUT, {threads} threads": by_openvino(
                converted, {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": threads}),
            f"OpenVINO by hand: {threads} streams": by_openvino(
                converted, {"NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads}),
        }
    return found


# -- measuring -----------------------------------------------------------------------------------------------------------


def measure(given: Network, threads: int, repeats: int) -> list[Row]:
    predictor = Predictor(given.model, Runtime.OPENVINO, threads=threads)

    def ours(tiles: Sequence[Tile]) -> list[ScoreArray]:
        return [future.result().scores for future in [predictor.submit(tile) for tile in tiles]]

    with ThreadPoolExecutor(threads) as pool:
        others = peers(given, threads, pool)
        masks = {name: [raw > 0 for raw in peer(given.tiles)] for name, peer in others.items()}
        mine = [2 * scores[None].astype(np.int64) > SCORE_ONE for scores in ours(given.tiles)]
        reference = masks[f"{EAGER}: {threads} on a tile"]
        used = given.tiles if threads > 1 else given.tiles[:1]
        times = medians(interleaved(
            {OURS: partial(ours, used)} | {name: partial(peer, used) for name, peer in others.items()},
            repeats=repeats, pause_s=0.03))
    predictor.close()
    seconds = {name: value / len(used) for name, value in times.items()}
    agreement = {name: agreeing(mask, reference) for name, mask in {OURS: mine, **masks}.items()}
    details: dict[str, Detail] = {
        "seconds_a_tile": {name: round(value, 5) for name, value in seconds.items()},
        "share_of_px_that_agree_with_eager": {name: round(value, 7) for name, value in agreement.items()},
        "share_of_px_in_the_mask": round(float(np.mean(reference)), 4), "tiles": len(used), "repeats": repeats}
    by_peer = {name: value for name, value in seconds.items() if name != OURS}
    best = min(by_peer, key=by_peer.__getitem__)
    eager = min((name for name in by_peer if name.startswith(EAGER)), key=by_peer.__getitem__)
    figure = f"U-Net {given.name}, {TILE_PX} px tile, {threads} thread{'s' if threads > 1 else ''}"
    return [Row(f"{figure}, against {what}", seconds[OURS], "s a tile", seconds[name], name, seconds[name] / seconds[OURS],
                agreement[OURS] >= AGREEMENT, demanded, details=details)
            for what, name, demanded in (("the fastest peer", best, DEMANDED_OF_BEST),
                                         ("PyTorch eager NCHW", eager, DEMANDED_OF_EAGER))]


def agreeing(masks: Sequence[npt.NDArray[np.bool_]], others: Sequence[npt.NDArray[np.bool_]]) -> float:
    """The share of px at which two lists of masks are the same."""
    return float(np.mean([mask == other for mask, other in zip(masks, others, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    given = parser.parse_args()
    rows = []
    with scratch() as folder:
        os.environ["SEGSVC_CACHE_DIR"] = str(folder / "cache")  # what is converted here is of no use to anyone else
        settings.cache_clear()
        models = {"resnet18": random_resnet18(folder / "random-resnet18"),
                  "nuclei (tf_efficientnet_lite0)": read_model(PACKAGED / "nuclei")}
        for name, model in models.items():
            say(f"{name}: converting for all contenders ...")
            measured = network(name, model)
            for threads in given.threads:
                say(f"{name}, {threads} threads ...")
                rows += measure(measured, threads, given.repeats)
                say("  " + "; ".join(f"{row.peer_name} {row.ratio:.2f}" for row in rows[-2:]))
    show(rows)


if __name__ == "__main__":
    main()
