"""Layers that stay in float inside a quantized graph, whatever ONNX Runtime loads it.

Not quantizing a layer is not enough. Between a DequantizeLinear and a QuantizeLinear, the runtime's
own optimizer takes it for one that somebody forgot: when a session loads, it rounds the float
weights of a Conv or Gemm to 8 bits, with one scale for all of them
(core/optimizer/qdq_transformer/weight_bias_quantization.cc). That is worse than what the quantizer
would have made of them, and before 1.22 no QuantizeLinear had to follow.

In every version, that pass wants an input which was dequantized with a single scale. A float layer
therefore reads its activations through a DequantizeLinear of its own that has a scale per channel,
all of them the same number: the floats are the same to the bit, and no pass of the runtime sees a
pattern that it knows.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from exporter.contract import InputContract
from exporter.errors import GraphError
from exporter.graph.normalization import NORMALIZED
from exporter.graph.wiring import Shape, Wiring, replace_nodes, static_shapes
from exporter.quantization.layers import layers_of

PIXELS = "normalized_bytes"
"""The pixels, quantized for float layers alone."""
PIXEL_SCALE = "normalized_bytes_scale"
PIXEL_ZERO_POINT = "normalized_bytes_zero_point"


def check_names(core: ModelProto, names: Collection[str]) -> None:
    """Raise GraphError if one of ``names`` is no layer of the float graph ``core``."""
    known = [layer.name for layer in layers_of(core)]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise GraphError(
            f"There is no layer {unknown[0]!r} to leave in float. The layers with weights are "
            f"{', '.join(known)}."
        )


def separate_weights(core: ModelProto, names: Collection[str]) -> None:
    """Copy weights that float layers share with others: the quantizer rounds them for all."""
    wiring = Wiring.of(core.graph)
    for node in core.graph.node:
        if node.name not in names:
            continue
        weight = node.input[1]
        if any(reader.name not in names for reader in wiring.readers[weight]):
            values = numpy_helper.to_array(wiring.constants[weight])
            node.input[1] = f"{node.name}_float_{weight}"
            core.graph.initializer.append(numpy_helper.from_array(values, node.input[1]))


def keep_float(
    quantized: ModelProto, core: ModelProto, names: Collection[str], contract: InputContract
) -> None:
    """Let the float layers of a quantized core read what no optimizer takes for quantized input.

    Args:
        quantized: ``core`` after quantization, changed in place; ``names`` were left out.
        core: the float graph, which knows the shapes.
        names: the layers that stay in float.
        contract: says how the pixels are quantized, for a layer that reads them.

    Raises:
        GraphError: the shape of a layer's input is not known.
    """
    wiring, shapes = Wiring.of(quantized.graph), static_shapes(core)
    read = {node.name: node.input[0] for node in core.graph.node if node.name in names}
    nodes: list[NodeProto] = []
    if any(node.name in names for node in wiring.readers.get(NORMALIZED, [])):
        nodes.append(_quantize_pixels(quantized, contract))
    for node in quantized.graph.node:
        if node.name in names:
            source = nodes[0] if node.input[0] == NORMALIZED else wiring.producer[node.input[0]]
            if source.op_type in ("DequantizeLinear", "QuantizeLinear"):
                nodes.append(_dequantize(quantized, node, source, shapes.get(read[node.name], ())))
                node.input[0] = nodes[-1].output[0]
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    replace_nodes(
        quantized, [n for n in nodes if n.op_type != "DequantizeLinear" or n.output[0] in used]
    )


def _quantize_pixels(model: ModelProto, contract: InputContract) -> NodeProto:
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(contract.scale, np.float32), PIXEL_SCALE),
            numpy_helper.from_array(np.array(contract.zero_point, np.uint8), PIXEL_ZERO_POINT),
        ]
    )
    inputs = [NORMALIZED, PIXEL_SCALE, PIXEL_ZERO_POINT]
    return helper.make_node("QuantizeLinear", inputs, [PIXELS], PIXELS)


def _dequantize(model: ModelProto, layer: NodeProto, source: NodeProto, shape: Shape) -> NodeProto:
    """Return a DequantizeLinear for ``layer`` alone, with the parameters of ``source`` repeated."""
    axis = next((axis for axis, size in enumerate(shape) if axis and size and size > 1), None)
    if axis is None:
        raise GraphError(
            f"{layer.name} cannot stay in float: it is not known how many values it reads."
        )
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    inputs = [source.output[0] if source.op_type == "QuantizeLinear" else source.input[0]]
    for constant, kind in zip(source.input[1:3], ("scale", "zero_point"), strict=True):
        value = numpy_helper.to_array(constants[constant]).reshape(())
        inputs.append(f"{layer.name}_input_{kind}")
        repeated = np.full(shape[axis] or 0, value)
        model.graph.initializer.append(numpy_helper.from_array(repeated, inputs[-1]))
    name = f"{layer.name}_input"
    return helper.make_node("DequantizeLinear", inputs, [name], name, axis=axis)
