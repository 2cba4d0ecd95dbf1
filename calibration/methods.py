"""The methods that choose a clipping range from what was seen of a tensor.

A range decides two errors at once: values outside are clipped, values inside are rounded to one of
256 levels. A method is a function from a filled histogram to a range; all read the same histogram.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.entropy import kullback_leibler_threshold
from calibration.errors import CalibrationError
from calibration.observers import Histogram
from calibration.ranges import Range

TAIL = 1e-4
"""Share of the values that `percentile` may cut on each side."""
LEVELS = 256
"""Values of a byte."""
STEPS = 100
"""Clipping points tried for each end of the range: every per cent of what was seen."""
SWEEPS = 4
"""Times that both ends are moved in turn; the second sweep rarely moves them any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One row of the table of methods."""

    name: str
    summary: str
    choose: Callable[[Histogram], Range]
    needs_counts: bool = True
    """Whether it reads the counts, for which the samples are run a second time."""


def minmax(seen: Histogram) -> Range:
    """Return everything that was seen; nothing is clipped.

    Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", (arXiv:1712.05877), without its moving
    average.
    """
    return Range(low=seen.low, high=seen.high)


def percentile(seen: Histogram) -> Range:
    """Return the 0.01th to the 99.99th percentile, rounded outwards to the edge of a bin.

    Each side loses at most 0.01 % of the values.

    Source: Wu et al. 2020, "Integer Quantization for Deep Learning Inference: Principles and
    Empirical Evaluation" (arXiv:2004.09602), who compare 99.9 % to 99.9999 %.
    """
    cumulated = np.cumsum(seen.counts)
    tail = cumulated[-1] * TAIL
    first = np.searchsorted(cumulated, tail, side="right")
    last = np.searchsorted(cumulated, cumulated[-1] - tail, side="left")
    edges = seen.edges
    return Range(low=min(0.0, float(edges[first])), high=max(0.0, float(edges[last + 1])))


def mse(seen: Histogram) -> Range:
    """Return the range with the least mean squared error after rounding to 256 levels.

    Both ends are tried at every per cent of what was seen, one end at a time, until neither moves.

    Source: Sung et al. 2015, "Resiliency of Deep Neural Networks under Quantization"
    (arXiv:1511.06488); here with an affine uint8 grid and a free end on each side.
    """
    low, high = seen.low, seen.high
    shares = np.arange(STEPS, 0, -1) / STEPS  # widest first: equals are won by less clipping
    for _ in range(SWEEPS):
        before = low, high
        if seen.high > 0.0:
            errors = quantization_errors(seen, np.full(STEPS, low), seen.high * shares)
            high = float(seen.high * shares[np.argmin(errors)])
        if seen.low < 0.0:
            errors = quantization_errors(seen, seen.low * shares, np.full(STEPS, high))
            low = float(seen.low * shares[np.argmin(errors)])
        if (low, high) == before:
            break
    return Range(low=low, high=high)


def entropy(seen: Histogram) -> Range:
    """Return the range that loses the least information, by Kullback-Leibler divergence.

    A threshold is chosen on the values' magnitudes; the range ends there or at what was seen,
    whichever is nearer to 0. See ``calibration.entropy``.

    Source: Migacz 2017, "8-bit Inference with TensorRT", GTC 2017 (S7310).
    """
    threshold = kullback_leibler_threshold(seen, LEVELS)
    return Range(low=max(seen.low, -threshold), high=min(seen.high, threshold))


def quantization_errors(
    seen: Histogram, lows: NDArray[np.float64], highs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean squared error of uint8 affine quantization for each range, ``[K]``.

    Scale and zero point are computed as ONNX Runtime does. Every value counts as the middle of its
    bin, which is off by at most 1/16 of a quantization step where nothing is clipped.
    """
    filled = seen.counts > 0
    values = seen.centers[filled]
    counts = seen.counts[filled]
    scale = ((highs - lows) / (LEVELS - 1))[:, None]
    zero_point = np.round(-lows[:, None] / scale)
    quantized = np.clip(np.round(values / scale) + zero_point, 0, LEVELS - 1)
    errors = ((quantized - zero_point) * scale - values) ** 2
    result: NDArray[np.float64] = errors @ counts / counts.sum()
    return result


_METHODS = (
    Method(
        name="minmax",
        summary="the smallest and largest value seen; clips nothing",
        choose=minmax,
        needs_counts=False,
    ),
    Method(
        name="percentile",
        summary="cuts the outermost 0.01 % of the values on each side",
        choose=percentile,
    ),
    Method(
        name="mse",
        summary="least mean squared error after rounding to 8 bits",
        choose=mse,
    ),
    Method(
        name="entropy",
        summary="least loss of information (Kullback-Leibler, as in TensorRT)",
        choose=entropy,
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _METHODS}


def find_method(name: str) -> Method:
    """Return the method called ``name``; raises CalibrationError that lists the known ones."""
    try:
        return METHODS[name]
    except KeyError:
        known = ", ".join(METHODS)
        raise CalibrationError(f"Unknown calibration method {name!r}. Known: {known}.") from None
