"""How large a network is: parameters, and multiply-accumulates for one image.

Counted are Conv, Gemm and MatMul with constant weights, in float or quantized (QDQ) files alike;
a multiplication by a second activation counts as work, not as parameters. Pools, additions and
activations are below a per cent of a convolutional network's work and left out, as is the custom.
"""

from __future__ import annotations

from math import prod

from onnx import ModelProto, NodeProto

from exporter.errors import GraphError
from exporter.graph.wiring import Shape, Wiring, static_shapes

COUNTED = ("Conv", "Gemm", "MatMul")


def count_parameters(model: ModelProto) -> int:
    """Return the number of weights and biases; shared ones count once."""
    wiring = Wiring.of(model.graph)
    sizes: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type in COUNTED:
            for name in node.input:
                tensor = wiring.weight_behind(name)
                if tensor is not None:
                    sizes[tensor.name] = prod(tensor.dims)
    return sum(sizes.values())


def count_macs(model: ModelProto) -> int:
    """Return the multiply-accumulates of one image.

    Every output element of a layer costs as many as the layer has inputs to it: ``Cin / groups *
    kernel height * kernel width`` for a convolution, the row length for a matrix.

    Raises:
        GraphError: a layer's size depends on the input and cannot be told in advance.
    """
    shapes = static_shapes(model)
    return sum(_layer_macs(node, shapes) for node in model.graph.node if node.op_type in COUNTED)


def macs_by_layer(model: ModelProto) -> dict[str, int]:
    """Return the multiply-accumulates of one image by name of the node; see ``count_macs``."""
    shapes = static_shapes(model)
    nodes = (node for node in model.graph.node if node.op_type in COUNTED)
    return {node.name: _layer_macs(node, shapes) for node in nodes}


def _layer_macs(node: NodeProto, shapes: dict[str, Shape]) -> int:
    output, weight = shapes.get(node.output[0]), shapes.get(node.input[1])
    if node.op_type == "Conv":
        per_element = weight and weight[1:]
    else:
        data = shapes.get(node.input[0])
        per_element = data and data[-1:]
    # Dimension 0 is the batch.
    sizes = (*output[1:], *per_element) if output and per_element else (None,)
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        raise GraphError(
            f"The size of {node.op_type} {node.name!r} is not fixed, so its work can't be counted. "
            "Export the model for one image size."
        )
    return prod(known)
