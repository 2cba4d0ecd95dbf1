"""Resize to the size of another tensor -> Resize by constant factors.

torch writes the wanted size as the batch size of the moment, joined with constants for height and
width; once shapes are folded for one batch size, all of it is one constant. Nothing behind such a
Resize has a shape that can be inferred, so that neither its work can be counted nor its operators
be made for one size. Factors say the same without looking at a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from exporter.graph.wiring import Shape, Wiring, int_attribute, replace_nodes, static_shapes

SIZES = 3
"""Place of the wanted sizes among the inputs of a Resize; the factors stand before them."""


def use_constant_factors(model: ModelProto) -> int:
    """Give factors to every Resize whose size is fixed but for the batch; return how many."""
    changed = 0
    while _change_first(model):  # the shapes behind it are known only then
        changed += 1
    if changed:
        replace_nodes(model, model.graph.node)  # without the sizes that nobody reads now
    return changed


def _change_first(model: ModelProto) -> bool:
    shapes = static_shapes(model)
    wiring = Wiring.of(model.graph)
    for node in model.graph.node:
        if node.op_type != "Resize" or len(node.input) <= SIZES:
            continue
        factors = _factors(node, shapes, wiring)
        if factors is None:
            continue
        name = f"{node.output[0]}.factors"
        model.graph.initializer.append(numpy_helper.from_array(factors, name))
        sizes = node.input[SIZES]
        node.input[:] = [*node.input[: SIZES - 1], name]
        _drop_unread(model, sizes)
        return True
    return False


def _factors(
    node: NodeProto, shapes: Mapping[str, Shape], wiring: Wiring
) -> NDArray[np.float32] | None:
    """Return the factor of each dimension; None where they are not constant, or not exact."""
    before, after = shapes.get(node.input[0], ())[1:], _sizes(node.input[SIZES], shapes, wiring)
    known = [size for size in before if size is not None]
    if not known or len(known) < len(before) or len(known) != len(after):
        return None
    factors = np.array(after, np.float32) / np.array(known, np.float32)
    exact = np.floor(np.array(known, np.float32) * factors) == after
    return np.concatenate([np.ones(1, np.float32), factors]) if exact.all() else None


def _sizes(name: str, shapes: Mapping[str, Shape], wiring: Wiring) -> list[int]:
    """Return the sizes behind that of the batch, where the batch's is read and those are fixed.

    Constants that hold the batch size of the moment say those of the others, too.
    """
    values = wiring.values(name)
    if values is not None:
        return [int(size) for size in values[1:]]
    joined = wiring.producer.get(name)
    if joined is None or joined.op_type != "Concat":
        return []
    read = wiring.producer.get(joined.input[0])
    if read is None or read.op_type != "Shape" or int_attribute(read, "start", 0) != 0:
        return []
    whole = shapes.get(read.input[0], ())
    parts = [wiring.values(part) for part in joined.input[1:]]
    constants = [int(size) for part in parts if part is not None for size in part]
    fixed = whole[1 : int_attribute(read, "end", len(whole))]
    known = [size for size in fixed if size is not None]
    if any(part is None for part in parts) or len(known) < len(fixed):
        return []
    return known + constants


def _drop_unread(model: ModelProto, name: str) -> None:
    """Remove what was computed for ``name`` alone."""
    waiting, gone = [name], set()
    while waiting:
        wiring = Wiring.of(model.graph)
        tensor = waiting.pop()
        made = wiring.producer.get(tensor)
        if made is None or tensor in wiring.outputs or wiring.readers.get(tensor):
            continue
        gone.add(tensor)
        waiting += made.input
        replace_nodes(model, [node for node in model.graph.node if node.output[0] not in gone])
