"""Whether two classifiers differ on the same images by more than chance.

McNemar's exact test (1947, "Note on the sampling error of the difference between correlated
proportions or percentages"): only images that exactly one of the two classifies correctly tell them
apart. If both are equally good, each such image is a fair coin.
"""

from __future__ import annotations


def mcnemar_p(lost: int, gained: int) -> float:
    """Return the two-sided exact p-value, ``min(1, 2 * P(X <= min(lost, gained)))``.

    X is binomial with ``lost + gained`` trials and probability 1/2. No flips give 1.

    Args:
        lost: images that only the first classifier gets right.
        gained: images that only the second gets right.
    """
    flips = lost + gained
    tail = ways = 1
    for count in range(min(lost, gained)):  # ways: of choosing count + 1 among the flips
        ways = ways * (flips - count) // (count + 1)
        tail += ways
    return min(1.0, float(2 * tail / 2**flips))
