"""Subtraction and division by constants -> addition and multiplication.

``x - c = x + (-c)`` and ``x / c = x * (1 / c)``: ONNX Runtime has integer kernels for the latter of
each. Exact for the first, and within float32's rounding for the second.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from exporter.graph.wiring import Wiring, replace_nodes

REPLACED = {"Sub": "Add", "Div": "Mul"}


def use_addition_and_product(model: ModelProto) -> int:
    """Replace every float Sub and Div with a constant second operand; return how many."""
    wiring = Wiring.of(model.graph)
    changed = 0
    for node in model.graph.node:
        constant = wiring.constants.get(node.input[1]) if node.op_type in REPLACED else None
        if constant is None or constant.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(constant)
        if node.op_type == "Div" and not values.all():
            continue
        opposite = -values if node.op_type == "Sub" else np.float32(1) / values
        name = f"{node.output[0]}_operand"
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(opposite), name))
        node.op_type, node.input[1] = REPLACED[node.op_type], name
        changed += 1
    replace_nodes(model, model.graph.node)
    return changed
