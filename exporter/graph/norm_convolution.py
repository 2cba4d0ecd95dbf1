"""A batch-norm that stands in front of its convolution -> a convolution per channel.

With fixed statistics it is ``y = x * a + b`` with ``a = scale / sqrt(variance + epsilon)`` and
``b = bias - mean * a``: a depthwise convolution with a 1x1 kernel. Behind a convolution it is
folded on export; behind a concatenation or an activation, as in densenet, it cannot be. ONNX
Runtime has an integer kernel for the convolution, with a scale of its own for each channel, and
none for the batch-norm; in float it makes the same replacement itself.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from exporter.graph.wiring import Wiring, replace_nodes, static_shapes


def use_convolution_for_norm(model: ModelProto) -> int:
    """Replace every batch-norm over images whose parameters are constant; return how many."""
    wiring, shapes = Wiring.of(model.graph), static_shapes(model)
    nodes: list[NodeProto] = []
    changed = 0
    for node in model.graph.node:
        shape = shapes.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        values = [wiring.values(name) for name in node.input[1:5]] if shape else []
        if shape is None or len(shape) != 4 or any(value is None for value in values):
            nodes.append(node)
            continue
        scale, bias, mean, variance = (np.asarray(value, np.float64) for value in values)
        epsilon = next((entry.f for entry in node.attribute if entry.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        # Named after the layer, as torch's exporter names the weights of convolutions.
        layer = node.input[1].removesuffix(".weight")
        names = f"{layer}.factor.weight", f"{layer}.factor.bias"
        for name, value in zip(
            names, (factor[:, None, None, None], bias - mean * factor), strict=True
        ):
            model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        nodes.append(
            helper.make_node(
                "Conv",
                [node.input[0], *names],
                node.output[:1],
                node.name,
                kernel_shape=[1, 1],
                group=len(factor),
            )
        )
        changed += 1
    replace_nodes(model, nodes)
    return changed
