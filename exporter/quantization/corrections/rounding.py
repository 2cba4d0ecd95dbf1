"""AdaRound: each weight is rounded up or down as it suits the layer's output, not to the nearest.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization" (arXiv
2004.10568). With ``h`` the rectified sigmoid of a free variable per weight (eq. 23), the layer's
integer weights are ``clip(floor(w / s) + h)`` while Adam minimises

    E |y - W~ x~|^2  +  lambda * sum(1 - |2 h - 1|^beta)          (eq. 21, 24)

where ``y`` is what the float network's layer gives and ``x~`` what the layers before it, already
rounded, feed this one; ``beta`` falls from 20 to 2, which drives every ``h`` to 0 or 1.

The paper draws mini-batches. The activation function is left out of the objective here, so that it
is quadratic in the weights: ``w~ H w~ - 2 w~ c + const`` per output with the moments
``H = E[x~ x~^T]`` and ``c = E[x~ y]``. They are summed up over all images once, whatever their
number, and each step sees them all. Nothing is random.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from exporter.graph.normalization import NORMALIZED
from exporter.progress import track
from exporter.quantization.columns import blocks, channels_last
from exporter.quantization.corrections.pairs import LayerPair, layer_pairs, with_constants
from exporter.quantization.probe import open_probe
from exporter.quantization.quantize import QuantizedCore
from exporter.quantization.saturation import risky_pairs

ZETA, GAMMA = 1.1, -0.1
"""How far the sigmoid is stretched, so that it reaches 0 and 1."""
BETA_START, BETA_END = 20.0, 2.0
SEVEN_BITS, INT8_MAX = 64, 127
TINY = 1e-12
"""Of an output's power: an error below that is rounding of float32."""
LARGEST_ROW = 4608
"""Weights of an output up to which H, with its square as many numbers, is set up; layers with more
keep the nearest rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How the roundings of a layer are searched."""

    steps: int = 1000
    rate: float = 0.01
    """Adam's learning rate."""
    weight: float = 0.05
    """lambda, where an output's error by nearest rounding counts as 1."""
    warm_up: float = 0.2
    """Share of the steps without the second term."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Moments:
    """Second moments of what each group of a layer multiplies, and of what should come out.

    Both in steps of the integers, as the weights are.
    """

    inputs: NDArray[np.float64]
    """E[x x^T], [groups, K, K]."""
    cross: NDArray[np.float64]
    """E[y x^T], [groups, outputs of a group, K]."""
    power: NDArray[np.float64]
    """E[y^2], [groups, outputs of a group]."""

    def errors(self, rows: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return E[(y - w x)^2] for each of the integer rows [groups, outputs of a group, K]."""
        wide = rows.astype(np.float64)
        found: NDArray[np.float64] = self.power + (
            (wide @ self.inputs - 2 * self.cross) * wide
        ).sum(axis=-1)
        return found


def round_adaptively(
    core: QuantizedCore,
    pixels: Iterable[NDArray[np.float32]],
    schedule: Schedule | None = None,
) -> QuantizedCore:
    """Return ``core`` with other int8 weights, each one of the two next to its float weight.

    On ``pixels`` no output has a larger mean squared error than with nearest rounding, given the
    layers before it. Rows that cannot saturate 16-bit sums still cannot.
    """
    pairs = [
        pair for pair in layer_pairs(core) if pair.weight and pair.rows.shape[1] <= LARGEST_ROW
    ]
    quantized = core.quantized
    with track("Rounding weights", total=len(pairs)) as advance:
        for pair in pairs:
            layer = pair.quantized
            by_group = (layer.groups, -1, layer.rows.shape[1])
            limit = SEVEN_BITS if layer.name in core.seven_bit_layers else INT8_MAX
            exact = (pair.rows / layer.row_scales[:, None]).reshape(by_group)
            found = choose_roundings(
                exact,
                layer.rows.reshape(by_group),
                limit,
                measure_moments(core.floating, quantized, pair, pixels),
                schedule or Schedule(),
            )
            quantized = with_constants(quantized, {pair.weight: pair.stored(found)})
            advance(1, layer.name)
    return dataclasses.replace(core, quantized=quantized)


