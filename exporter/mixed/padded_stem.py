"""A stem that reads four planes in place of three, the fourth of them with weights of 0.

ONNX Runtime's symmetric integer convolution wants input channels in multiples of 4
(``MlasConvSymPackWSize``, onnxruntime/core/mlas/lib/convsym.cpp); with three it falls back to
copying patches and multiplying matrices. Filling a fourth plane takes a pass over the image, which
pays where the stem has many outputs, and not where it has few. The outputs are the same to the bit.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from exporter.artifacts import Artifact
from exporter.errors import GraphError
from exporter.graph.canonical import save_model
from exporter.graph.checks import check_shippable
from exporter.graph.contract import NCHW, pad_image
from exporter.graph.count import count_macs, count_parameters
from exporter.graph.limits import read_model
from exporter.graph.metadata import describe_quantization
from exporter.graph.wiring import Wiring, int_attribute
from exporter.quantization.coverage import measure_coverage
from exporter.quantization.quantize import QuantizedModel
from exporter.quantization.saturation import saturating_layers
from exporter.targets import Target

VERSION = 1

CHANNELS = 4
"""What the kernel wants a multiple of."""


def pad_stem(out: Path, target: Target, model: QuantizedModel) -> QuantizedModel:
    """Write ``model.onnx``, the same network with a fourth plane beside the pixels' three.

    Args:
        out: folder of the result.
        target: says whether a layer may saturate: the neighbours of a weight become others.
        model: an int8 model whose first convolution is an integer kernel.

    Raises:
        GraphError: other operators than one convolution read the pixels, or it has not three
            inputs, or its weights would need seven bits now and have eight.
    """
    graph = read_model(model.file.checked())
    stem = stem_of(graph)
    if stem is None:
        raise GraphError("The pixels are not read by one integer convolution with 3 inputs.")
    _widen(graph, stem)
    pad_image(graph, model.contract, CHANNELS)
    if target.seven_bit_weights == "where-needed" and stem in saturating_layers(graph):
        raise GraphError(f"With a fourth plane, {stem} could saturate on CPUs without VNNI.")
    describe_quantization(graph, {"padded_stem": stem})
    path = out / "model.onnx"
    save_model(graph, path)
    shipped = read_model(path)
    check_shippable(shipped, model.contract)
    return dataclasses.replace(
        model,
        file=Artifact.of(path),
        coverage=measure_coverage(path, model.contract, model.float_layers),
        parameters=count_parameters(shipped),
        macs=count_macs(shipped),
    )


def stem_of(model: ModelProto) -> str | None:
    """Return the one convolution that reads three planes of raw pixels as integers, if there is."""
    found = _stem(Wiring.of(model.graph))
    return None if found is None else found[0].name


def _stem(wiring: Wiring) -> tuple[NodeProto, TensorProto] | None:
    """Return the stem and its weights, which nothing else reads."""
    dequantize = wiring.only_reader(NCHW)
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    node = wiring.only_reader(dequantize.output[0])
    if node is None or node.op_type != "Conv" or int_attribute(node, "group", 1) != 1:
        return None
    weight = wiring.weight_behind(node.input[1])
    if weight is None or weight.data_type != TensorProto.INT8 or weight.dims[1] != CHANNELS - 1:
        return None
    return (node, weight) if len(wiring.readers[weight.name]) == 1 else None


def _widen(model: ModelProto, stem: str) -> None:
    """Give every kernel of the stem a fourth plane of zeros."""
    found = _stem(Wiring.of(model.graph))
    assert found is not None, stem
    _, weight = found
    values = numpy_helper.to_array(weight)
    wider = np.concatenate([values, np.zeros_like(values[:, :1])], axis=1)
    weight.CopyFrom(numpy_helper.from_array(wider, weight.name))
