"""The layers of a QDQ graph that become integer kernels, with all it takes to compute them by hand.

Such a layer multiplies bytes by signed weights: a Conv, Gemm or MatMul between a DequantizeLinear
of 8-bit activations and one of int8 weights with zero point 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from exporter.graph.wiring import Wiring, int_attribute, ints_attribute
from exporter.quantization.layers import Layer, layer_of

SIGN_BIT = 0x80


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """How a convolution moves over its input; one entry per spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    """Positions added before and after; they hold the zero point."""
    same: str
    """SAME_UPPER or SAME_LOWER where the padding follows from the input's size; else empty."""

    def padding(self, sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Return the positions added before and after each axis of an input of these sizes."""
        if not self.same:
            return self.pads
        found = []
        for size, kernel, stride, dilation in zip(
            sizes, self.kernel, self.strides, self.dilations, strict=True
        ):
            outputs = -(-size // stride)
            total = max(0, (outputs - 1) * stride + dilation * (kernel - 1) + 1 - size)
            less, more = total // 2, total - total // 2
            found.append((less, more) if self.same == "SAME_UPPER" else (more, less))
        return tuple(found)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IntegerLayer:
    """A layer as its kernel sees it: ``sum((a - zero_point) * w) + bias`` in integers."""

    name: str
    operator: str
    activation: str
    """Name of the 8-bit tensor it reads."""
    scale: float
    """What one step of an activation is worth."""
    zero_point: int
    """The byte that stands for 0. Signed activations count from 0 as well: ONNX Runtime moves
    them by 128 on x86."""
    rows: NDArray[np.int8]
    """Weights [outputs, K] in kernel order, see ``layers``."""
    row_scales: NDArray[np.float32]
    """What one step of a weight is worth, [outputs]."""
    bias: NDArray[np.int32]
    """[outputs], in units of ``scale * row_scales``."""
    window: Window | None
    """None for a matrix product."""
    groups: int
    depthwise: bool
    """Whether each channel is convolved alone; such kernels add in 32 bits on every CPU."""

    @property
    def taps(self) -> int:
        """Positions under the kernel; a matrix product has one."""
        return 1 if self.window is None else math.prod(self.window.kernel)


def integer_layers(model: ModelProto) -> list[IntegerLayer]:
    """Return the layers of a QDQ graph that become integer kernels, in graph order."""
    wiring = Wiring.of(model.graph)
    found = (_integer_layer(node, wiring) for node in model.graph.node)
    return [layer for layer in found if layer is not None]


def as_bytes(activations: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return 8-bit activations counted from 0, as kernels on x86 read them."""
    if activations.dtype == np.int8:
        return np.ascontiguousarray(activations).view(np.uint8) ^ np.uint8(SIGN_BIT)
    return activations.astype(np.uint8, copy=False)


def _integer_layer(node: NodeProto, wiring: Wiring) -> IntegerLayer | None:
    layer = layer_of(node, wiring)
    if layer is None or layer.rows.dtype != np.int8:
        return None
    source, weights = (wiring.producer.get(name) for name in node.input[:2])
    if source is None or source.op_type != "DequantizeLinear" or weights is None:
        return None
    scale, zero_point = (wiring.values(name) for name in source.input[1:3])
    row_scales, row_zeros = (wiring.values(name) for name in weights.input[1:3])
    if scale is None or zero_point is None or row_scales is None or row_zeros is None:
        return None
    if scale.size > 1 or row_zeros.any():
        return None
    outputs = len(layer.rows)
    return IntegerLayer(
        name=node.name or node.output[0],
        operator=node.op_type,
        activation=source.input[0],
        scale=float(scale.item()),
        zero_point=int(as_bytes(zero_point).item()),
        rows=layer.rows.astype(np.int8),
        row_scales=np.broadcast_to(row_scales.astype(np.float32).reshape(-1), outputs),
        bias=np.broadcast_to(_bias(node, wiring), outputs),
        window=_window(node, layer, wiring) if node.op_type == "Conv" else None,
        groups=int_attribute(node, "group", 1),
        depthwise=layer.depthwise,
    )


def _bias(node: NodeProto, wiring: Wiring) -> NDArray[np.int32]:
    name = node.input[2] if len(node.input) > 2 else ""
    producer = wiring.producer.get(name)
    values = wiring.values(producer.input[0]) if producer is not None else None
    return np.zeros(1, np.int32) if values is None else values.astype(np.int32).reshape(-1)


def _window(node: NodeProto, layer: Layer, wiring: Wiring) -> Window:
    kernel = tuple(wiring.constants[layer.weight].dims[2:])
    rank = len(kernel)
    pads = ints_attribute(node, "pads") or [0] * 2 * rank
    auto = next((entry.s.decode() for entry in node.attribute if entry.name == "auto_pad"), "")
    return Window(
        kernel=kernel,
        strides=tuple(ints_attribute(node, "strides") or [1] * rank),
        dilations=tuple(ints_attribute(node, "dilations") or [1] * rank),
        pads=tuple(zip(pads[:rank], pads[rank:], strict=True)),
        same=auto if auto.startswith("SAME") else "",
    )
