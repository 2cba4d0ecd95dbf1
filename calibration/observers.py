"""What is remembered of one tensor while batches go by: a few numbers, never the values.

A histogram's edges are fixed before its first value is counted, so its counts are sums over the
batches: neither the order nor the size of the batches can change them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 2048
"""Eight times the 256 levels of a byte: fine enough to place a clipping point within a level."""
_CHUNK = 1 << 15
"""Values binned at a time, so that the float64 copies stay in the CPU's cache."""


class MinMax:
    """Smallest and largest value seen; NaN once a NaN was seen."""

    def __init__(self) -> None:
        self.low = math.inf
        self.high = -math.inf

    def update(self, values: NDArray[Any]) -> None:
        """Take in the values of one batch, of any shape."""
        # np.minimum passes NaN on, Python's min does not.
        self.low = float(np.minimum(self.low, values.min(initial=math.inf)))
        self.high = float(np.maximum(self.high, values.max(initial=-math.inf)))

    @property
    def is_finite(self) -> bool:
        """Whether there were values, none of them NaN or infinite."""
        return math.isfinite(self.low) and math.isfinite(self.high)


class Histogram:
    """Counts of values in ``bins`` equal bins from ``low`` to ``high``, 0 always among them.

    A quantized range has to contain 0 anyway: zero padding and ReLU must stay exact.
    """

    def __init__(self, low: float, high: float, bins: int = BINS) -> None:
        """Lay out the bins over ``low``, ``high`` and 0; both must be finite, low <= high."""
        self.low = min(low, 0.0)
        self.high = max(high, 0.0)
        self.counts = np.zeros(bins, dtype=np.int64)

    @property
    def width(self) -> float:
        """Width of a bin."""
        return (self.high - self.low) / len(self.counts)

    @property
    def edges(self) -> NDArray[np.float64]:
        """The ``bins + 1`` edges, in ascending order."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)

    @property
    def centers(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        edges = self.edges
        return (edges[:-1] + edges[1:]) / 2

    def update(self, values: NDArray[Any]) -> None:
        """Count the values of one batch, of any shape; raises ValueError if one lies outside."""
        flat = values.ravel()
        if flat.size == 0:
            return
        if not (self.low <= flat.min() and flat.max() <= self.high):
            raise ValueError(f"values outside {self.low:g} to {self.high:g}")
        bins = len(self.counts)
        # A constant zero has bins of no width; everything is in the first one.
        per_unit = bins / (self.high - self.low) if self.high > self.low else 0.0
        for start in range(0, flat.size, _CHUNK):
            chunk = flat[start : start + _CHUNK].astype(np.float64)
            index = ((chunk - self.low) * per_unit).astype(np.intp)
            counted = np.bincount(index, minlength=bins + 1)
            self.counts += counted[:bins]
            self.counts[-1] += counted[bins]  # the last bin includes its upper edge
