"""HardSigmoid -> addition, clip and a constant factor, for which there are integer kernels.

``clip(a * x + b, 0, 1) = a * clip(x + b / a, 0, 1 / a)``

ONNX Runtime has no integer kernel for HardSigmoid, nor for HardSwish, which is ``x`` times it. In a
quantized graph the clip is part of the range of the sum and the factor part of its scale
(``scale_factor``), so that one QLinearAdd is left. In a float graph it would only cost time: this
is for a graph that is about to be quantized.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper

from exporter.graph.wiring import replace_nodes


def use_addition_for_hard_sigmoid(model: ModelProto) -> dict[str, tuple[float, float]]:
    """Replace every HardSigmoid; return the exact ranges of all tensors behind its addition.

    Types of tensors must have been inferred; the new ones get theirs.
    """
    types = {info.name: info for info in model.graph.value_info}
    ranges: dict[str, tuple[float, float]] = {}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        slope = _attribute(node, "alpha", 0.2)
        if node.op_type != "HardSigmoid" or node.output[0] not in types or slope <= 0:
            nodes.append(node)
            continue
        output, limit = node.output[0], 1 / slope
        sums, clipped = f"{output}.sum", f"{output}.clip"
        constants = {
            f"{output}.shift": _attribute(node, "beta", 0.5) / slope,
            f"{output}.low": 0.0,
            f"{output}.high": limit,
            f"{output}.factor": slope,
        }
        shift, low, high, factor = constants
        model.graph.initializer.extend(
            numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in constants.items()
        )
        nodes += [
            helper.make_node("Add", [node.input[0], shift], [sums], node.name),
            helper.make_node("Clip", [sums, low, high], [clipped], f"{node.name}.clip"),
            helper.make_node("Mul", [clipped, factor], [output], f"{node.name}.factor"),
        ]
        for name in (sums, clipped):
            info = ValueInfoProto.FromString(types[output].SerializeToString())
            info.name = name
            model.graph.value_info.append(info)
            ranges[name] = (0.0, limit)
        ranges[output] = (0.0, 1.0)
    replace_nodes(model, nodes)
    return ranges


def _attribute(node: NodeProto, name: str, default: float) -> float:
    return next((entry.f for entry in node.attribute if entry.name == name), default)
