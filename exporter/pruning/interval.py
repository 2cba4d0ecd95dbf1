"""Interval arithmetic on channels: what an operator makes of bounds that hold for every image.

One interval per channel, over all its pixels (interval bound propagation: Gowal et al. 2018, arXiv
1810.12715), worked out in float64. What has no rule here may be anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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


def _conv2d(
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
    bounds = known(input)
    return _weighted(weight, bias, bounds.with_zero() if _any_padding(padding) else bounds, groups)


def _linear(
    known: Known, result: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Bounds:
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


def _batch_norm(
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


def _rising(function: Callable[..., Tensor]) -> Rule:
    """Return the rule of a function that never falls."""

    def rule(known: Known, result: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> Bounds:
        kwargs.pop("inplace", None)
        bounds = known(input)
        return Bounds(
            low=function(bounds.low, *args, **kwargs), high=function(bounds.high, *args, **kwargs)
        )

    return rule


def _valley(function: Callable[[Tensor], Tensor], bottom: float) -> Rule:
    """Return the rule of a function that falls up to ``bottom``, then rises, and is 0 at -inf."""

    def rule(known: Known, result: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> Bounds:
        bounds = known(input)
        low, high = (end.clamp(min=-1e9) for end in (bounds.low, bounds.high))
        return Bounds(
            low=function(torch.maximum(low, high.clamp(max=bottom))),
            high=torch.maximum(function(low), function(high)),
        )

    return rule


def _same(known: Known, result: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> Bounds:
    return known(input)


def _dropout(
    known: Known, result: Tensor, input: Tensor, p: float = 0.5, training: bool = True, **_: Any
) -> Bounds:
    return anything(result.shape[1]) if training else known(input)


def _avg_pool2d(
    known: Known,
    result: Tensor,
    input: Tensor,
    kernel_size: object,
    stride: object = None,
    padding: object = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Bounds:
    if divisor_override is not None:
        return anything(result.shape[1])
    return known(input).with_zero() if _any_padding(padding) else known(input)


def _pad(
    known: Known,
    result: Tensor,
    input: Tensor,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Bounds:
    if mode == "constant":
        return known(input).with_zero() if not value else anything(result.shape[1])
    return known(input)


def _mean(known: Known, result: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> Bounds:
    # Over pixels only: the batch and the channels are as they were.
    return known(input) if result.shape[:2] == input.shape[:2] else anything(result.shape[1])


def _reshape(known: Known, result: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> Bounds:
    if result.shape[:2] == input.shape[:2]:
        return known(input)
    if result.ndim == 2 and result.shape[0] == input.shape[0]:
        pixels = result.shape[1] // input.shape[1]
        bounds = known(input)
        return Bounds(
            low=bounds.low.repeat_interleave(pixels), high=bounds.high.repeat_interleave(pixels)
        )
    return anything(result.shape[1])


def _add(known: Known, result: Tensor, input: Tensor, other: Any) -> Bounds:
    if not _alike(input, other):
        return anything(result.shape[1])
    one, two = known(input), known(other)
    return Bounds(low=one.low + two.low, high=one.high + two.high)


def _mul(known: Known, result: Tensor, input: Tensor, other: Any) -> Bounds:
    if not _alike(input, other):
        return anything(result.shape[1])
    one, two = known(input), known(other)
    corners = torch.stack([a * b for a in (one.low, one.high) for b in (two.low, two.high)])
    corners = corners.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)  # 0 times infinity
    return Bounds(low=corners.amin(0), high=corners.amax(0))


def _cat(known: Known, result: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Bounds:
    if dim != 1:
        return anything(result.shape[1])
    parts = [known(part) for part in tensors]
    return Bounds(
        low=torch.cat([part.low for part in parts]), high=torch.cat([part.high for part in parts])
    )


def _alike(input: Any, other: Any) -> bool:
    return (
        isinstance(input, Tensor)
        and isinstance(other, Tensor)
        and input.ndim == other.ndim >= 2
        and input.shape[:2] == other.shape[:2]
    )


def _any_padding(padding: object) -> bool:
    return padding not in (0, (0,), [0], (0, 0), [0, 0], "valid")


RULES: dict[str, Rule] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": _rising(torch.relu),
    "relu6": _rising(torch.nn.functional.relu6),
    "hardtanh": _rising(torch.nn.functional.hardtanh),
    "hardsigmoid": _rising(torch.nn.functional.hardsigmoid),
    "sigmoid": _rising(torch.sigmoid),
    "tanh": _rising(torch.tanh),
    "hardswish": _valley(torch.nn.functional.hardswish, bottom=-1.5),
    "silu": _valley(torch.nn.functional.silu, bottom=-1.2784645427610738),
    "max_pool2d": _same,
    "adaptive_max_pool2d": _same,
    "adaptive_avg_pool2d": _same,
    "avg_pool2d": _avg_pool2d,
    "pad": _pad,
    "dropout": _dropout,
    "contiguous": _same,
    "clone": _same,
    "mean": _mean,
    "flatten": _reshape,
    "view": _reshape,
    "reshape": _reshape,
    "squeeze": _reshape,
    "add": _add,
    "iadd": _add,
    "mul": _mul,
    "imul": _mul,
    "cat": _cat,
    "concat": _cat,
}
"""By the function's name without underscores: ``torch.relu``, ``relu_`` and ``F.relu`` are one."""
