"""Rounding that gradients pass: what ONNX Runtime computes, and a slope to learn by.

Forward, every function gives the very numbers that ONNX's QuantizeLinear and DequantizeLinear give
(half to even, saturating). Backward, rounding counts for the identity (the straight-through
estimator, Bengio et al. 2013, arXiv 1308.3432); clipping has the slope that it has. Where the scale
is learned too, what follows for it is the gradient of LSQ (Esser et al. 2020, arXiv 1902.08153).
"""

from __future__ import annotations

import torch
from torch import Tensor


def round_through(values: Tensor) -> Tensor:
    """Return ``values`` rounded half to even; the gradient is that of ``values``."""
    return values + (values.round() - values).detach()


def quantize(values: Tensor, scale: Tensor, zero_point: int, low: int, high: int) -> Tensor:
    """Return the whole numbers ``low`` to ``high`` that stand for ``values``."""
    return (round_through(values / scale) + zero_point).clamp(low, high)


def dequantize(numbers: Tensor, scale: Tensor, zero_point: int) -> Tensor:
    """Return the values that whole numbers stand for."""
    return (numbers - zero_point) * scale


def weight_scale(weight: Tensor, axis: int, largest: int) -> Tensor:
    """Return the scale of each index of ``axis``, in a shape that fits ``weight``; no gradient.

    Args:
        weight: the float weight that learns.
        axis: counts the output channels.
        largest: 127, or 64 where sums of 16 bits could saturate; a channel's largest |weight|
            becomes this. A channel of zeros stays one.
    """
    others = [place for place in range(weight.ndim) if place != axis]
    limit = weight.detach().abs().amax(others, keepdim=True)
    return torch.where(limit > 0, limit, 1.0) / largest


def round_to(values: Tensor, scale: Tensor) -> Tensor:
    """Return ``values`` in whole multiples of ``scale``, as weights and biases are stored.

    Nothing is clipped: scales of weights follow the largest of them, and biases have 32 bits.
    """
    return round_through(values / scale) * scale
