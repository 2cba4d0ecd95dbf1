"""An int8 file as a torch network that computes in float what the file computes, and can learn.

The graph is that of the quantized file, so that values are rounded where ONNX Runtime rounds them.
Behind the 8-bit weights stand the float ones that they were rounded from: gradients go there, and
every step rounds them anew. The scales of activations are learned along with them; zero points stay
what they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from torch import Tensor, nn

from exporter.contract import InputContract
from exporter.graph.contract import NCHW, PADDED
from exporter.graph.normalization import constant_pixel
from exporter.graph.wiring import Wiring, int_attribute
from exporter.quantization.aware.operators import operator_of
from exporter.quantization.aware.rounding import (
    dequantize,
    quantize,
    round_to,
    weight_scale,
)

SUFFIX = "_quantized"
"""What ONNX Runtime's quantizer puts behind the name of an initializer that it has rounded."""
LIMITS: dict[int, tuple[int, int]] = {TensorProto.UINT8: (0, 255), TensorProto.INT8: (-128, 127)}
NARROW, WIDE = 64, 127
PACE = 10.0
"""Scales may change by so much more in a step than weights do: they are few, and ranges that were
chosen badly are off by a factor."""
TOLERANCE = 1e-4
"""Relative difference up to which two scales are the same."""
ROUNDING = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, slots=True)
class Weight:
    """A float tensor behind a rounded one."""

    key: str
    """Of the parameter."""
    axis: int
    """Counts output channels."""
    largest: int
    """What a channel's largest |weight| becomes."""


@dataclass(frozen=True, slots=True)
class Bias:
    """A float bias behind one that is stored in multiples of input scale times weight scale."""

    key: str
    """Of the parameter."""
    input_scale: str
    """Name of the scale of what the layer reads."""
    weight: str
    """Name of the rounded weight."""
    weight_scale: str
    """Name of its scale in the file, which holds where the weight does not learn."""


@dataclass(frozen=True, slots=True)
class Activation:
    """How a tensor is rounded."""

    key: str
    """Of the parameter whose ``PACE``-fold is the logarithm of the scale: a step of the optimizer
    then changes a scale by a share of itself, and none becomes negative. Empty where the scale does
    not learn."""
    zero_point: int
    low: int
    high: int


