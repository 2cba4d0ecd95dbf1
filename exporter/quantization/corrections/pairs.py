"""The same layer before and after quantization, and the images that both see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from exporter.contract import InputContract
from exporter.graph.normalization import constant_pixel
from exporter.graph.wiring import Wiring
from exporter.quantization.integer_layers import IntegerLayer, integer_layers
from exporter.quantization.layers import layers_of
from exporter.quantization.quantize import QuantizedCore

BATCH = 16
_PLAIN = {"alpha": 1.0, "beta": 1.0}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LayerPair:
    """A layer that became an integer kernel."""

    quantized: IntegerLayer
    weight: str
    """Initializer of its int8 weights; empty where other layers read it, too."""
    bias: str
    """Initializer of its int32 bias; empty where it has none, or others read it."""
    quantized_output: str
    """Tensor that it writes in the quantized graph, before that is rounded."""
    output_axis: int
    """Axis of the stored weights that counts the outputs."""
    shape: tuple[int, ...]
    """Of the stored weights."""
    rows: NDArray[np.float32]
    """Its float weights, in the order of ``quantized.rows``."""
    offset: NDArray[np.float32]
    """Its float bias, [outputs]; zeros where it has none."""
    output: str
    """Tensor that it writes in the float graph."""

    @property
    def steps(self) -> NDArray[np.float32]:
        """What one step of an integer sum, and of the bias, is worth; [outputs]."""
        return np.float32(self.quantized.scale) * self.quantized.row_scales

    def stored(self, rows: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return weights in kernel order, [outputs, K] or by group, as the file has them."""
        if self.quantized.window is None:
            matrix = rows.reshape(self.quantized.rows.shape)
            return matrix.T if self.output_axis else matrix
        outputs, channels, *kernel = self.shape
        return np.moveaxis(rows.reshape(outputs, *kernel, channels), -1, 1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pixels:
    """Images as a core takes them, ``float32 [N, channels, H, W]``, in batches."""

    images: NDArray[np.uint8]
    """[N, H, W, 3]."""
    contract: InputContract
    channels: int
    """Of the core: a fourth one is filled with the contract's constant pixel."""

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield one batch after the other, as often as it is asked to."""
        contract = self.contract
        more = self.channels - contract.channels
        for start in range(0, len(self.images), BATCH):
            planes = np.moveaxis(self.images[start : start + BATCH], -1, 1)
            fill = constant_pixel(contract) if more else 0
            filled = np.pad(planes, ((0, 0), (0, more), (0, 0), (0, 0)), constant_values=fill)
            steps = filled.astype(np.float32) - np.float32(contract.zero_point)
            yield np.ascontiguousarray(steps * np.float32(contract.scale))


def pixels_for(core: QuantizedCore, images: NDArray[np.uint8], contract: InputContract) -> Pixels:
    """Return ``images`` for both forms of ``core``."""
    channels = core.floating.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    return Pixels(images=images, contract=contract, channels=channels)


def layer_pairs(core: QuantizedCore) -> list[LayerPair]:
    """Return the layers that became integer kernels, in graph order.

    Left out are matrix products that are scaled by something else than 1.
    """
    before, after = Wiring.of(core.floating.graph), Wiring.of(core.quantized.graph)
    nodes = {node.name: node for node in core.floating.graph.node}
    floats = {layer.name: layer for layer in layers_of(core.floating)}
    written = {node.name: node for node in core.quantized.graph.node}
    pairs = []
    for layer in integer_layers(core.quantized):
        node, twin = nodes[layer.name], written[layer.name]
        if any(entry.f != _PLAIN.get(entry.name, entry.f) for entry in node.attribute):
            continue
        pairs.append(
            LayerPair(
                quantized=layer,
                weight=_own_constant(twin, 1, after),
                bias=_own_constant(twin, 2, after),
                quantized_output=twin.output[0],
                output_axis=floats[layer.name].output_axis,
                shape=tuple(before.constants[floats[layer.name].weight].dims),
                rows=floats[layer.name].rows.astype(np.float32),
                offset=_offset(node, before, len(layer.rows)),
                output=node.output[0],
            )
        )
    return pairs


def with_constants(model: ModelProto, values: dict[str, NDArray[np.generic]]) -> ModelProto:
    """Return a copy of ``model`` in which the initializers ``values`` hold something else."""
    changed = ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(
                numpy_helper.from_array(np.ascontiguousarray(values[tensor.name]), tensor.name)
            )
    return changed


def _own_constant(node: NodeProto, index: int, wiring: Wiring) -> str:
    """Return the initializer that an input is dequantized from, if no other node needs it."""
    name = node.input[index] if len(node.input) > index else ""
    dequantize = wiring.producer.get(name)
    if dequantize is None or wiring.only_reader(name) is None:
        return ""
    constant = dequantize.input[0]
    return constant if wiring.only_reader(constant) is not None else ""


def _offset(node: NodeProto, wiring: Wiring, outputs: int) -> NDArray[np.float32]:
    values = wiring.values(node.input[2]) if len(node.input) > 2 else None
    found = np.zeros(1, np.float32) if values is None else values.astype(np.float32).reshape(-1)
    return np.broadcast_to(found, outputs)
