"""What a network does to an image before anything else: normalisation and order of dimensions.

Many files normalise their pixels themselves, by Sub, Div, Mul, Add or a batch-norm with constants,
and put channels first by a Transpose. As long as that is one positive factor and one offset per
channel, ``y = gain * x + offset``, it is the same kind of thing as the normalisation that the
contract states, and becomes part of it: integer kernels then start at the first convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from exporter.errors import GraphError
from exporter.graph.normalization import NORMALIZED
from exporter.graph.wiring import Wiring, int_attribute, ints_attribute, replace_nodes
from exporter.intake.image_input import ImageInput

PLANES = "NCHW"
Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstOperators:
    """``gain * x + offset`` per channel, as far as a network begins with that."""

    gain: Vector
    offset: Vector
    """Both ``float64 [C]``."""
    operators: tuple[str, ...]
    """Types of the nodes, in order."""


def take_first_operators(model: ModelProto, image: ImageInput, batch: int) -> FirstOperators:
    """Remove what ``model`` begins with as far as it is of that kind, in place; return it.

    The network then starts with ``normalized``, ``float32 [batch, C, H, W]``.

    Raises:
        GraphError: worded to follow the file's name: it computes with whole numbers.
    """
    wiring = Wiring.of(model.graph)
    gain, offset = np.ones(image.channels), np.zeros(image.channels)
    name, order = image.name, str(image.layout)
    is_float = model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    taken: list[NodeProto] = []
    while (node := wiring.only_reader(name)) is not None:
        if node.op_type == "Transpose" and ints_attribute(node, "perm"):
            order = "".join(order[axis] for axis in ints_attribute(node, "perm"))
        elif node.op_type == "Cast":
            if int_attribute(node, "to", 0) != TensorProto.FLOAT:
                break
            is_float = True
        elif node.op_type != "Identity":
            found = _affine(node, name, wiring, order, image.channels) if is_float else None
            if found is None:
                break
            gain, offset = found[0] * gain, found[0] * offset + found[1]
        taken.append(node)
        name = node.output[0]
    if not is_float:
        raise GraphError(
            f"takes whole numbers in {image.name!r} and does not start by casting them to float32."
        )
    _start_at(model, name, order, image, batch, taken)
    return FirstOperators(gain=gain, offset=offset, operators=tuple(node.op_type for node in taken))


def _affine(
    node: NodeProto, data: str, wiring: Wiring, order: str, channels: int
) -> tuple[Vector, Vector] | None:
    """Return gain and offset of a node that reads ``data``, None if it is of another kind."""
    if node.op_type == "BatchNormalization":
        return _batch_norm(node, wiring, order)
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or node.input[0] == node.input[1]:
        return None
    is_first = node.input[0] == data
    constant = wiring.values(node.input[1 if is_first else 0])
    vector = None if constant is None else _per_channel(constant, order, channels)
    if vector is None or not (is_first or node.op_type in ("Add", "Mul")):
        return None
    ones, zeros = np.ones(channels), np.zeros(channels)
    if node.op_type in ("Add", "Sub"):
        return ones, (vector if node.op_type == "Add" else -vector)
    if not (np.isfinite(vector) & (vector > 0)).all():
        return None
    return (vector if node.op_type == "Mul" else 1 / vector), zeros


def _batch_norm(node: NodeProto, wiring: Wiring, order: str) -> tuple[Vector, Vector] | None:
    values = [wiring.values(name) for name in node.input[1:5]]
    if order[1] != "C" or any(value is None for value in values):
        return None
    scale, bias, mean, variance = (np.asarray(value, np.float64) for value in values)
    epsilon = next((entry.f for entry in node.attribute if entry.name == "epsilon"), 1e-5)
    gain = scale / np.sqrt(variance + epsilon)
    return (gain, bias - mean * gain) if (gain > 0).all() else None


def _per_channel(constant: NDArray[np.generic], order: str, channels: int) -> Vector | None:
    """Return ``[C]`` values of what is broadcast over an image, None where pixels differ."""
    shape = (1,) * (4 - constant.ndim) + constant.shape
    if constant.ndim > 4 or any(
        size != 1 and axis != "C" for size, axis in zip(shape, order, strict=True)
    ):
        return None
    return np.broadcast_to(np.asarray(constant, np.float64).reshape(-1), (channels,)).copy()


def _start_at(
    model: ModelProto,
    name: str,
    order: str,
    image: ImageInput,
    batch: int,
    taken: list[NodeProto],
) -> None:
    """Feed ``normalized`` to whoever reads the tensor ``name``, whose dimensions are ``order``."""
    gone = {node.output[0] for node in taken}
    network = [node for node in model.graph.node if node.output[0] not in gone]
    first: list[NodeProto] = []
    start = NORMALIZED
    if order != PLANES:
        start = f"{NORMALIZED}_{order}"
        perm = [PLANES.index(axis) for axis in order]
        first.append(helper.make_node("Transpose", [NORMALIZED], [start], perm=perm))
    for node in network:
        node.input[:] = [start if entry == name else entry for entry in node.input]
    replace_nodes(model, [*first, *network])
    shape = [batch, image.channels, image.height, image.width]
    del model.graph.input[:]
    model.graph.input.extend([helper.make_tensor_value_info(NORMALIZED, TensorProto.FLOAT, shape)])
    del model.graph.value_info[:]
