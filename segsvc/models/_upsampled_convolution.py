"""Computes a convolution of an upsampled map on the small map instead, in a converted model.

Decoders double a map by repeating each px and convolve the result with 3 x 3 weights. Of the 36 products an input px
and channel takes part in, many share the same factor: repeating is a transposed convolution with 2 x 2 ones and stride
2, and two linear maps in a row are one, here a transposed convolution with 4 x 4 weights and stride 2. It takes 16
products, needs no large map, and differs from the two steps by rounding alone. Where the upsampled map is first joined
with others along the channels, the weights are parted accordingly and the results added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float32]

_PLAIN = {"strides": [1, 1], "dilations": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1]}
_REPEATS = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def merge_upsampling(model: Any, shapes: Sequence[Sequence[int]]) -> int:
    """Rewrites an openvino.Model in place; the number of convolutions that were rewritten.

    shapes: input shapes (1, C, h, w), all that a map must be doubled at to count as doubled; more than one where the
    model takes several sizes.
    """
    doubled = _doubled(model, shapes)
    merged = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Convolution" and _is_plain(node) and _rewrite(node, doubled):
            merged += 1
    if merged:
        model.validate_nodes_and_infer_types()
    return merged


def transposed_weights(weights: Weights) -> Weights:
    """(outputs, inputs, 3, 3) of a convolution with one px of zeros around, after each px was repeated 2 x 2 ->
    (inputs, outputs, 4, 4) of the transposed convolution with stride 2 and one px cropped that gives the same."""
    n_outputs, n_inputs = weights.shape[:2]
    summed = np.zeros((n_outputs, n_inputs, 4, 4), np.float64)
    for dy in (0, 1):
        for dx in (0, 1):
            summed[:, :, dy: dy + 3, dx: dx + 3] += weights
    return np.ascontiguousarray(summed[:, :, ::-1, ::-1].transpose(1, 0, 2, 3), np.float32)


def _doubled(model: Any, shapes: Sequence[Sequence[int]]) -> set[str]:
    """The names of the nodes that repeat each px 2 x 2, whichever of the shapes comes in."""
    found: set[str] | None = None
    model.reshape(model.input(0).get_partial_shape())  # makes one of equal nodes, as every other reshape does
    for shape in shapes:
        trial = model.clone()
        trial.reshape(list(shape))
        names = {node.get_friendly_name() for node in trial.get_ordered_ops() if _repeats(node)}
        found = names if found is None else found & names
    return found or set()


def _repeats(node: Any) -> bool:
    if node.get_type_name() != "Interpolate":
        return False
    about = node.get_attributes()
    if any(about[key] != value for key, value in _REPEATS.items()) or any(about["pads_begin"] + about["pads_end"]):
        return False
    before, after = node.input(0).get_partial_shape(), node.output(0).get_partial_shape()
    if before.is_dynamic or after.is_dynamic or len(before) != 4:
        return False
    (n, c, h, w), came = before.to_shape(), list(after.to_shape())
    return came == [n, c, 2 * h, 2 * w]


def _is_plain(node: Any) -> bool:
    about = node.get_attributes()
    kernel = node.input_value(1).get_node()
    return (kernel.get_type_name() == "Constant" and list(kernel.shape)[2:] == [3, 3] and about["auto_pad"] == "explicit"
            and all(list(about[key]) == value for key, value in _PLAIN.items()))


def _rewrite(convolution: Any, doubled: set[str]) -> bool:
    from openvino import opset13 as operations

    given = convolution.input_value(0)
    joined = given.get_node()
    is_joined = joined.get_type_name() == "Concat" and joined.get_attributes()["axis"] == 1
    maps = [joined.input_value(index) for index in range(joined.get_input_size())] if is_joined else [given]
    if any(each.get_partial_shape()[1].is_dynamic for each in maps):
        return False
    if all(each.get_node().get_friendly_name() not in doubled for each in maps):
        return False
    weights: Weights = convolution.input_value(1).get_node().data
    terms, others, other_weights, first = [], [], [], 0
    for each in maps:
        last = first + each.get_partial_shape()[1].get_length()
        of_map, first = weights[:, first:last], last
        if each.get_node().get_friendly_name() in doubled:
            kernel = operations.constant(transposed_weights(of_map))
            terms.append(operations.convolution_backprop_data(
                each.get_node().input_value(0), kernel, [2, 2], None, [1, 1], [1, 1], [1, 1]).output(0))
        else:
            others.append(each)
            other_weights.append(of_map)
    if others:
        plain = others[0] if len(others) == 1 else operations.concat(others, 1).output(0)
        kernel = operations.constant(np.ascontiguousarray(np.concatenate(other_weights, axis=1)))
        terms.append(operations.convolution(plain, kernel, [1, 1], [1, 1], [1, 1], [1, 1]).output(0))
    total = terms[0]
    for term in terms[1:]:
        total = operations.add(total, term).output(0)
    for target in convolution.output(0).get_target_inputs():
        target.replace_source_output(total)
    return True
