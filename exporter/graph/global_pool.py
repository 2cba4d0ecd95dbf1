"""Mean over height and width -> GlobalAveragePool.

torch writes ``AdaptiveAvgPool2d(1)`` and ``mean((2, 3))`` as ReduceMean, for which ONNX Runtime has
no integer kernel; it has one for GlobalAveragePool. An AveragePool whose window is the whole image
becomes the same: its integer kernel exists, but ONNX Runtime's quantizer gives its output the scale
of its input, and means of ReLU outputs fill a small part of that range only.
"""

from __future__ import annotations

from onnx import ModelProto, NodeProto, helper

from exporter.graph.wiring import (
    Shape,
    Wiring,
    int_attribute,
    ints_attribute,
    replace_nodes,
    static_shapes,
)


def use_global_average_pool(model: ModelProto) -> int:
    """Replace every mean over the whole image; return how many there were.

    A mean that drops the two dimensions ([N, C]) becomes GlobalAveragePool and Flatten.
    """
    wiring, shapes = Wiring.of(model.graph), static_shapes(model)
    nodes: list[NodeProto] = []
    changed = 0
    for node in model.graph.node:
        shape = shapes.get(node.input[0]) if node.input else None
        if shape is None or len(shape) != 4 or not _is_global_mean(node, shape, wiring):
            nodes.append(node)
            continue
        changed += 1
        keeps_dimensions = node.op_type == "AveragePool" or int_attribute(node, "keepdims", 1)
        pooled = node.output[0] if keeps_dimensions else f"{node.output[0]}_pooled"
        nodes.append(helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], node.name))
        if not keeps_dimensions:
            name = f"{node.name}_flatten"
            nodes.append(helper.make_node("Flatten", [pooled], node.output, name, axis=1))
    replace_nodes(model, nodes)
    return changed


def _is_global_mean(node: NodeProto, shape: Shape, wiring: Wiring) -> bool:
    if node.op_type == "ReduceMean":
        axes = wiring.values(node.input[1]) if len(node.input) > 1 else None
        return axes is not None and sorted(int(axis) % 4 for axis in axes.flat) == [2, 3]
    return (
        node.op_type == "AveragePool"
        and ints_attribute(node, "kernel_shape") == list(shape[2:])
        and not any(ints_attribute(node, "pads"))
    )
