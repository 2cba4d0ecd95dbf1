"""Stage: what quantizing one layer alone does to the outputs of a network.

The float network is run once per layer with nothing rounded but that layer's input and weights, to
the steps that they have in the int8 file, and once more with its weights alone. What counts is the
end effect: how far the class probabilities move from the float network's and how many predictions
flip. The error of a layer's own output says little about that.

One network at a time, one batch at a time: memory grows neither with layers nor with images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from exporter.artifacts import Artifact
from exporter.data.splits import Split
from exporter.graph.count import macs_by_layer
from exporter.graph.model import OnnxModel
from exporter.graph.normalization import NORMALIZED
from exporter.graph.wiring import Wiring, int_attribute
from exporter.progress import track
from exporter.quantization.corrections.pairs import pixels_for
from exporter.quantization.integer_layers import integer_layers
from exporter.quantization.layers import layers_of
from exporter.quantization.probe import open_probe
from exporter.quantization.quantize import QuantizedCore, quantized_core
from exporter.recovery.effect import Effect, effect
from exporter.targets import Target

VERSION = 1

IMAGES = 256
"""At most so many calibration images are looked at."""
PREFIX = "alone_"
"""In front of the names of what is added to a graph."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerSensitivity:
    """One layer, quantized alone."""

    layer: str
    operator: str
    macs: int
    """Multiply-accumulates of one image."""
    both: Effect
    """With its input and its weights rounded."""
    weights: Effect
    """With its weights alone rounded."""
    writers: tuple[str, ...]
    """Layers whose outputs it reads, over whatever lies between, in graph order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizationSensitivity:
    """What each layer suffers from quantization on its own."""

    images: int
    """Calibration images."""
    layers: tuple[LayerSensitivity, ...]
    """In graph order; those that would become integer kernels."""

    @property
    def ranked(self) -> tuple[LayerSensitivity, ...]:
        """The layers, the one with the largest divergence first."""
        return tuple(sorted(self.layers, key=lambda found: -found.both.kl))


def scan_layers(
    out: Path, target: Target, model: OnnxModel, ranges: Artifact, data: Split
) -> QuantizationSensitivity:
    """Return the end effect of quantizing each layer of ``model`` alone.

    Args:
        out: folder of the stage; nothing is written into it.
        target: decides which weights get seven bits, as for the int8 file.
        model: the float model.
        ranges: a file of ``calibration.Ranges`` that was measured on ``model``.
        data: the first ``IMAGES`` of its images are looked at; labels are not.

    Raises what ``quantized_core`` raises.
    """
    core = quantized_core(target, model, ranges)
    images, _ = data.arrays()
    pixels = pixels_for(core, images[:IMAGES], model.contract)
    operators = {node.name: node.op_type for node in core.floating.graph.node}
    macs = macs_by_layer(core.floating)
    names = [layer.name for layer in integer_layers(core.quantized) if layer.name in operators]
    reference = _logits(core.floating, pixels)
    found = []
    with track("Quantizing layers alone", total=len(names)) as advance:
        for name in names:
            both, weights = (
                effect(reference, _logits(alone(core, name, with_input=with_input), pixels))
                for with_input in (True, False)
            )
            found.append(
                LayerSensitivity(
                    layer=name,
                    operator=operators[name],
                    macs=macs[name],
                    both=both,
                    weights=weights,
                    writers=writers_of(core.floating, name),
                )
            )
            advance(1, f"{name}: KL {both.kl:.2g}, {both.flips} flips")
    return QuantizationSensitivity(images=len(reference), layers=tuple(found))


def alone(core: QuantizedCore, name: str, *, with_input: bool) -> ModelProto:
    """Return the float network of ``core`` with one layer's weights, and its input, rounded.

    Args:
        core: a network before and after quantization.
        name: a layer that became an integer kernel.
        with_input: whether its input is rounded, too.
    """
    model = ModelProto()
    model.CopyFrom(core.floating)
    graph = model.graph
    quantized = Wiring.of(core.quantized.graph)
    (twin,) = (node for node in core.quantized.graph.node if node.name == name)
    position, node = next((i, node) for i, node in enumerate(graph.node) if node.name == name)
    for index in range(1, len(node.input)):
        values = _dequantized(twin.input[index], quantized)
        if values is not None:
            node.input[index] = f"{PREFIX}{index}"
            graph.initializer.append(numpy_helper.from_array(values, node.input[index]))
    if with_input:
        read = quantized.producer[twin.input[0]]
        for constant in read.input[1:]:
            tensor = numpy_helper.from_array(np.array(quantized.values(constant)))
            tensor.name = PREFIX + constant
            graph.initializer.append(tensor)
        steps = [PREFIX + constant for constant in read.input[1:]]
        names = [node.input[0], f"{PREFIX}bytes", f"{PREFIX}input"]
        pair = [
            helper.make_node(operator, [source, *steps], [result])
            for operator, source, result in zip(
                ("QuantizeLinear", "DequantizeLinear"), names, names[1:], strict=False
            )
        ]
        node.input[0] = names[-1]
        nodes = [*graph.node[:position], *pair, *graph.node[position:]]
        del graph.node[:]
        graph.node.extend(nodes)
    return model


def writers_of(model: ModelProto, name: str) -> tuple[str, ...]:
    """Return the layers whose outputs reach the layer ``name`` through no other layer."""
    wiring = Wiring.of(model.graph)
    layers = {layer.name for layer in layers_of(model)}
    (node,) = (node for node in model.graph.node if node.name == name)
    waiting, seen, found = [node.input[0]], set[str](), set[str]()
    while waiting:
        tensor = waiting.pop()
        writer = wiring.producer.get(tensor)
        if writer is None or tensor in seen:
            continue
        seen.add(tensor)
        if writer.name in layers:
            found.add(writer.name)
        else:
            waiting.extend(writer.input)
    return tuple(node.name for node in model.graph.node if node.name in found)


def _logits(model: ModelProto, pixels: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    name = model.graph.output[0].name
    session = open_probe(model, [name])
    batches: Sequence[NDArray[np.float32]] = [
        session.run([name], {NORMALIZED: batch})[0] for batch in pixels
    ]
    return np.concatenate(batches)


def _dequantized(name: str, wiring: Wiring) -> NDArray[np.float32] | None:
    """Return the floats that a constant of a QDQ graph stands for, None if it is none."""
    node: NodeProto | None = wiring.producer.get(name)
    if node is None or node.op_type != "DequantizeLinear":
        return None
    numbers, scale = (wiring.values(part) for part in node.input[:2])
    if numbers is None or scale is None:
        return None
    # Zero points of weights and biases are 0.
    shape = [1] * numbers.ndim
    if scale.size > 1:
        shape[int_attribute(node, "axis", 1)] = -1
    return numbers.astype(np.float32) * scale.astype(np.float32).reshape(shape)
