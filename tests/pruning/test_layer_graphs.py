"""The files that stand for a single layer hold that layer, and it runs as an integer kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from exporter.graph.optimize_file import open_and_write
from exporter.pruning.layer_graphs import INPUT, bare_file, layer_file
from exporter.pruning.layer_shapes import LayerShape

SIDE = (9, 7)
LAYERS = {
    "pad": (LayerShape(kind="pad", inputs=3, outputs=4, size=SIDE, out_size=SIDE), ["Pad"]),
    "conv": (
        LayerShape(
            kind="conv", inputs=16, outputs=32, size=SIDE, out_size=(5, 4), kernel=(3, 3),
            stride=(2, 2), padding=(1, 1),
        ),
        ["QLinearConv"],
    ),
    "depthwise": (
        LayerShape(
            kind="conv", inputs=16, outputs=16, size=SIDE, out_size=(5, 3), kernel=(3, 3),
            dilation=(2, 2), groups=16,
        ),
        ["QLinearConv"],
    ),
    "linear": (
        LayerShape(kind="linear", inputs=40, outputs=10, size=(1, 1), out_size=(1, 1)),
        ["QGemm"],
    ),
    "max-pool": (
        LayerShape(
            kind="max-pool", inputs=16, outputs=16, size=SIDE, out_size=(4, 3), kernel=(2, 2),
            stride=(2, 2),
        ),
        ["NhwcMaxPool"],
    ),
    "max-pool rounded up": (
        LayerShape(
            kind="max-pool", inputs=16, outputs=16, size=SIDE, out_size=(5, 4), kernel=(2, 2),
            stride=(2, 2),
        ),
        ["NhwcMaxPool"],
    ),
    "average-pool": (
        LayerShape(
            kind="average-pool", inputs=16, outputs=16, size=SIDE, out_size=(4, 3), kernel=(2, 2),
            stride=(2, 2),
        ),
        ["QLinearAveragePool"],
    ),
    "global-average-pool": (
        LayerShape(
            kind="global-average-pool", inputs=16, outputs=16, size=SIDE, out_size=(1, 1)
        ),
        ["QLinearGlobalAveragePool"],
    ),
    "add": (
        LayerShape(kind="add", inputs=16, outputs=16, size=SIDE, out_size=SIDE),
        ["QLinearAdd"],
    ),
    "flatten": (
        LayerShape(kind="flatten", inputs=16, outputs=16 * 63, size=SIDE, out_size=(1, 1)),
        ["Transpose", "Flatten"],
    ),
    "multiply": (
        LayerShape(kind="multiply", inputs=16, outputs=16, size=SIDE, out_size=SIDE),
        ["QLinearMul"],
    ),
    "concat": (
        LayerShape(kind="concat", inputs=16, outputs=48, size=SIDE, out_size=SIDE, groups=3),
        ["QLinearConcat"],
    ),
    "shuffle": (
        LayerShape(kind="shuffle", inputs=16, outputs=16, size=SIDE, out_size=SIDE, groups=2),
        ["Reshape", "Transpose", "Reshape", "Transpose", "Flatten"],
    ),
    "silu": (
        LayerShape(kind="silu", inputs=16, outputs=16, size=SIDE, out_size=SIDE),
        ["QLinearSigmoid", "QLinearMul"],
    ),
    "hard-swish": (
        LayerShape(kind="hard-swish", inputs=16, outputs=16, size=SIDE, out_size=SIDE),
        ["DequantizeLinear", "HardSigmoid", "Mul", "QuantizeLinear"],
    ),
    "sigmoid": (
        LayerShape(kind="sigmoid", inputs=16, outputs=16, size=(1, 1), out_size=(1, 1)),
        ["QLinearSigmoid"],
    ),
    "hard-sigmoid": (
        LayerShape(kind="hard-sigmoid", inputs=16, outputs=16, size=(1, 1), out_size=(1, 1)),
        ["DequantizeLinear", "HardSigmoid", "QuantizeLinear"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "per tensor"])
@pytest.mark.parametrize("name", LAYERS)
def test_one_integer_kernel_and_nothing_around_it(
    name: str, per_channel: bool, tmp_path: Path
) -> None:
    layer, kernels = LAYERS[name]
    source, optimized = tmp_path / "layer.onnx", tmp_path / "optimized.onnx"
    source.write_bytes(layer_file(layer, per_channel=per_channel))
    session = open_and_write(str(source), str(optimized))
    assert [node.op_type for node in onnx.load(optimized).graph.node] == [*kernels, "Slice"]
    (element,) = session.run(None, {INPUT: np.full(layer.input_shape, 7, np.uint8)})
    assert element.size == 1


@pytest.mark.parametrize("name", LAYERS)
def test_the_layer_puts_out_what_the_file_without_it_takes(name: str) -> None:
    layer, _ = LAYERS[name]
    model = onnx.load_from_string(layer_file(layer, per_channel=True))
    model.graph.output.append(onnx.ValueInfoProto(name="layer"))
    session = ort.InferenceSession(model.SerializeToString())
    image = np.zeros(layer.input_shape, np.uint8)
    assert session.run(["layer"], {INPUT: image})[0].shape == layer.output_shape
    bare = ort.InferenceSession(bare_file(layer))
    assert bare.run(None, {INPUT: np.zeros(layer.output_shape, np.uint8)})[0].size == 1


def test_scales_are_one_per_channel_or_one_for_all() -> None:
    layer, _ = LAYERS["conv"]
    for per_channel, count in ((True, [32]), (False, [])):
        model = onnx.load_from_string(layer_file(layer, per_channel=per_channel))
        (scale,) = (entry for entry in model.graph.initializer if entry.name == "weight_scale")
        assert list(scale.dims) == count
