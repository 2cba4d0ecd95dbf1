"""Reshape to [N, rest] -> Flatten.

torch writes ``flatten(1)`` as a Reshape to a constant shape. Flatten says the same without
constants, for any batch.
"""

from __future__ import annotations

from math import prod

from onnx import ModelProto, helper

from exporter.graph.wiring import Shape, replace_nodes, static_shapes


def use_flatten(model: ModelProto) -> int:
    """Replace every Reshape that keeps dimension 0 and joins all others; return how many."""
    shapes = static_shapes(model)
    nodes, changed = [], 0
    for node in model.graph.node:
        if node.op_type == "Reshape" and _flattens(
            shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
        ):
            nodes.append(
                helper.make_node("Flatten", [node.input[0]], node.output, node.name, axis=1)
            )
            changed += 1
        else:
            nodes.append(node)
    replace_nodes(model, nodes)
    return changed


def _flattens(before: Shape, after: Shape) -> bool:
    joined = [size for size in before[1:] if size is not None]
    return len(before) >= 2 and len(joined) == len(before) - 1 and after[1:] == (prod(joined),)
