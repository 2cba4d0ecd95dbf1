"""A graph whose shapes are folded for one number of images -> a graph for any.

Shapes are fixed first so that all arithmetic on them folds into constants. What is then left of the
number of images stands in the constant shapes of Reshape, where 0 says "as it comes in".
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from exporter.graph.contract import BATCH
from exporter.graph.wiring import Wiring, int_attribute, replace_nodes, static_shapes


def take_any_batch(model: ModelProto, batch: int) -> None:
    """Free the first dimension of the input, the output, and of what is reshaped, in place."""
    wiring, shapes = Wiring.of(model.graph), static_shapes(model)
    for node in model.graph.node:
        target = wiring.values(node.input[1]) if node.op_type == "Reshape" else None
        if target is None or target.size == 0 or int_attribute(node, "allowzero", 0):
            continue
        source = shapes.get(node.input[0], ())
        if source[:1] == (batch,) and target[0] == batch:
            name = f"{node.output[0]}_shape"
            sizes = np.array([0, *target[1:]], np.int64)
            model.graph.initializer.append(numpy_helper.from_array(sizes, name))
            node.input[1] = name
    replace_nodes(model, model.graph.node)
    for info in (*model.graph.input, *model.graph.output):
        dims = info.type.tensor_type.shape.dim
        free: list[int | str] = [BATCH, *(dim.dim_value for dim in dims[1:])]
        info.CopyFrom(
            helper.make_tensor_value_info(info.name, info.type.tensor_type.elem_type, free)
        )
    del model.graph.value_info[:]
