"""Statistics of paired timings.

Two models are timed in turns, so that whatever slows the machine slows both. Each turn gives one
pair of times; the ratio is ``exp(median(log(slow / fast)))``, and its confidence interval comes
from drawing the pairs anew with replacement (percentile bootstrap).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """How many times longer one model takes than another."""

    value: float
    low: float
    """Lower end of its confidence interval."""
    high: float
    """Upper end."""

    @property
    def farthest(self) -> float:
        """The end of the interval that is farther from 1, as a factor from 1 on."""
        return max(self.high, 1 / self.low)

    def beyond(self, noise: float) -> bool:
        """Return whether the whole interval lies outside ``1 / noise`` to ``noise``."""
        return self.low > noise or self.high < 1 / noise


def paired_ratio(
    slow: NDArray[np.float64],
    fast: NDArray[np.float64],
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> Ratio:
    """Return the ratio of two ``float [pairs]`` arrays of positive times in the same unit."""
    logs = np.log(slow / fast)
    low, high = median_interval(logs, rng, confidence)
    value = np.median(logs)
    return Ratio(value=float(np.exp(value)), low=float(np.exp(low)), high=float(np.exp(high)))


def median_interval(
    values: NDArray[np.float64], rng: np.random.Generator, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the two-sided interval of the median of ``float [N]`` values (percentile bootstrap).

    Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    draws = rng.integers(len(values), size=(RESAMPLES, len(values)))
    ends = [50 * (1 - confidence), 50 * (1 + confidence)]
    low, high = np.percentile(np.median(values[draws], axis=1), ends)
    return float(low), float(high)
