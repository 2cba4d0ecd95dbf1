"""Confidence interval of the drop between two classifiers on the same images.

Tango's score interval (1998, "Equivalence test and confidence interval for the difference in
proportions for the paired-sample design", Statistics in Medicine 17): all drops d that the score
test does not reject, ``|b - c - n d| <= z * sqrt(n (2 q + d (1 - d)))``, where q is the most likely
share of gained images if the drop were d. Fagerland, Lydersen and Laake (2014, "Recommended tests
and confidence intervals for paired binomial proportions") recommend it for any number of images.

A bootstrap would draw the same flips anew and give an interval of no width where none was seen;
this one says what n images without a flip leave possible, ``z^2 / (n + z^2)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

_STEPS = 60
"""Halvings of an interval of at most length 2: down to a rounding error."""


def drop_interval(
    lost: int, gained: int, total: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the two-sided interval of ``(lost - gained) / total``, as shares from -1 to 1.

    Args:
        lost: images that only the first classifier gets right.
        gained: images that only the second gets right.
        total: all images, at least one.
        confidence: share of intervals that hold the true drop, from 0 to below 1.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (lost - gained) / total

    def accepted(drop: float) -> bool:
        distance = abs(lost - gained - total * drop)
        return distance <= z * math.sqrt(total * _variance(lost, gained, total, drop))

    return _boundary(accepted, middle, -1.0), _boundary(accepted, middle, 1.0)


def _variance(lost: int, gained: int, total: int, drop: float) -> float:
    """Return the variance of one image's contribution, under the most likely cells for ``drop``."""
    a = 2 * total
    b = (a - lost + gained) * drop - lost - gained
    c = -gained * drop * (1 - drop)
    share_gained = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    return max(2 * share_gained + drop * (1 - drop), 0.0)


def _boundary(accepted: Callable[[float], bool], inside: float, outside: float) -> float:
    """Return where ``accepted`` ends between a value it holds for and the end of the range."""
    if accepted(outside):
        return outside
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if accepted(middle):
            inside = middle
        else:
            outside = middle
    return inside
