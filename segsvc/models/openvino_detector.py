"""Mask R-CNN by OpenVINO on a CPU: pyramid, box head and mask head are graphs of their own, of any size and number.

What lies between them (choosing boxes, looking them up on the levels) is done by `detector`, as with PyTorch alone.
"""

from __future__ import annotations

import queue
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN

from segsvc import plugins
from segsvc.card import ModelCard
from segsvc.errors import ConfigError
from segsvc.imaging import instances
from segsvc.imaging.instances import Detections
from segsvc.models import Family
from segsvc.models._unobserved import openvino
from segsvc.models.detector import Detector, Levels, build_detector_network, check_detects, least_tile
from segsvc.models.library import Model
from segsvc.models.pyramid import SIZE_DIVISIBLE
from segsvc.types import Runtime

_TOLERANCE = 1e-3  # of a part's largest output: the most that the converted part may differ from PyTorch on random input
_TRIAL_ROIS = 3
PYRAMID, BOXES, MASKS = "model.pyramid.xml", "model.boxes.xml", "model.masks.xml"

Floats = npt.NDArray[np.float32]


class _Pyramid(nn.Module):
    """(1, C, h, w) -> the features of all levels, the logits of all, the deltas of all."""

    def __init__(self, network: MaskRCNN) -> None:
        super().__init__()
        self.backbone, self.head = network.backbone, network.rpn.head

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = list(self.backbone(pixels).values())
        logits, deltas = self.head(features)
        return (*features, *logits, *deltas)


def _modules(network: MaskRCNN, card: ModelCard) -> dict[str, tuple[nn.Module, list[list[int]]]]:
    """Each part, by the name of its file, and shapes of input that it is tried on; axes in which these differ are free."""
    if card.detection is None:
        raise ConfigError(f"model {card.name}: expected detection in its card, got none")
    heads, channels = network.roi_heads, int(network.backbone.out_channels)
    box_px, mask_px = heads.box_roi_pool.output_size[0], heads.mask_roi_pool.output_size[0]
    return {
        PYRAMID: (_Pyramid(network), [[1, card.channels, 4 * SIZE_DIVISIBLE, 4 * SIZE_DIVISIBLE],
                                      [1, card.channels, 2 * SIZE_DIVISIBLE, 5 * SIZE_DIVISIBLE]]),
        BOXES: (nn.Sequential(heads.box_head, heads.box_predictor), [[_TRIAL_ROIS, channels, box_px, box_px],
                                                                     [1, channels, box_px, box_px]]),
        MASKS: (nn.Sequential(heads.mask_head, heads.mask_predictor), [[_TRIAL_ROIS, channels, mask_px, mask_px],
                                                                       [1, channels, mask_px, mask_px]])}


def convert_parts(model: Model, into: Path, options: dict[str, Any]) -> str | None:
    """Writes the parts as OpenVINO's files. Returns why it could not, None where all agree with PyTorch."""
    network = build_detector_network(model)
    check_detects(Detector(network, model.card), model.card)
    for name, (part, shapes) in _modules(network, model.card).items():
        refused = _convert_part(part.eval(), shapes, into / name, options)
        if refused is not None:
            return refused
    return None


def _convert_part(part: nn.Module, shapes: Sequence[list[int]], to: Path, options: dict[str, Any]) -> str | None:
    ov = openvino()
    trials = [torch.randn(*shape, generator=torch.Generator().manual_seed(7)) for shape in shapes]
    free = [-1 if len(set(sides)) > 1 else sides[0] for sides in zip(*shapes, strict=True)]
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        converted = ov.convert_model(part, example_input=trials[0], input=[ov.PartialShape(free)])
    compiled = ov.Core().compile_model(converted, "CPU", options)
    for trial in trials:
        with torch.inference_mode():
            wanted = part(trial)
        wanted = [wanted] if isinstance(wanted, torch.Tensor) else list(wanted)
        given = compiled(trial.numpy())
        for number, want in enumerate(wanted):
            expected, got = want.numpy(), given[number]
            if got.shape != expected.shape:
                return f"a part answers {got.shape} after conversion, not {expected.shape}"
            worst, scale = float(np.abs(got - expected).max()), max(float(np.abs(expected).max()), 1e-6)
            if not worst <= _TOLERANCE * scale:
                return f"a part's answers differ from PyTorch's by up to {worst / scale:.2g} of the largest after conversion"
    ov.save_model(converted, to, compress_to_fp16=False)
    return None


class _Graph:
    """One compiled part, for as many threads as it was compiled for."""

    def __init__(self, path: Path, *, threads: int, options: dict[str, Any]) -> None:
        compiled = openvino().Core().compile_model(path, "CPU", options)
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(threads):
            self._requests.put(compiled.create_infer_request())

    def __call__(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        request = self._requests.get()
        try:
            found = request.infer([tensor.contiguous().numpy()], share_inputs=True, share_outputs=False)
            return [torch.from_numpy(found[number]) for number in range(len(found))]
        finally:
            self._requests.put(request)


class _OpenvinoParts:
    """The heavy parts, computed by OpenVINO."""

    def __init__(self, folder: Path, *, threads: int, options: dict[str, Any]) -> None:
        self._pyramid, self._boxes, self._masks = (_Graph(folder / name, threads=threads, options=options)
                                                   for name in (PYRAMID, BOXES, MASKS))

    def levels(self, pixels: torch.Tensor) -> Levels:
        found = self._pyramid(pixels)
        n = len(found) // 3
        return Levels(found[:n], found[n: 2 * n], found[2 * n:])

    def boxes(self, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, deltas = self._boxes(rois)
        return logits, deltas

    def masks(self, rois: torch.Tensor) -> torch.Tensor:
        [logits] = self._masks(rois)
        return logits


class OpenvinoDetector:
    """Finds objects by OpenVINO and PyTorch together; may be called by as many threads at once as it was given."""

    runtime = Runtime.OPENVINO
    flexible = True

    def __init__(self, model: Model, folder: Path, *, threads: int, options: dict[str, Any]) -> None:
        """folder: where `convert_parts` wrote them; what lies there was checked by who calls."""
        torch.set_num_threads(1)
        instances.warm()
        family: Family = plugins.load(plugins.PluginKind.MODEL, model.card.family)
        with torch.device("meta"):  # what is computed elsewhere needs no weights here
            network = family.build(model.card)
        if not isinstance(network, MaskRCNN):
            raise ConfigError(f"model {model.name}: expected a family that builds a MaskRCNN, got {model.card.family!r}")
        self._detector = Detector(network.eval(), model.card, _OpenvinoParts(folder, threads=threads, options=options))
        # the binding's first call is made here, by one thread: see `openvino_runtime`
        self.detect(least_tile(model.card).numpy())

    def detect(self, pixels: Floats) -> Detections:
        """(1, C, h, w) float32 -> the objects in it."""
        with torch.inference_mode():
            return self._detector.detect(torch.from_numpy(pixels))
