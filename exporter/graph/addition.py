"""Sum of any number of tensors -> additions of two, for which there are integer kernels."""

from __future__ import annotations

from onnx import ModelProto, NodeProto, helper

from exporter.graph.wiring import replace_nodes


def use_addition_for_sum(model: ModelProto) -> int:
    """Replace every Sum; return how many there were."""
    nodes: list[NodeProto] = []
    changed = 0
    for node in model.graph.node:
        if node.op_type != "Sum" or len(node.input) < 2:
            nodes.append(node)
            continue
        changed += 1
        output = node.output[0]
        first, *others = node.input
        for place, other in enumerate(others, start=1):
            result = output if place == len(others) else f"{output}_sum_{place}"
            nodes.append(helper.make_node("Add", [first, other], [result]))
            first = result
    replace_nodes(model, nodes)
    return changed
