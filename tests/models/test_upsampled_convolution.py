from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
import pytest
import torch
from openvino import opset13 as op

from segsvc.models._upsampled_convolution import merge_upsampling, transposed_weights

Floats = npt.NDArray[np.float32]
SHAPES = [(1, 4, 8, 6), (1, 4, 10, 16)]


def drawn(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def repeated(given: Any, *, factor: float = 2.0, mode: str = "nearest", axes: tuple[int, ...] = (2, 3)) -> Any:
    return op.interpolate(given, op.constant(np.full(len(axes), factor, np.float32)), mode=mode,
                          shape_calculation_mode="scales", coordinate_transformation_mode="asymmetric",
                          nearest_mode="floor", axes=op.constant(np.array(axes)))


def convolved(given: Any, outputs: int, inputs: int, *, size: int = 3, stride: int = 1) -> Any:
    pad = [size // 2] * 2
    return op.convolution(given, op.constant(drawn(outputs, inputs, size, size)), [stride] * 2, pad, pad, [1, 1])


def model(network: Callable[[Any], Any]) -> ov.Model:
    given = op.parameter([1, 4, -1, -1], np.float32)
    return ov.Model([network(given)], [given])


def answer(network: ov.Model, pixels: Floats) -> Floats:
    exactly = {"INFERENCE_PRECISION_HINT": "f32"}  # a processor that has bfloat16 would take it
    result: Floats = ov.Core().compile_model(network, "CPU", exactly)(pixels)[0]
    return result


def kinds(network: ov.Model) -> list[str]:
    return [node.get_type_name() for node in network.get_ordered_ops()]


def test_a_transposed_convolution_with_the_summed_weights_is_repeating_and_convolving() -> None:
    pixels, weights = torch.from_numpy(drawn(2, 5, 7, 4)), drawn(3, 5, 3, 3, seed=1)
    wanted = torch.nn.functional.conv2d(torch.nn.functional.interpolate(pixels, scale_factor=2),
                                        torch.from_numpy(weights), padding=1)
    got = torch.nn.functional.conv_transpose2d(pixels, torch.from_numpy(transposed_weights(weights)), stride=2, padding=1)
    assert got.shape == wanted.shape
    assert torch.allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("network", [
    lambda given: convolved(repeated(given), 3, 4),
    lambda given: convolved(repeated(op.relu(given)), 3, 4),
    lambda given: convolved(op.concat([repeated(given), convolved(repeated(given), 2, 4, size=1)], 1), 3, 6),
    lambda given: convolved(op.concat([op.relu(repeated(given)), repeated(given), repeated(given)], 1), 3, 12),
    lambda given: convolved(op.concat([repeated(given), repeated(op.relu(given)), repeated(given)], 1), 3, 12),
], ids=["alone", "after another", "joined first", "joined twice and last", "nothing else joined"])
def test_a_merged_model_answers_as_before_at_every_size(network: Callable[[Any], Any]) -> None:
    before, merged = model(network), model(network)
    assert merge_upsampling(merged, SHAPES) == 1
    assert "ConvolutionBackpropData" in kinds(merged)
    for shape in (*SHAPES, (1, 4, 1, 1)):
        pixels = drawn(*shape, seed=3)
        assert np.abs(answer(merged, pixels) - answer(before, pixels)).max() < 1e-4


def test_two_in_a_row_are_both_merged() -> None:
    def network(given: Any) -> Any:
        return convolved(repeated(op.relu(convolved(repeated(given), 5, 4))), 2, 5)

    before, merged = model(network), model(network)
    assert merge_upsampling(merged, SHAPES) == 2
    assert "Interpolate" not in kinds(merged)
    pixels = drawn(*SHAPES[0])
    assert np.abs(answer(merged, pixels) - answer(before, pixels)).max() < 1e-3


@pytest.mark.parametrize("network", [
    lambda given: convolved(repeated(given, factor=3.0), 3, 4),
    lambda given: convolved(repeated(given, mode="linear_onnx"), 3, 4),
    lambda given: convolved(repeated(given, axes=(3,)), 3, 4),
    lambda given: convolved(repeated(given), 3, 4, size=5),
    lambda given: convolved(repeated(given), 3, 4, stride=2),
    lambda given: convolved(op.relu(repeated(given)), 3, 4),
], ids=["tripled", "interpolated", "one axis", "5 x 5", "stride 2", "something between"])
def test_what_is_something_else_stays_as_it_is(network: Callable[[Any], Any]) -> None:
    given = model(network)
    before = kinds(given)
    assert merge_upsampling(given, SHAPES) == 0
    assert kinds(given) == before


def test_a_map_that_is_doubled_at_one_size_alone_does_not_count_as_doubled() -> None:
    def to_16_by_12(given: Any) -> Any:
        return convolved(op.interpolate(
            given, op.constant(np.array([16, 12])), mode="nearest", shape_calculation_mode="sizes",
            coordinate_transformation_mode="asymmetric", nearest_mode="floor", axes=op.constant(np.array([2, 3]))), 3, 4)

    assert merge_upsampling(model(to_16_by_12), SHAPES[:1]) == 1
    assert merge_upsampling(model(to_16_by_12), SHAPES) == 0
