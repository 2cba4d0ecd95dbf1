from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from exporter.errors import GraphError
from exporter.graph.canonical import save_model
from exporter.graph.inspect import FloatOperator, Inspection, Tensor, inspect_file
from exporter.graph.model import OnnxModel
from tests.graph import networks
from tests.graph.graphs import graph, noise
from tests.graph.test_execution import SCALES


def test_a_float_model(plain: OnnxModel) -> None:
    seen = inspect_file(plain.file.path)

    assert seen.bytes == plain.file.path.stat().st_size
    assert seen.weight_bytes == 4 * plain.parameters + 5  # a scale and a zero point
    assert (seen.opset, seen.ir_version, seen.producer) == (18, 8, "edge-exporter")
    side = networks.SIDE
    assert seen.inputs == (Tensor(name="image", type="uint8", shape=("N", side, side, 3)),)
    assert seen.outputs == (Tensor(name="logits", type="float32", shape=("N", 5)),)
    assert " ".join(f"{name}:{count}" for name, count in seen.operators.items()) == (
        "Conv:2 DequantizeLinear:1 Flatten:1 Gemm:2 MaxPool:2 Relu:3 Transpose:1"
    )
    assert (seen.parameters, seen.macs) == (plain.parameters, plain.macs)
    assert not seen.quantized
    assert seen.floating["Conv"] == 2
    assert seen.float_operators == ()
    assert seen.contract == networks.CONTRACT
    assert set(seen.metadata) == {"classes", "input", "tools", "digests"}


def test_a_foreign_quantized_model_with_a_float_operator(path: Path) -> None:
    text = """g (float[N,4] x) => (float[N,4] y) {
        p = QuantizeLinear(x, s, z)
        q = DequantizeLinear(p, s, z)
        t = Tanh(q)
        r = QuantizeLinear(t, s, z)
        d = DequantizeLinear(r, s, z)
        w = DequantizeLinear(wq, s, wz)
        y = Gemm<transB=1>(d, w)
    }"""
    weights = {"wq": (noise(4, 4) * 40).astype("int8"), "wz": SCALES["z"].astype("int8") * 0}
    save_model(graph(text, SCALES | weights), path)

    seen = inspect_file(path)

    assert seen.quantized
    assert seen.contract is None
    assert seen.integer == {"QGemm": 1}
    assert seen.float_operators == (
        FloatOperator(name="n2", operator="Tanh", reason="has no int8 kernel; use ReLU or ReLU6"),
    )
    assert (seen.parameters, seen.macs) == (16, 16)


def test_sizes_that_nobody_knows_are_not_made_up(path: Path) -> None:
    conv = "g (float[N,3,h,w] x) => (float[N,4,a,b] y) { y = Conv<kernel_shape=[3,3]>(x, k) }"
    save_model(graph(conv, {"k": noise(4, 3, 3, 3)}), path)
    assert (inspect_file(path).parameters, inspect_file(path).macs) == (108, None)
    assert inspect_file(path).inputs[0].shape == ("N", 3, "h", "w")

    save_model(graph("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"), path)
    assert (inspect_file(path).parameters, inspect_file(path).macs) == (None, None)


def test_an_inspection_survives_json(plain: OnnxModel) -> None:
    adapter = TypeAdapter(Inspection)
    seen = inspect_file(plain.file.path)

    assert adapter.validate_json(adapter.dump_json(seen)) == seen


def test_a_broken_file_is_one_line(path: Path) -> None:
    path.write_bytes(b"no model")

    with pytest.raises(GraphError, match="not an ONNX file"):
        inspect_file(path)


def test_layers_that_can_saturate_are_listed(path: Path) -> None:
    text = """g (uint8[N,4] p) => (float[N,2] y) {
        x = DequantizeLinear(p, s, z)
        w = DequantizeLinear(wq, s, wz)
        y = Gemm<transB=1>(x, w)
    }"""
    weights = {
        "wq": np.array([[127, 127, 0, 0], [1, 2, 3, 4]], np.int8),
        "wz": np.array(0, np.int8),
    }
    save_model(graph(text, SCALES | weights), path)

    saturation = inspect_file(path).saturation

    (layer,) = saturation.layers
    assert (layer.name, layer.safe, layer.risky_share, layer.clipped_share) == (
        "n2",
        False,
        1 / 4,
        None,
    )
    assert saturation.images == 0
