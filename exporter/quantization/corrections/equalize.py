"""Cross-layer equalisation: neighbouring layers share out the range of each channel between them.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv 1906.04721), section 4.1. Between two convolutions a channel can be divided by any ``s > 0``
and multiplied by it again, as long as what lies between them lets factors through: ReLU and pools
do. With ``r1`` the largest weight that writes a channel and ``r2`` the largest that reads it,

    s = sqrt(r1 * r2) / r2    (eq. 9)

makes both of them ``sqrt(r1 * r2)``, so that no channel drowns in the scale that another one sets.
Each pair is solved in turn until nothing moves any more.

A Clip with an upper bound (ReLU6) lets no factors through; ``open_clips`` makes ReLUs of them, as
the paper does (section 5.1.1), which is another function wherever an activation reached the bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from exporter.graph.wiring import Wiring, int_attribute, replace_nodes

TOLERANCE = 1e-5
"""Largest change of an output, relative to the largest: float32 sums round differently."""
TRANSPARENT = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool")
"""Operators with ``f(s * x) = s * f(x)`` for every channel and ``s > 0``."""
MOVEMENT = 1e-3
"""Largest change of a factor at which the search ends."""
MAX_ROUNDS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class _Link:
    """Two convolutions with only transparent operators between them; initializers by name."""

    weight: str
    bias: str
    """Empty where the first has none."""
    next_weight: str
    groups: int
    """Of the second."""


def equalize(model: ModelProto) -> ModelProto:
    """Return ``model`` with the ranges of its channels evened out.

    Outputs are the same within ``TOLERANCE``. What is read by several layers is left as it is.

    Args:
        model: a float graph without batch-norms.
    """
    changed = ModelProto()
    changed.CopyFrom(model)
    links = _links(Wiring.of(changed.graph))
    values = {
        tensor.name: numpy_helper.to_array(tensor).astype(np.float64)
        for tensor in changed.graph.initializer
        if any(tensor.name in (link.weight, link.bias, link.next_weight) for link in links)
    }
    for _ in range(MAX_ROUNDS):
        moved = [_even_out(link, values) for link in links]
        if not any(moved):
            break
    for tensor in changed.graph.initializer:
        if tensor.name in values:
            array = values[tensor.name].astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return changed


def open_clips(model: ModelProto) -> ModelProto:
    """Return ``model`` with a Relu for every Clip that starts at 0.

    Its outputs are others where an activation reached the upper bound.
    """
    changed = ModelProto()
    changed.CopyFrom(model)
    wiring = Wiring.of(changed.graph)
    for node in changed.graph.node:
        if node.op_type == "Clip" and _starts_at_zero(node, wiring):
            node.op_type = "Relu"
            del node.input[1:]
            del node.attribute[:]
    replace_nodes(changed, changed.graph.node)
    return changed


def _starts_at_zero(node: NodeProto, wiring: Wiring) -> bool:
    lowest = wiring.values(node.input[1]) if len(node.input) > 1 else None
    return lowest is not None and not lowest.any()


def _links(wiring: Wiring) -> list[_Link]:
    """Return all links, in the order of their second layer."""
    found = []
    convolutions = {
        node.output[0]: node
        for node in wiring.producer.values()
        if node.op_type == "Conv" and _is_private(node.input[1], wiring)
    }
    for second in convolutions.values():
        source = second.input[0]
        while (node := wiring.producer.get(source)) is not None:
            if wiring.only_reader(source) is None:
                break
            if source in convolutions:
                bias = node.input[2] if len(node.input) > 2 else ""
                if not bias or _is_private(bias, wiring):
                    found.append(
                        _Link(
                            weight=node.input[1],
                            bias=bias,
                            next_weight=second.input[1],
                            groups=int_attribute(second, "group", 1),
                        )
                    )
                break
            if node.op_type not in TRANSPARENT:
                break
            source = node.input[0]
    return found


def _is_private(constant: str, wiring: Wiring) -> bool:
    return constant in wiring.constants and wiring.only_reader(constant) is not None


def _even_out(link: _Link, values: dict[str, NDArray[np.float64]]) -> bool:
    """Rescale the channels between two layers; return whether that changed much."""
    first, second = values[link.weight], values[link.next_weight]
    # A view of the second layer's weights with its input channels in one axis:
    # [groups, outputs of a group, channels of a group, taps].
    reading = second.reshape(link.groups, -1, second.shape[1], int(np.prod(second.shape[2:])))
    written = np.abs(first).reshape(len(first), -1).max(axis=1)
    read = np.abs(reading).max(axis=(1, 3)).reshape(-1)
    alive = (written > 0) & (read > 0)
    factors = np.ones_like(written)
    factors[alive] = np.sqrt(written[alive] / read[alive])
    first /= factors.reshape(-1, *[1] * (first.ndim - 1))
    if link.bias:
        values[link.bias] /= factors
    reading *= factors.reshape(link.groups, 1, -1, 1)
    return bool(np.abs(factors - 1).max() > MOVEMENT)
