"""What each operator makes of the bounds of its inputs; what has no rule here may be anything.

A rule takes the operator's own arguments, behind what is known of tensors and the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from exporter.pruning.interval import (
    Bounds,
    Known,
    Rule,
    any_padding,
    anything,
    batch_norm,
    conv2d,
    linear,
)


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
    return known(input).with_zero() if any_padding(padding) else known(input)


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


RULES: dict[str, Rule] = {
    "conv2d": conv2d,
    "linear": linear,
    "batch_norm": batch_norm,
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