def measure_moments(
    floating: ModelProto,
    quantized: ModelProto,
    pair: LayerPair,
    pixels: Iterable[NDArray[np.float32]],
) -> Moments:
    """Return the moments of one layer: inputs of ``quantized``, outputs of ``floating``."""
    layer = pair.quantized
    outputs, width = layer.rows.shape
    of_group = outputs // layer.groups
    inputs = np.zeros((layer.groups, width, width))
    cross = np.zeros((layer.groups, of_group, width))
    power = np.zeros((layer.groups, of_group))
    count = 0
    before, after = open_probe(quantized, [layer.activation]), open_probe(floating, [pair.output])
    for batch in pixels:
        (activations,) = before.run(None, {NORMALIZED: batch})
        (values,) = after.run(None, {NORMALIZED: batch})
        wanted = (channels_last(layer, values) - pair.offset) / pair.steps
        for place, columns in blocks(layer, activations):
            x = columns.astype(np.float32) - layer.zero_point
            x = x.transpose(2, 0, 1, 3).reshape(layer.groups, -1, width)
            y = wanted[place].reshape(-1, layer.groups, of_group).transpose(1, 2, 0)
            inputs += x.transpose(0, 2, 1) @ x
            cross += y @ x
            power += np.square(y, dtype=np.float64).sum(axis=-1)
            count += x.shape[1]
    return Moments(inputs=inputs / count, cross=cross / count, power=power / count)


def choose_roundings(
    exact: NDArray[np.float32],
    nearest: NDArray[np.int8],
    limit: int,
    moments: Moments,
    schedule: Schedule,
) -> NDArray[np.int8]:
    """Return integer weights [groups, outputs of a group, K], each ``exact`` rounded up or down.

    None is larger than ``limit``. A row falls back to ``nearest`` where the search found nothing
    better, or something that could saturate where ``nearest`` cannot.
    """
    before = moments.errors(nearest)
    found = _searched(exact, limit, moments, before, schedule)
    flat = (-1, exact.shape[-1])
    risk = risky_pairs(found.reshape(flat)).any(axis=1) & ~risky_pairs(nearest.reshape(flat)).any(
        axis=1
    )
    keep = (moments.errors(found) >= before) | risk.reshape(before.shape)
    return np.where(keep[..., None], nearest, found)


def _searched(
    exact: NDArray[np.float32],
    limit: int,
    moments: Moments,
    before: NDArray[np.float64],
    schedule: Schedule,
) -> NDArray[np.int8]:
    """Minimise the error of each row, in units of its error ``before``, over the roundings."""
    unit = np.maximum(before, TINY * np.maximum(moments.power, 1))[..., None]
    low = torch.from_numpy(np.floor(exact))
    inputs = torch.from_numpy(moments.inputs.astype(np.float32))
    cross = torch.from_numpy((moments.cross / unit).astype(np.float32))
    scale = torch.from_numpy((1 / unit).astype(np.float32))
    share = torch.from_numpy(exact) - low
    free = -torch.log((ZETA - GAMMA) / (share - GAMMA) - 1)
    free.requires_grad_()
    optimizer = torch.optim.Adam([free], lr=schedule.rate)
    warm_up = int(schedule.warm_up * schedule.steps)
    for step in range(schedule.steps):
        up = _rectified(free)
        weights = torch.clamp(low + up, -limit, limit)
        with torch.no_grad():
            slope = 2 * (torch.bmm(weights, inputs) * scale - cross)
        loss = (slope * weights).sum()  # has the gradient of the error: slope is d error / d weight
        if step >= warm_up:
            beta = _beta((step - warm_up) / max(1, schedule.steps - 1 - warm_up))
            loss = loss + schedule.weight * (1 - (2 * up - 1).abs().pow(beta)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    rounded = torch.clamp(low + (_rectified(free.detach()) >= 0.5), -limit, limit)
    return rounded.numpy().astype(np.int8)


def _rectified(free: Tensor) -> Tensor:
    return torch.clamp(torch.sigmoid(free) * (ZETA - GAMMA) + GAMMA, 0, 1)


def _beta(progress: float) -> float:
    """Return beta by cosine from its start to its end."""
    return BETA_END + (BETA_START - BETA_END) * (1 + math.cos(math.pi * progress)) / 2
