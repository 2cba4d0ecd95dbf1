"""The compact form of a quantized file: fewer bytes, the same graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from exporter.graph.compact import make_compact
from exporter.graph.fixed_batch import fix_batch

CONSTANTS: dict[str, NDArray[np.generic]] = {
    "scale": np.array(1 / 64, np.float32),
    "zero": np.array(128, np.uint8),
    "another_scale": np.array(1 / 64, np.float32),
    "another_zero": np.array(128, np.uint8),
    "kernel": np.arange(-54, 54, dtype=np.int8).reshape(4, 3, 3, 3),
    "kernel_scale": np.full(4, 0.01, np.float32),
    "kernel_zero": np.zeros(4, np.int8),
    "bias": np.array([5, -3, 0, 7], np.int32),
    "bias_scale": np.full(4, 0.01 / 64, np.float32),
    "bias_zero": np.zeros(4, np.int32),
    "unused": np.zeros(1000, np.float32),
}


def quantized_model() -> ModelProto:
    nodes = [
        helper.make_node("DequantizeLinear", ["image", "scale", "zero"], ["real"], "first"),
        helper.make_node("DequantizeLinear", ["kernel", "kernel_scale", "kernel_zero"], ["w"],
                         "weights", axis=0),
        helper.make_node("DequantizeLinear", ["bias", "bias_scale", "bias_zero"], ["b"],
                         "biases", axis=0),
        helper.make_node("Conv", ["real", "w", "b"], ["convolved"], "conv"),
        helper.make_node("QuantizeLinear", ["convolved", "another_scale", "another_zero"],
                         ["bytes"], "q"),
        helper.make_node("DequantizeLinear", ["bytes", "another_scale", "another_zero"],
                         ["a"], "dq"),
        helper.make_node("Clip", ["a", "", "another_scale"], ["logits"], "clip"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 3, 6, 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4, 4, 4])],
        [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {"classes": "[]", "input": "{}", "tools": "{}"})
    return model


def run(model: ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(None, {"image": images})[0]
    return logits


def test_the_same_outputs_from_fewer_bytes() -> None:
    model = quantized_model()
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 6), dtype=np.uint8)
    before, size = run(model, images), model.ByteSize()
    make_compact(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(run(model, images), before)
    assert model.ByteSize() < size - 4000  # what is not read alone takes that


def test_constants_are_stored_once_and_biases_need_no_zero_point() -> None:
    model = quantized_model()
    make_compact(model)
    contents = [
        (t.data_type, tuple(t.dims), numpy_helper.to_array(t).tobytes())
        for t in model.graph.initializer
    ]
    assert len(contents) == len(set(contents)) == 7
    inputs = [len(node.input) for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert inputs == [3, 3, 2, 3]  # ONNX Runtime wants those of weights and activations


def test_names_are_short_but_for_inputs_and_outputs() -> None:
    model = quantized_model()
    make_compact(model)
    graph = model.graph
    assert (graph.input[0].name, graph.output[0].name) == ("image", "logits")
    assert {node.name for node in graph.node} == {""}
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    assert {name for name in names if len(name) > 1} == {"image", "logits"}
    assert list(graph.node[-1].input)[1] == ""  # an input that is left out stays left out
    assert [entry.key for entry in model.metadata_props] == ["classes", "input"]


def test_twice_is_once() -> None:
    model = quantized_model()
    make_compact(model)
    once = model.SerializeToString(deterministic=True)
    make_compact(model)
    assert model.SerializeToString(deterministic=True) == once


def test_a_fixed_batch_is_one_image(tmp_path: Path) -> None:
    model = quantized_model()
    fix_batch(model)
    onnx.checker.check_model(model, full_check=True)
    images = np.zeros((1, 3, 6, 6), np.uint8)
    assert run(model, images).shape == (1, 4, 4, 4)
    for info in (*model.graph.input, *model.graph.output):
        assert info.type.tensor_type.shape.dim[0].dim_value == 1
