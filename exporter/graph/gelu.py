"""``x * 0.5 * (1 + erf(x / sqrt(2)))`` -> Gelu.

torch writes the formula where the operator set has no Gelu. ONNX Runtime makes one operator of it
again, but not in a quantized graph: there it has split the conversion of ``x`` in two by then.
"""

from __future__ import annotations

from math import sqrt

from onnx import ModelProto, NodeProto, helper

from exporter.graph.wiring import Wiring, replace_nodes

OPSET = 20
"""The first with Gelu, of 2023; ONNX Runtime knows it from 1.17 on. Only graphs with a Gelu need
it."""
TOLERANCE = 1e-6


def use_gelu(model: ModelProto) -> int:
    """Replace every such formula, and raise the operator set if there is one; return how many."""
    wiring = Wiring.of(model.graph)
    found: dict[str, tuple[str, str]] = {}
    dropped: set[str] = set()
    for node in model.graph.node:
        parts = _formula(node, wiring) if node.op_type == "Erf" else []
        if parts:
            first, last = parts[0], parts[-1]
            found[last.output[0]] = first.input[0], last.name
            dropped |= {part.output[0] for part in parts}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.output[0] in found:
            source, name = found[node.output[0]]
            nodes.append(helper.make_node("Gelu", [source], node.output, name))
        elif node.output[0] not in dropped:
            nodes.append(node)
    if found:
        replace_nodes(model, nodes)
        for entry in model.opset_import:
            if entry.domain == "":
                entry.version = max(entry.version, OPSET)
    return len(found)


def _formula(erf: NodeProto, wiring: Wiring) -> list[NodeProto]:
    """Return the nodes of the formula around ``erf`` in order, or none if it is another one."""
    scaled = wiring.producer.get(erf.input[0])
    if scaled is None or scaled.op_type != "Div" or not _is(wiring, scaled.input[1], sqrt(2)):
        return []
    x = scaled.input[0]
    parts = [scaled, erf]
    factors = []
    for operator in ("Add", "Mul", "Mul"):
        before = parts[-1].output[0]
        reader = wiring.only_reader(before)
        if reader is None or reader.op_type != operator:
            return []
        (other,) = (name for name in reader.input if name != before)
        parts.append(reader)
        factors.append(other)
    one, *halves = factors
    right = x in halves and any(_is(wiring, name, 0.5) for name in halves)
    return parts if right and _is(wiring, one, 1.0) else []


def _is(wiring: Wiring, name: str, number: float) -> bool:
    values = wiring.values(name)
    return values is not None and values.size == 1 and abs(values.item() - number) < TOLERANCE
