"""Small ONNX graphs, made by the library onnx."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FREE = "any"


def graph(*nodes: Any, side: int | str = FREE, output: list[Any] | None = None, tensors: tuple[Any, ...] = (),
          opset: int = 17) -> onnx.ModelProto:
    """A model of those nodes between `pixels` (1, 3, side, side) and `out`."""
    given = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, side, side])
    answer = helper.make_tensor_value_info("out", TensorProto.FLOAT, output or [1, 2, side, side])
    made = helper.make_graph(list(nodes), "test", [given], [answer], list(tensors))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def weights(*shape: int, name: str, seed: int = 0) -> Any:
    return numpy_helper.from_array(np.random.default_rng(seed).normal(size=shape).astype(np.float32), name)


def dense(*, last: str | None = "Softmax", side: int | str = FREE) -> onnx.ModelProto:
    """A convolution to two classes of each px."""
    conv = helper.make_node("Conv", ["pixels", "w"], ["out" if last is None else "raw"], pads=[1, 1, 1, 1])
    nodes = [conv]
    if last is not None:
        nodes.append(helper.make_node(last, ["raw"], ["out"], **({"axis": 1} if last == "Softmax" else {})))
    return graph(*nodes, side=side, tensors=(weights(2, 3, 3, 3, name="w"),))


def flat() -> onnx.ModelProto:
    """A mean over all px, and four classes."""
    return graph(helper.make_node("GlobalAveragePool", ["pixels"], ["mean"]), helper.make_node("Flatten", ["mean"], ["row"]),
                 helper.make_node("Gemm", ["row", "w"], ["out"]), side=64, output=[1, 4],
                 tensors=(weights(3, 4, name="w"),))
