"""ONNX files: what they take and answer is looked at, what they mean is said by flags."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from segsvc.card import Activation, Extraction, ModelCard, Resize, Task, describe
from segsvc.errors import ConfigError
from segsvc.exchange.request import NO_WEIGHTS, Draft, ImportRequest, activation_of, named_classes
from segsvc.exchange.smp import normalisation_of
from segsvc.models.onnx import TENSOR, read_graph

_FLOAT32 = 1  # of onnx.TensorProto
_LAST = {"Sigmoid": Activation.SIGMOID, "Softmax": Activation.SOFTMAX}
_STRIDE_PX = 32


class _Source(torch.nn.Module):
    """The graph as onnxruntime computes it, or onnx's own reference where that is not installed."""

    def __init__(self, raw: bytes, name: str) -> None:
        super().__init__()
        self._name = name
        self.library = "onnxruntime" if importlib.util.find_spec("onnxruntime") is not None else "onnx's reference"
        try:
            self._run = _onnxruntime(raw) if self.library == "onnxruntime" else _reference(raw)
        except Exception as error:  # whatever it raises for a graph that it refuses
            raise ConfigError(f"{self.library} refuses the graph: {str(error).strip()[:200]}") from error

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        try:
            [answer] = self._run(None, {self._name: pixels.numpy()})
        except Exception as error:  # as above
            raise ConfigError(f"{self.library} cannot compute the graph on {tuple(pixels.shape)}: "
                              f"{str(error).strip()[:200]}") from error
        return torch.from_numpy(np.asarray(answer))


def _onnxruntime(raw: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"]).run


def _reference(raw: bytes) -> Any:
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(read_graph(raw)).run


def draft_of_bytes(request: ImportRequest, raw: bytes) -> Draft:
    """The model of an ONNX file. A sigmoid or softmax at its end is left to us, so that scores are rounded as all are."""
    request.check_unused("onnx", "arch", "encoder", "options", "prefix", "anchor_sizes_px", "anchor_ratios", "norm_eps")
    if request.task not in (Task.SEMANTIC, Task.CLASSIFICATION):
        raise ConfigError(f"--task: expected semantic or classification for an ONNX model, got {request.task or 'none'}")
    try:
        model = read_graph(raw)
    except ConfigError as error:
        raise ConfigError(f"{request.source}: {error}") from error
    own = {each.name for each in model.graph.initializer}
    [given] = [each for each in model.graph.input if each.name not in own]
    channels, height, width = _input(given)
    source = _Source(raw, given.name)
    side = request.crop_px or height or (224 if request.task is Task.CLASSIFICATION else 2 * _STRIDE_PX)
    outputs = _outputs(source, (1, channels, height or side, width or side), request.task)
    said = _without_last(model, request.task)
    tile_px = height or request.tile_px or 512
    dense = request.task is Task.SEMANTIC
    if height and request.tile_px not in (None, height):
        raise ConfigError(f"--tile-px {request.tile_px}: the graph takes {height} px alone; leave it out")
    try:
        card = ModelCard(
            name=request.name, family="onnx", task=request.task, arch="onnx", classes=named_classes(request, outputs),
            activation=activation_of(request, outputs, said), background=request.background,
            channels=1 if channels == 1 else 3, weights_sha256=NO_WEIGHTS,
            normalisation=normalisation_of(request, channels), licence=request.licence,
            tile_px=tile_px if dense else 512, overlap_px=min(64, tile_px // 4) if dense else 0,
            stride_px=(height or _STRIDE_PX) if dense else _STRIDE_PX,
            resize=None if dense else Resize(shorter_side_px=int(side / 0.875), crop_px=side),
            extraction=Extraction() if dense else Extraction(extent_min=0.05, floor=0.05, top_k=5 if outputs > 5 else None))
    except ValidationError as error:
        raise ConfigError(f"the model's card: {describe(error)}") from error
    state = {TENSOR: torch.from_numpy(np.frombuffer(model.SerializeToString(), np.uint8).copy())}
    return Draft(card, state, source, source.library, answers_scores=said is not None)


def _input(given: Any) -> tuple[int, int | None, int | None]:
    """Channels, height and width of the input; None where the graph takes any."""
    kind = given.type.tensor_type
    shape = [each.dim_value or None for each in kind.shape.dim]
    if kind.elem_type != _FLOAT32 or len(shape) != 4 or shape[1] not in (1, 3) or shape[0] not in (None, 1):
        raise ConfigError(f"expected an input (N, 1 or 3, h, w) of float32 with N free or 1, got {given.name!r} {shape} of "
                          f"type {kind.elem_type}")
    if shape[2] != shape[3] or (shape[2] or _STRIDE_PX) < _STRIDE_PX or (shape[2] or 0) > 4096:
        raise ConfigError(f"expected a square input of 32 to 4096 px, or a free one, got {shape[3]} x {shape[2]} px")
    return shape[1], shape[2], shape[3]


def _outputs(source: _Source, shape: tuple[int, ...], task: Task) -> int:
    """How many outputs the graph has: it is asked about zeros."""
    answer = tuple(source(torch.zeros(shape)).shape)
    expected = (1, "classes", *shape[2:]) if task is Task.SEMANTIC else (1, "classes")
    if len(answer) != len(expected) or answer[2:] != expected[2:] or answer[0] != 1:
        raise ConfigError(f"expected an output {expected} for the input {shape} and --task {task}, got {answer}")
    return int(answer[1])


def _without_last(model: Any, task: Task) -> Activation | None:
    """Takes a sigmoid or a softmax over the classes off the end of the graph; None where there is none."""
    [output] = model.graph.output
    last = next((node for node in model.graph.node if output.name in node.output), None)
    if last is None or last.op_type not in _LAST:
        return None
    axis = next((each.i for each in last.attribute if each.name == "axis"), -1)
    if last.op_type == "Softmax" and axis not in ((1, -3) if task is Task.SEMANTIC else (1, -1)):
        raise ConfigError(f"expected a softmax over the classes (axis 1) at the end of the graph, got axis {axis}")
    output.name = last.input[0]
    model.graph.node.remove(last)
    return _LAST[last.op_type]