class Simulation(nn.Module):
    """From normalised pixels ``[N, C, H, W]`` to logits, rounded as the int8 file rounds.

    All of it is data, no closure: averages of weights are made of copies.
    """

    def __init__(
        self,
        int8: ModelProto,
        floating: ModelProto,
        contract: InputContract,
        *,
        seven_bit: frozenset[str] = frozenset(),
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """Take apart ``int8``, which was made from ``floating``.

        Args:
            int8: the quantized file.
            floating: the float file, whose weights and biases are the ones that learn.
            contract: the input side of both.
            seven_bit: layers of the int8 file whose weights are kept in [-64, 64].
            ranges: what the scales in the file were made from, by tensor; those of other tensors
                follow from the graph and don't learn. None: all do.

        Raises:
            GraphError: the graph has an operator that has no counterpart in ``operators``.
        """
        super().__init__()
        wiring = Wiring.of(int8.graph)
        self._contract = contract
        self._padded = PADDED in wiring.producer
        self._steps = [
            (node, None if node.op_type in ROUNDING else operator_of(node))
            for node in int8.graph.node
            if not {NCHW, PADDED} & set(node.output)
        ]
        self._output = int8.graph.output[0].name
        self._constants: dict[str, str] = {}
        self._activations: dict[str, Activation] = {}
        self._weights: dict[str, Weight] = {}
        self._biases: dict[str, Bias] = {}
        self._rounded: dict[str, str] = {}
        for name in wiring.constants:
            self._constants[name] = key = f"constant_{len(self._constants)}"
            values = np.array(wiring.values(name))
            self.register_buffer(key, torch.from_numpy(values), persistent=False)
        sources = {tensor.name: tensor for tensor in floating.graph.initializer}
        for node, _ in self._steps:
            if node.op_type == "QuantizeLinear":
                self._learn_scale(node, wiring, ranges)
            elif node.op_type in ("Conv", "Gemm", "MatMul"):
                largest = NARROW if node.name in seven_bit else WIDE
                self._learn_layer(node, wiring, sources, largest)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map normalised pixels to logits ``[N, classes]``."""
        values: dict[str, Tensor] = {NCHW: self._bytes(pixels)}
        for node, compute in self._steps:
            if compute is None:
                rounds = self._quantize if node.op_type == "QuantizeLinear" else self._dequantize
                values[node.output[0]] = rounds(node, values)
            else:
                outputs = compute([self._value(n, values) if n else None for n in node.input])
                # Where convolutions are computed in bf16 to train faster, rounding still is not.
                exact = [o.float() if o.dtype == torch.bfloat16 else o for o in outputs]
                values.update(zip(node.output, exact, strict=True))
        return values[self._output]

    def learned_weights(self) -> Mapping[str, NDArray[np.float32]]:
        """Return the float weights and biases by their names in the float file."""
        learned: dict[str, Weight | Bias] = {**self._weights, **self._biases}
        return {
            name.removesuffix(SUFFIX): self.get_parameter(entry.key).detach().cpu().numpy()
            for name, entry in learned.items()
        }

    def learned_ranges(self) -> Mapping[str, tuple[float, float]]:
        """Return what each learned scale can represent, by the name of the rounded tensor."""
        found = {}
        for tensor, scale in self._rounded.items():
            how = self._activations[scale]
            step = float((PACE * self.get_parameter(how.key).detach().double()).exp())
            found[tensor] = ((how.low - how.zero_point) * step, (how.high - how.zero_point) * step)
        return found

    def _learn_scale(
        self, node: NodeProto, wiring: Wiring, ranges: Mapping[str, tuple[float, float]] | None
    ) -> None:
        tensor, scale, zero_point = node.input
        low, high = LIMITS[wiring.constants[zero_point].data_type]
        learns = ranges is None or (
            tensor in ranges and _gives(ranges[tensor], float(self._constant(scale)), high - low)
        )
        if scale not in self._activations:
            key = f"scale_{len(self._activations)}" if learns else ""
            if learns:
                start = (self._constant(scale).double().log() / PACE).float()
                self.register_parameter(key, nn.Parameter(start))
            zero = int(self._constant(zero_point))
            self._activations[scale] = Activation(key, zero, low, high)
        if self._activations[scale].key:
            self._rounded[tensor] = scale

    def _learn_layer(
        self, node: NodeProto, wiring: Wiring, sources: Mapping[str, TensorProto], largest: int
    ) -> None:
        """Let the weights of a layer learn, and its bias, where the float file has them."""
        read, *rest = (wiring.producer.get(name) for name in node.input)
        for made in rest:
            name = made.input[0] if made is not None else ""
            stored, source = wiring.constants.get(name), sources.get(name.removesuffix(SUFFIX))
            # The first layer's weights are others where they take in a mean and a deviation.
            if stored is None or source is None or stored.dims != source.dims:
                continue
            known = {**self._weights, **self._biases}  # layers may share a tensor
            if name in known:
                continue
            key = f"learned_{len(known)}"
            start = torch.from_numpy(numpy_helper.to_array(source).astype(np.float32))
            self.register_parameter(key, nn.Parameter(start))
            if stored.data_type == TensorProto.INT32:
                assert read is not None, "the bias of a layer that reads nothing rounded"
                assert rest[0] is not None, "the bias of a layer without weights"
                self._biases[name] = Bias(key, read.input[1], *rest[0].input[:2])
            elif made is not None:
                self._weights[name] = Weight(key, int_attribute(made, "axis", 1), largest)

    def _bytes(self, pixels: Tensor) -> Tensor:
        """Return the bytes that ``pixels`` were made from, as numbers; the file's fourth plane too.

        They are the file's ``image_nchw``.
        """
        contract = self._contract
        if contract.mean:
            mean, std = (pixels.new_tensor(part) for part in (contract.mean, contract.std))
            raw = (pixels * std.view(1, -1, 1, 1) + mean.view(1, -1, 1, 1)).round()
        else:
            raw = (pixels / contract.scale + contract.zero_point).round()
        if not self._padded:
            return raw
        plane = torch.full_like(raw[:, :1], constant_pixel(contract))
        return torch.cat([raw, plane], 1)

    def _quantize(self, node: NodeProto, values: Mapping[str, Tensor]) -> Tensor:
        how = self._activations[node.input[1]]
        value = self._value(node.input[0], values)
        return quantize(value, self._scale(node.input[1]), how.zero_point, how.low, how.high)

    def _dequantize(self, node: NodeProto, values: Mapping[str, Tensor]) -> Tensor:
        name = node.input[0]
        if name in self._weights:
            return round_to(self.get_parameter(self._weights[name].key), self._scale_of(name))
        if name in self._biases:
            bias = self._biases[name]
            learns = bias.weight in self._weights
            scale = self._scale_of(bias.weight) if learns else self._constant(bias.weight_scale)
            step = self._scale(bias.input_scale).detach() * scale
            return round_to(self.get_parameter(bias.key), step.flatten())
        numbers = self._value(name, values).float()
        scale, zero_point = self._scale(node.input[1]), 0
        if len(node.input) > 2:  # several zero points are all the same, 0
            zero_point = int(self._constant(node.input[2]).flatten()[0])
        if scale.numel() > 1:
            shape = [1] * numbers.ndim
            shape[int_attribute(node, "axis", 1)] = -1
            scale = scale.view(shape)
        return dequantize(numbers, scale, zero_point)

    def _scale(self, name: str) -> Tensor:
        how = self._activations.get(name)
        if how is None or not how.key:
            return self._constant(name)
        return (PACE * self.get_parameter(how.key)).exp()

    def _scale_of(self, weight: str) -> Tensor:
        """Return the scales of a rounded weight, one for each output channel."""
        how = self._weights[weight]
        return weight_scale(self.get_parameter(how.key), how.axis, how.largest)

    def _value(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        return values[name] if name in values else self._constant(name)

    def _constant(self, name: str) -> Tensor:
        return self.get_buffer(self._constants[name])


def _gives(limits: tuple[float, float], scale: float, steps: int) -> bool:
    """Return whether ``scale`` is the one that a tensor with these limits gets."""
    width = max(limits[1], 0.0) - min(limits[0], 0.0)
    return abs(width / steps - scale) <= TOLERANCE * scale
