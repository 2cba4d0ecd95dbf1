"""A constant factor in a quantized graph -> another scale, for nothing.

``quantize(c * dequantize(q, s), c * s) = q``: where the product of a positive constant is quantized
with the very scale that the factor gives, its bytes are those of the other operand.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto

from exporter.graph.wiring import Wiring, replace_nodes

TOLERANCE = 1e-6
"""Relative difference of two scales that are meant to be equal, both of them float32."""


def absorb_factors(model: ModelProto) -> int:
    """Remove every product by a constant that changes no byte; return how many there were."""
    wiring = Wiring.of(model.graph)
    renamed: dict[str, str] = {}
    dropped: set[str] = set()
    for node in model.graph.node:
        quantize = wiring.only_reader(node.output[0]) if node.op_type == "Mul" else None
        if quantize is None or quantize.op_type != "QuantizeLinear":
            continue
        for data, constant in (node.input, reversed(node.input)):
            source = wiring.producer.get(data)
            factor = _constant(wiring, constant)
            if (
                factor is not None
                and source is not None
                and source.op_type == "DequantizeLinear"
                and _same(wiring, source, quantize, factor)
            ):
                renamed[quantize.output[0]] = source.input[0]
                dropped |= {node.name, quantize.name}
    nodes = [node for node in model.graph.node if node.name not in dropped]
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    used = {name for node in nodes for name in node.input} | wiring.outputs
    # What dequantized the operands for the products alone.
    replace_nodes(
        model,
        [n for n in nodes if n.op_type != "DequantizeLinear" or n.output[0] in used],
    )
    return len(renamed)


def _constant(wiring: Wiring, name: str) -> float | None:
    """Return the number that ``name`` dequantizes to, if it is a single constant one."""
    node = wiring.producer.get(name)
    if node is None or node.op_type != "DequantizeLinear" or len(node.input) < 3:
        return None
    values = [wiring.values(part) for part in node.input]
    if any(value is None or value.size != 1 for value in values):
        return None
    number, scale, zero = (float(np.asarray(value).item()) for value in values)
    return (number - zero) * scale


def _same(wiring: Wiring, before: NodeProto, after: NodeProto, factor: float) -> bool:
    """Return whether ``after`` quantizes ``factor`` times what ``before`` has dequantized to it."""
    scales = [wiring.values(node.input[1]) for node in (before, after)]
    zeros = [wiring.values(node.input[2]) for node in (before, after)]
    if any(value is None or value.size != 1 for value in (*scales, *zeros)):
        return False
    old, new = (float(np.asarray(value).item()) for value in scales)
    return factor > 0 and zeros[0] == zeros[1] and abs(factor * old - new) <= TOLERANCE * new
