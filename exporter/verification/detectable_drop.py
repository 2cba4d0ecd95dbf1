"""How small a drop a number of images could have shown.

Connor (1987, "Sample size for testing differences in proportions for the paired-sample design",
Biometrics 43): McNemar's test finds a drop d with the wanted power from

    n = ((z_alpha sqrt(f) + z_power sqrt(f - d^2)) / d)^2

images on, where f is the share of images that flip. A drop needs that many flips, so f >= d.
"""

from __future__ import annotations

import math
from statistics import NormalDist

SIGNIFICANCE = 0.05
"""Of the two-sided test."""
POWER = 0.8
"""Probability that a drop of that size would have been found."""
_STEPS = 60


def detectable_drop(flipped_share: float, total: int) -> float:
    """Return the smallest drop that ``total`` images show with a power of 80 %, as a share.

    Args:
        flipped_share: share of images that exactly one of the two models gets right, 0 to 1.
        total: images, at least one.
    """
    z_alpha = NormalDist().inv_cdf(1 - SIGNIFICANCE / 2)
    z_power = NormalDist().inv_cdf(POWER)

    def needed(drop: float) -> float:
        flips = max(flipped_share, drop)
        return ((z_alpha * math.sqrt(flips) + z_power * math.sqrt(flips - drop**2)) / drop) ** 2

    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if needed(middle) <= total:
            high = middle
        else:
            low = middle
    return high
