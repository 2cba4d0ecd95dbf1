"""A batch-norm over rows of numbers -> a product and a sum.

``y = x * a + b`` with ``a = scale / sqrt(variance + epsilon)``, ``b = bias - mean * a``. Behind a
convolution or a Gemm it is folded away; over images ``norm_convolution`` does better.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from exporter.graph.wiring import Wiring, replace_nodes, static_shapes


def use_product_for_norm(model: ModelProto) -> int:
    """Replace every batch-norm over ``[N, C]`` whose parameters are constant; return how many."""
    wiring, shapes = Wiring.of(model.graph), static_shapes(model)
    nodes: list[NodeProto] = []
    changed = 0
    for node in model.graph.node:
        is_norm = node.op_type == "BatchNormalization"
        values = [wiring.values(name) for name in node.input[1:5]] if is_norm else []
        if len(shapes.get(node.input[0], ()) if is_norm else ()) != 2 or any(
            value is None for value in values
        ):
            nodes.append(node)
            continue
        scale, bias, mean, variance = (np.asarray(value, np.float64) for value in values)
        epsilon = next((entry.f for entry in node.attribute if entry.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        output = node.output[0]
        names = f"{output}_factor", f"{output}_shift"
        model.graph.initializer.extend(
            numpy_helper.from_array(value.astype(np.float32), name)
            for name, value in zip(names, (factor, bias - mean * factor), strict=True)
        )
        nodes += [
            helper.make_node("Mul", [node.input[0], names[0]], [f"{output}_scaled"]),
            helper.make_node("Add", [f"{output}_scaled", names[1]], [output]),
        ]
        changed += 1
    replace_nodes(model, nodes)
    return changed
