"""ONNX graphs become models that OpenVINO computes from memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from segsvc.card import Activation, Task
from segsvc.errors import ConfigError
from segsvc.exchange.importing import Imported, import_model
from segsvc.exchange.request import ImportRequest, SourceKind
from segsvc.models.runtime import Predictor, choose_runtime
from segsvc.settings import RuntimeChoice
from segsvc.types import Runtime
from tests.exchange.graphs import dense, flat, graph, weights

pytestmark = pytest.mark.usefixtures("in_process")


def imported(model: Any, folder: Path, **said: Any) -> Imported:
    source = folder / "model.onnx"
    source.write_bytes(model.SerializeToString())
    return import_model(ImportRequest(source=str(source), name="model", **said), folder / "model", lambda text: None)


@pytest.mark.parametrize(("last", "activation"), [
    ("Softmax", Activation.SOFTMAX), ("Sigmoid", Activation.SIGMOID), (None, Activation.SOFTMAX)])
def test_a_graph_of_any_size_takes_tiles_of_any_size(
    tmp_path: Path, last: str | None, activation: Activation,
) -> None:
    done = imported(dense(last=last), tmp_path, task=Task.SEMANTIC, tile_px=64)
    assert (done.kind, done.model.card.activation, len(done.model.card.classes)) == (SourceKind.ONNX, activation, 2)
    assert done.comparison.library == "onnxruntime"
    assert choose_runtime(done.model, RuntimeChoice.AUTO).runtime is Runtime.OPENVINO
    predictor = Predictor(done.model, Runtime.OPENVINO, threads=1)
    try:
        assert predictor.flexible
        answer: Any = predictor.submit(np.zeros((1, 3, 32, 96), np.float32)).result()
        assert answer.scores.shape == (2, 32, 96)
    finally:
        predictor.close()


def test_a_graph_of_one_size_has_tiles_of_it(tmp_path: Path) -> None:
    card = imported(dense(side=96), tmp_path, task=Task.SEMANTIC, background=True).model.card
    assert (card.tile_px, card.stride_px, card.background, len(card.classes)) == (96, 96, True, 1)


def test_a_classifier_has_the_size_of_its_input(tmp_path: Path) -> None:
    card = imported(flat(), tmp_path, task=Task.CLASSIFICATION).model.card
    assert card.resize is not None
    assert (card.resize.crop_px, len(card.classes)) == (64, 4)


def test_pytorch_says_that_it_does_not_compute_it(tmp_path: Path) -> None:
    done = imported(dense(), tmp_path, task=Task.SEMANTIC)
    with pytest.raises(ConfigError, match="computed by OpenVINO alone"):
        Predictor(done.model, Runtime.TORCH_CPU, threads=1)


def external(to: str) -> Any:
    model = dense()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=to)
    return model


def endless() -> Any:
    turn, on, still = (helper.make_tensor_value_info(name, kind, []) for name, kind in (
        ("i", TensorProto.INT64), ("on", TensorProto.BOOL), ("still", TensorProto.BOOL)))
    body = helper.make_graph([helper.make_node("Identity", ["on"], ["still"])], "body", [turn, on], [still])
    return graph(helper.make_node("Loop", ["", ""], ["out"], body=body))


def sequence() -> Any:
    model = graph(helper.make_node("SequenceConstruct", ["pixels"], ["out"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("out", TensorProto.FLOAT, None))
    return model


def two_outputs() -> Any:
    model = dense()
    model.graph.output.append(helper.make_tensor_value_info("raw", TensorProto.FLOAT, None))
    return model


MAKERS: dict[str, tuple[Callable[[], Any], str]] = {
    "external_up": (lambda: external("../../etc/passwd"), "is in another file"),
    "external_absolute": (lambda: external("/etc/passwd"), "is in another file"),
    "external_beside": (lambda: external("model.bin"), "is in another file"),
    "endless": (endless, "got the operator Loop"),
    "sequence": (sequence, "got the operator SequenceConstruct"),
    "custom": (lambda: graph(helper.make_node("Run", ["pixels"], ["out"], domain="com.evil")), "got 'Run' of 'com.evil'"),
    "unknown": (lambda: graph(helper.make_node("Runs", ["pixels"], ["out"])), "refuses the graph"),
    "two_outputs": (two_outputs, "one tensor as its output, got 2"),
    "old": (lambda: graph(helper.make_node("Identity", ["pixels"], ["out"]), opset=3), "of opset 7 to"),
    "vast": (lambda: graph(helper.make_node("Conv", ["pixels", "w"], ["out"]), side=10**6,
                           tensors=(weights(2, 3, 3, 3, name="w"),)), "expected a square input of 32 to 4096 px"),
    "smaller": (lambda: graph(helper.make_node("Conv", ["pixels", "w"], ["out"]), tensors=(weights(2, 3, 3, 3, name="w"),)),
                "expected an output (1, 'classes', 64, 64)"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_graph_that_is_no_model_is_refused_with_what_was_found(tmp_path: Path, name: str) -> None:
    make, said = MAKERS[name]
    with pytest.raises(ConfigError) as caught:
        imported(make(), tmp_path, task=Task.SEMANTIC)
    assert said in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("raw", [b"\x08", b"\x08\x08\xff\xff\xff\xff\xff", b"\x08\x08" + bytes(1000)])
def test_bytes_that_only_begin_as_onnx_are_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(raw)
    request = ImportRequest(source=str(tmp_path / "model.onnx"), name="model", task=Task.SEMANTIC)
    with pytest.raises(ConfigError, match=r"model\.onnx: expected an ONNX model"):
        import_model(request, tmp_path / "model", lambda text: None)


def test_a_task_must_be_said(tmp_path: Path) -> None:
    assert onnx.__version__
    with pytest.raises(ConfigError, match="--task: expected semantic or classification for an ONNX model, got none"):
        imported(dense(), tmp_path)
