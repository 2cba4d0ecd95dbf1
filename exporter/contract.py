"""What the shipped model expects at its input and means by its outputs.

Every model takes raw pixels, ``uint8 [N, H, W, C]``. Normalisation lives in the graph, which starts
with one scalar zero point and scale, ``(pixel - zero_point) * scale``: the quantized graph can then
start with an integer convolution on the bytes as they are, and zero padding stays exact (the
padding value *is* the zero point).

Networks that are trained here see just that. Weights that come from elsewhere may want a mean and a
deviation for each channel; ``exporter.graph.normalization`` says how they fit behind the scalar.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

INPUT_NAME = "image"
OUTPUT_NAME = "logits"
USUAL_SCALE = 1 / 64
"""A power of two: ``(pixel - zero_point) * scale`` is exact in float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputContract:
    """The input side of a shipped model."""

    height: int
    width: int
    channels: int = 3
    """Always RGB; greyscale sources are replicated."""
    zero_point: int = 128
    """The byte that becomes 0 where the graph turns bytes into numbers."""
    scale: float = USUAL_SCALE
    """What one step of a byte is worth there."""
    mean: tuple[float, ...] = ()
    """Per channel, in units of a byte: the network was trained on ``(pixel - mean) / std``.

    Empty (as is ``std``) where it was trained on ``(pixel - zero_point) * scale``.
    """
    std: tuple[float, ...] = ()
    """Per channel, in units of a byte."""
    resize: Literal["stretch", "crop"] = "crop"
    """How an image of another size is brought to height x width."""
    classes: tuple[str, ...]
    """Meaning of the outputs, in order; empty where the network is no classifier."""
