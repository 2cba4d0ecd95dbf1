"""Stage: which layers of an int8 file saturate on x86 CPUs without VNNI, by proof and by measuring.

The proof looks at the weights and holds for any image (``saturation``). For layers that it does not
clear, the file is computed on images, in float between the eight-bit tensors as every CPU would
round them, and each layer is added up once more as ``vpmaddubsw`` does (``saturated_sums``). A
layer gets the activations that it has without saturation before it, so the numbers name the
culprit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from exporter.artifacts import Artifact
from exporter.contract import INPUT_NAME
from exporter.data.splits import Split
from exporter.errors import GraphError
from exporter.graph.limits import read_model
from exporter.progress import track
from exporter.quantization.integer_layers import IntegerLayer, integer_layers
from exporter.quantization.probe import open_probe
from exporter.quantization.saturated_sums import emulate
from exporter.quantization.saturation import risky_pairs
from exporter.targets import Target

VERSION = 1

SATURATING_ISAS = frozenset({"avx2", "avx512"})
"""Instruction sets of ``Target.isas`` whose integer kernels add pairs in 16 bits."""
SEVEN_BITS = 64
IMAGES = 64
"""At most so many images are measured."""
BATCH = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerAudit:
    """What is known about one integer layer."""

    name: str
    operator: str
    weight_bits: int
    """7 where all weights lie in [-64, 64], else 8."""
    safe: bool
    """Whether it is proven that no image can saturate it."""
    risky_share: float
    """Share of the pairs of weights that some activations would push out of 16 bits, 0 to 1."""
    clipped_share: float | None
    """Share of the pairs of products that were clipped on the images, 0 to 1. None if not measured;
    0 where the layer is safe."""
    largest_error: float | None
    """Largest change of an output by clipping, as a share of the layer's largest |output|."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SaturationAudit:
    """The integer layers of a file, in graph order."""

    layers: tuple[LayerAudit, ...]
    images: int
    """Images that were measured on; 0 where nothing was, or nothing had to be."""


def saturates_somewhere(target: Target) -> bool:
    """Return whether a CPU that the target promises adds pairs in 16 bits."""
    return not SATURATING_ISAS.isdisjoint(target.isas)


def audit_saturation(out: Path, model: Artifact, data: Split | None) -> SaturationAudit:
    """Return the audit of an int8 file; without ``data`` it is the proof alone.

    Raises:
        GraphError: the file cannot be read or does not take the images.
    """
    content = read_model(model.checked())
    layers = integer_layers(content)
    proven = [_proven(layer) for layer in layers]
    tallies = [
        None if audit.safe else _Tally(layer=layer)
        for layer, audit in zip(layers, proven, strict=True)
    ]
    risky = [tally for tally in tallies if tally is not None]
    images = 0
    if data is not None and risky:
        pixels, _ = data.arrays()
        images = len(pixels[:IMAGES])
        _measure(content, risky, pixels[:IMAGES])
    return SaturationAudit(
        layers=tuple(
            tally.added_to(audit) if tally is not None and images else audit
            for audit, tally in zip(proven, tallies, strict=True)
        ),
        images=images,
    )


def audit_weights(model: ModelProto) -> tuple[LayerAudit, ...]:
    """Return what the weights of a QDQ graph alone tell about each of its integer layers."""
    return tuple(_proven(layer) for layer in integer_layers(model))


def _proven(layer: IntegerLayer) -> LayerAudit:
    share = 0.0 if layer.depthwise else float(risky_pairs(layer.rows).mean())
    largest = np.abs(layer.rows.astype(np.int16)).max()
    return LayerAudit(
        name=layer.name,
        operator=layer.operator,
        weight_bits=7 if largest <= SEVEN_BITS else 8,
        safe=share == 0,
        risky_share=share,
        clipped_share=None if share else 0.0,
        largest_error=None if share else 0.0,
    )


@dataclass(kw_only=True, slots=True)
class _Tally:
    """What is counted of one layer, batch by batch."""

    layer: IntegerLayer
    clipped: int = 0
    pairs: int = 0
    error: float = 0.0
    output: float = 0.0

    def count(self, activations: NDArray[np.generic]) -> None:
        found = emulate(self.layer, activations)
        self.clipped += found.clipped
        self.pairs += found.pairs
        steps = self.layer.scale * self.layer.row_scales
        lost = found.exact - found.saturated
        self.error = max(self.error, float((np.abs(lost) * steps).max()))
        self.output = max(self.output, float((np.abs(found.exact) * steps).max()))

    def added_to(self, audit: LayerAudit) -> LayerAudit:
        return dataclasses.replace(
            audit,
            clipped_share=self.clipped / self.pairs,
            largest_error=self.error / self.output if self.output else 0.0,
        )


def _measure(model: ModelProto, tallies: Sequence[_Tally], images: NDArray[np.uint8]) -> None:
    """Run the file on ``images`` and count what each layer clips."""
    names = list(dict.fromkeys(tally.layer.activation for tally in tallies))
    session = open_probe(model, names)
    with track("Auditing saturation", total=len(images)) as advance:
        for start in range(0, len(images), BATCH):
            batch = np.ascontiguousarray(images[start : start + BATCH])
            try:
                values = dict(zip(names, session.run(names, {INPUT_NAME: batch}), strict=True))
            except Exception as error:  # the runtime's exceptions have no base of their own
                detail = " ".join(str(error).split())
                raise GraphError(f"The int8 file does not take the images: {detail}") from error
            for tally in tallies:
                tally.count(values[tally.layer.activation])
            advance(len(batch), "")
