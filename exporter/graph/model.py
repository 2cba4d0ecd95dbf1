"""A float ONNX file with the raw-bytes contract, and what was measured on it.

Layout of the graph::

    image (uint8 [N, H, W, C]) -> Transpose -> image_nchw -> DequantizeLinear -> normalized
    normalized (float32 [N, C, H, W]) -> network -> logits (float32 [N, classes])
"""

from __future__ import annotations

from dataclasses import dataclass, field

from exporter.artifacts import Artifact
from exporter.contract import InputContract


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxModel:
    """A float model, dense or small. One file, opset 18, standard operators, any batch size."""

    file: Artifact
    contract: InputContract
    parameters: int
    """Elements of the weights and biases of Conv, Gemm and MatMul (batch-norm is folded in)."""
    macs: int
    """Multiply-accumulates of one image."""
    parity: float = field(compare=False)
    """Largest |torch - ONNX| logit on a probe batch, relative to the largest |logit|."""
