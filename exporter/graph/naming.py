"""Names that a person can read and that do not change from one export to the next.

A node with weights is called after its layer (``blocks.0.conv1``), any other after its operator and
rank (``relu_0``). Its weights are ``<layer>.weight`` and ``<layer>.bias``, its output has its own
name. Only the network's two ends keep the names of the contract.
"""

from __future__ import annotations

from onnx import ModelProto, NodeProto

from exporter.contract import INPUT_NAME, OUTPUT_NAME
from exporter.graph.contract import INPUT_SIDE

WEIGHTED = ("Conv", "Gemm", "MatMul")
_RESERVED = (INPUT_NAME, *INPUT_SIDE, OUTPUT_NAME)
_WEIGHT = ".weight"


def name_after_layers(model: ModelProto) -> None:
    """Rename all nodes, tensors and initializers of a float core; what it computes is the same."""
    graph = model.graph
    tensors = {info.name: info.name for info in (*graph.input, *graph.output)}
    initializers = {tensor.name for tensor in graph.initializer}
    taken = {*_RESERVED, *tensors}
    ranks: dict[str, int] = {}
    for node in graph.node:
        node.name = _free(_layer_of(node, initializers) or _ranked(node.op_type, ranks), taken)
        roles = ("", "weight", "bias") if node.op_type in WEIGHTED else ()
        for index, name in enumerate(node.input):
            if name in initializers and name not in tensors:
                role = roles[index] if index < len(roles) else ""
                wanted = f"{node.name}.{role or f'constant_{index}'}"
                tensors[name] = _free(wanted, taken)
        for index, name in enumerate(node.output):
            if name and name not in tensors:
                # The first output shares the node's name; nodes and tensors are named apart.
                tensors[name] = node.name if index == 0 else _free(f"{node.name}.{index}", taken)
    for node in graph.node:
        node.input[:] = [tensors[name] if name else "" for name in node.input]
        node.output[:] = [tensors[name] if name else "" for name in node.output]
    for tensor in graph.initializer:
        tensor.name = tensors[tensor.name]


def _layer_of(node: NodeProto, initializers: set[str]) -> str:
    """Return the module path that torch's exporter keeps in the name of the weight, or ""."""
    if node.op_type not in WEIGHTED or len(node.input) < 2 or node.input[1] not in initializers:
        return ""
    name = node.input[1]
    return name.removesuffix(_WEIGHT) if name.endswith(_WEIGHT) else ""


def _ranked(op_type: str, ranks: dict[str, int]) -> str:
    key = op_type.lower()
    rank = ranks.get(key, 0)
    ranks[key] = rank + 1
    return f"{key}_{rank}"


def _free(wanted: str, taken: set[str]) -> str:
    name, copy = wanted, 2
    while name in taken:
        name, copy = f"{wanted}_{copy}", copy + 1
    taken.add(name)
    return name
