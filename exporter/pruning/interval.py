"""Interval arithmetic on channels: bounds that hold for every image, and what weights make of them.

One interval per channel, over all its pixels (interval bound propagation: Gowal et al. 2018, arXiv
1810.12715), worked out in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS_AT_ONCE = 256
"""Filters in float64 at a time: a large linear layer would take twice its size in memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Between what values each channel lies: both ``[C]``, float64, possibly infinite."""

    low: Tensor
    high: Tensor

    def with_zero(self) -> Bounds:
        """Return the bounds of the same values with zeros among them, as padding puts there."""
        return Bounds(low=self.low.clamp(max=0), high=self.high.clamp(min=0))


Known = Callable[[Tensor], Bounds]
"""What is known of a tensor's second dimension."""
Rule = Callable[..., Bounds]
"""``rule(known, result, *args, **kwargs)`` with the arguments of the operator that made result."""


def anything(channels: int) -> Bounds:
    """Return the bounds of what is not known."""
    high = torch.full((channels,), math.inf, dtype=torch.float64)
    return Bounds(low=-high, high=high)


def conv2d(
    known: Known,
    result: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: object = 1,
    padding: object = 0,
    dilation: object = 1,
    groups: int = 1,
) -> Bounds:
    """Return the bounds of a convolution's channels."""
    bounds = known(input)
    return _weighted(weight, bias, bounds.with_zero() if any_padding(padding) else bounds, groups)


def linear(
    known: Known, result: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Bounds:
    """Return the bounds of a linear layer's outputs."""
    if input.ndim != 2:  # channels are last, not second
        return anything(result.shape[1])
    return _weighted(weight, bias, known(input), groups=1)


def _weighted(weight: Tensor, bias: Tensor | None, bounds: Bounds, groups: int) -> Bounds:
    """Every weight takes the end of its input's interval that is worst for it."""
    outputs, inputs = weight.shape[:2]
    low, high = (end.reshape(groups, inputs, 1) for end in (bounds.low, bounds.high))
    lows, highs = [], []
    split = weight.detach().reshape(groups, outputs // groups, inputs, -1)
    for part in split.split(ROWS_AT_ONCE, dim=1):
        up = part.double().clamp(min=0).sum(-1)
        down = part.double().clamp(max=0).sum(-1)
        lows.append(_times(up, low) + _times(down, high))
        highs.append(_times(up, high) + _times(down, low))
    shift = 0.0 if bias is None else bias.detach().double()
    return Bounds(
        low=torch.cat(lows, 1).flatten() + shift, high=torch.cat(highs, 1).flatten() + shift
    )


def _times(matrix: Tensor, ends: Tensor) -> Tensor:
    """Return ``matrix @ ends`` where 0 times infinity is 0; infinite terms have one sign a row."""
    infinite = ends.isinf()
    finite = matrix @ ends.masked_fill(infinite, 0)
    beyond = (matrix @ ends.sign().masked_fill(~infinite, 0)).sign()
    return torch.where(beyond == 0, finite, beyond * math.inf).squeeze(-1)


def batch_norm(
    known: Known,
    result: Tensor,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Bounds:
    """Return the bounds behind a batch-norm in eval mode."""
    if training or running_mean is None or running_var is None:
        return anything(result.shape[1])
    scale = 1 / (running_var.double() + eps).sqrt()
    if weight is not None:
        scale = scale * weight.detach().double()
    shift = -running_mean.double() * scale
    if bias is not None:
        shift = shift + bias.detach().double()
    bounds = known(input)
    ends = [
        torch.where(scale == 0, 0, torch.where(scale > 0, one, other) * scale) + shift
        for one, other in ((bounds.low, bounds.high), (bounds.high, bounds.low))
    ]
    return Bounds(low=ends[0], high=ends[1])


def any_padding(padding: object) -> bool:
    """Whether a convolution's or a pooling's ``padding`` adds anything."""
    return padding not in (0, (0,), [0], (0, 0), [0, 0], "valid")
