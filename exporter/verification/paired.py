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
    """Lower end of the 95 % confidence interval."""
    high: float
    """Upper end."""


def paired_ratio(
    slow: NDArray[np.float64], fast: NDArray[np.float64], rng: np.random.Generator
) -> Ratio:
    """Return the ratio of two ``float [pairs]`` arrays of positive times in the same unit."""
    logs = np.log(slow / fast)
    draws = rng.integers(len(logs), size=(RESAMPLES, len(logs)))
    low, high = np.percentile(np.median(logs[draws], axis=1), [2.5, 97.5])
    value = np.median(logs)
    return Ratio(value=float(np.exp(value)), low=float(np.exp(low)), high=float(np.exp(high)))
