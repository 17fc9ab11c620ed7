"""ONNX graphs, computed by OpenVINO from memory: the weights are one tensor, the bytes of the graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from segsvc.card import Activation, ModelCard
from segsvc.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from segsvc.models.library import Model

TENSOR = "onnx"
OLDEST_OPSET = 7
# what may go on for ever, or answers with other things than tensors
_REFUSED = frozenset({"Loop", "Scan", "If", "Optional", "OptionalGetElement", "OptionalHasElement"})


class OnnxFamily:
    """One input (N, channels, h, w) float32, one output of raw scores (N, outputs, h, w) or (N, outputs)."""

    name = "onnx"

    def build(self, card: ModelCard) -> torch.nn.Module:
        """Raises ConfigError: PyTorch does not compute such graphs."""
        raise ConfigError(f"model {card.name}: an ONNX graph is computed by OpenVINO alone. Use --runtime openvino.")

    def graph(self, model: Model) -> Any:
        """OpenVINO's model with scores, integers from 0 to 65535, as its output. Raises ConfigError where it is refused."""
        import numpy as np

        from segsvc.models._unobserved import openvino
        from segsvc.models.library import load_weights
        from segsvc.types import SCORE_ONE

        ov = openvino()
        state = load_weights(model)
        if set(state) != {TENSOR}:
            raise ConfigError(f"model {model.name}: expected the tensor {TENSOR!r} alone, got "
                              f"{', '.join(sorted(state)[:3])}")
        raw = state[TENSOR].numpy().tobytes()
        read_graph(raw)
        found = ov.Core().read_model(raw)
        ops = ov.opset13
        outputs = found.outputs[0].get_node().input_value(0)
        scores = ops.softmax(outputs, 1) if model.card.activation is Activation.SOFTMAX else ops.sigmoid(outputs)
        if model.card.background:
            scores = ops.slice(scores, *(ops.constant(np.array([number])) for number in (1, 2**31 - 1, 1, 1)))
        rounded = ops.round(ops.multiply(scores, ops.constant(np.float32(SCORE_ONE))), "half_to_even")
        return ov.Model([ops.convert(rounded, "u16")], found.get_parameters(), "scores")


def read_graph(raw: bytes) -> Any:
    """onnx's ModelProto of those bytes.

    Raises ConfigError for what is no ONNX, keeps tensors in other files, has operators that are not ONNX's own or may never
    end, or has other inputs and outputs than one tensor each.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(raw)
        opsets = {each.domain: each.version for each in model.opset_import}
    except Exception as error:  # protobuf's errors have no common root that is public
        raise ConfigError(f"expected an ONNX model, got {len(raw)} bytes that are none: {str(error)[:120]}") from error
    if not model.graph.node:
        raise ConfigError(f"expected an ONNX model, got {len(raw)} bytes without a graph")
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opsets.get("", 0) <= newest:
        raise ConfigError(f"expected an ONNX model of opset {OLDEST_OPSET} to {newest}, got {opsets.get('', 0)}")
    if model.functions:
        raise ConfigError(f"expected an ONNX model without functions of its own, got {model.functions[0].name!r}")
    for node in model.graph.node:
        _check_node(node)
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ConfigError(f"expected an ONNX model with its tensors inside, {tensor.name[:60]!r} is in another file. "
                              "Save it with onnx.save(model, path, save_as_external_data=False).")
    own = {each.name for each in model.graph.initializer}
    for what, values in (("input", [each for each in model.graph.input if each.name not in own]),
                         ("output", list(model.graph.output))):
        kinds = [each.type.WhichOneof("value") for each in values]
        if kinds != ["tensor_type"]:
            raise ConfigError(f"expected an ONNX model with one tensor as its {what}, got {len(kinds)}: "
                              f"{', '.join(f'{each.name} ({kind})' for each, kind in zip(values[:3], kinds, strict=False))}")
    return model


def _check_node(node: Any) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise ConfigError(f"expected ONNX's own operators, got {node.op_type!r} of {node.domain!r}")
    if node.op_type in _REFUSED or node.op_type.startswith("Sequence"):
        raise ConfigError(f"expected a graph that runs through once, on tensors, got the operator {node.op_type}")


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


PLUGIN = OnnxFamily()
