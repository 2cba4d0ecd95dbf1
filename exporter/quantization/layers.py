"""The layers whose weights are quantized, in the order in which kernels multiply them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from exporter.graph.wiring import Wiring, int_attribute


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A Conv, Gemm or MatMul with constant weights."""

    name: str
    weight: str
    """Name of the initializer."""
    output_axis: int
    """Axis of the weights that counts the outputs (channels); each has a scale of its own."""
    rows: NDArray[np.generic]
    """Weights as [outputs, K]: one row per output, in the order kernels walk through it.

    For a convolution that is kernel row, kernel column, input channel: ONNX Runtime's integer
    convolutions work channels-last.
    """
    depthwise: bool = False
    """Whether it convolves each channel alone, one filter for each."""


def layers_of(model: ModelProto) -> list[Layer]:
    """Return the layers of a float or a QDQ graph, in graph order."""
    wiring = Wiring.of(model.graph)
    found = (layer_of(node, wiring) for node in model.graph.node)
    return [layer for layer in found if layer is not None]


def layer_of(node: NodeProto, wiring: Wiring) -> Layer | None:
    """Return the layer that ``node`` is; None where it is none, or its weights are no constants."""
    axis = _output_axis(node)
    weight = wiring.weight_behind(node.input[1]) if axis is not None else None
    if axis is None or weight is None or len(weight.dims) < 2:
        return None
    values = numpy_helper.to_array(weight)
    ordered = np.moveaxis(values, 1, -1) if node.op_type == "Conv" else values
    rows = np.moveaxis(ordered, axis, 0).reshape(values.shape[axis], -1)
    alone = (int_attribute(node, "group", 1), 1)
    return Layer(
        name=node.name,
        weight=weight.name,
        output_axis=axis,
        rows=rows,
        depthwise=node.op_type == "Conv" and values.shape[:2] == alone,
    )


def _output_axis(node: NodeProto) -> int | None:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if int_attribute(node, "transB", 0) else 1
    return 1 if node.op_type == "MatMul" else None
