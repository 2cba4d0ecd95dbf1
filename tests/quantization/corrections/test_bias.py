from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from exporter.quantization.corrections.bias import correct_bias
from exporter.quantization.corrections.pairs import Pixels, layer_pairs, with_constants
from exporter.quantization.quantize import QuantizedCore


def literal_means(
    model: ModelProto, tensors: list[str], pixels: Pixels
) -> list[NDArray[np.float64]]:
    """Mean per channel of tensors of a graph that is taken literally, all images at once."""
    shown = ModelProto()
    shown.CopyFrom(model)
    for name in tensors:
        if name not in {output.name for output in shown.graph.output}:
            shown.graph.output.append(onnx.ValueInfoProto(name=name))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = session.run(tensors, {"normalized": np.concatenate(list(pixels))})
    return [np.moveaxis(v, 1, 0).reshape(v.shape[1], -1).astype(np.float64).mean(1) for v in values]


def shifts(core: QuantizedCore, pixels: Pixels) -> list[NDArray[np.float64]]:
    """By how many steps of its bias each layer's mean output lies off, per channel."""
    found = layer_pairs(core)
    before = literal_means(core.floating, [pair.output for pair in found], pixels)
    after = literal_means(core.quantized, [pair.quantized_output for pair in found], pixels)
    return [(a - b) / pair.steps for pair, a, b in zip(found, after, before, strict=True)]


def test_every_layers_mean_output_is_the_float_networks(
    core: QuantizedCore, pixels: Pixels
) -> None:
    # A bias that is off by far, which must not reach the layers behind it.
    wrong = layer_pairs(core)[0]
    bias = (wrong.quantized.bias + 2000).astype(np.int32)
    off = QuantizedCore(
        floating=core.floating,
        quantized=with_constants(core.quantized, {wrong.bias: bias}),
        seven_bit_layers=core.seven_bit_layers,
        tools={},
    )
    assert [float(np.abs(shift).max()) > 20 for shift in shifts(off, pixels)] == [True] * 4

    corrected = correct_bias(off, pixels)

    for shift in shifts(corrected, pixels):
        assert np.abs(shift).max() < 1.0  # half a step, and float32's own rounding


def test_nothing_but_biases_changes(core: QuantizedCore, pixels: Pixels) -> None:
    before = core.quantized.SerializeToString(deterministic=True)

    corrected = correct_bias(core, pixels)

    biases = {pair.bias for pair in layer_pairs(core)}
    old, new = (
        {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        for model in (core.quantized, corrected.quantized)
    )
    changed = {name for name in old if not np.array_equal(old[name], new[name])}
    assert changed
    assert changed <= biases
    assert all(new[name].dtype == np.int32 for name in biases)
    assert core.quantized.SerializeToString(deterministic=True) == before
