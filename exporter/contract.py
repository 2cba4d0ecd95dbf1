"""What the shipped model expects at its input and means by its outputs.

Every model takes raw pixels, ``uint8 [N, H, W, C]``. Normalisation lives in the graph as one scalar
zero point and scale, ``(pixel - zero_point) * scale``, so that the quantized graph can start with
an integer convolution on the bytes as they are, and zero padding stays exact (the padding value
*is* the zero point).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

INPUT_NAME = "image"
OUTPUT_NAME = "logits"


@dataclass(frozen=True, kw_only=True, slots=True)
class InputContract:
    """The input side of a shipped model."""

    height: int
    width: int
    channels: int = 3
    """Always RGB; greyscale sources are replicated."""
    zero_point: int = 128
    scale: float = 1 / 64
    resize: Literal["stretch", "crop"] = "crop"
    """How an image of another size is brought to height x width."""
    classes: tuple[str, ...]
    """Meaning of the outputs, in order."""
