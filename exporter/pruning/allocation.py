"""How wide each group stays when a share of all channels is to go.

Three rules: the lowest scores of the whole network go, the lowest of each group, or from each group
as much as a sensitivity scan found it can lose. Under all three, widths never grow with the share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from exporter.pruning.threshold import rounded_width, survivors

Curve = tuple[tuple[float, float], ...]
"""What pruning one group alone costs: (share removed, percentage points of top-1 lost), by rising
share."""

SLOPE = 1e-3
"""Points added to a curve per unit of share, so that of two free removals the larger is dearer."""
ALL_GONE = (1.0, 100.0)
"""Where every curve ends: a group without channels leaves nothing of the accuracy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """A rule with all that it looks at."""

    scores: Mapping[str, Tensor]
    """Per group, ``[C]``: the scores of the channels that are left."""
    removed: Mapping[str, int]
    """Per group, the channels that are gone already."""
    scope: Literal["global", "layer", "sensitivity"]
    comparable: bool
    """Whether scores of different groups are on one scale."""
    multiples: Mapping[str, int]
    """Per group, what kept widths are multiples of."""
    curves: Mapping[str, Curve]
    """Per group, for the scope ``sensitivity``."""

    def widths(self, share: float) -> dict[str, int]:
        """Return the width of each group once ``share`` of all channels is gone.

        The share counts from the network as it was before any round, in [0, 1).
        """
        counts = self.counts(share)
        return {
            name: rounded_width(counts[name], scores.numel(), self.multiples[name])
            for name, scores in self.scores.items()
        }

    def counts(self, share: float) -> dict[str, int]:
        """Return the same before rounding."""
        if self.scope == "sensitivity":
            return self._tolerated_counts(share)
        return survivors(self.scores, self.removed, share, self.scope, comparable=self.comparable)

    def _tolerated_counts(self, share: float) -> dict[str, int]:
        left = {name: scores.numel() for name, scores in self.scores.items()}
        before = {name: count + self.removed[name] for name, count in left.items()}
        shares = tolerated_shares({name: self.curves[name] for name in before}, before, share)
        return {
            name: min(left[name], int(width * (1 - shares[name]) + 0.5))
            for name, width in before.items()
        }


def tolerated_shares(
    curves: Mapping[str, Curve], widths: Mapping[str, int], share: float
) -> dict[str, float]:
    """Return the share that each group loses, so that ``share`` of all channels goes.

    Every group loses as much as costs it at most the same number of percentage points; that common
    limit is found by bisection.
    """

    def at(limit: float) -> dict[str, float]:
        return {name: tolerated(curve, limit) for name, curve in curves.items()}

    def enough(limit: float) -> bool:
        shares = at(limit)
        return sum(shares[name] * width for name, width in widths.items()) >= wanted

    wanted = share * sum(widths.values())
    return at(smallest(enough, highest=ALL_GONE[1] + SLOPE, halvings=40))


def tolerated(curve: Curve, limit: float) -> float:
    """Return the largest share up to which ``curve`` stays within ``limit``, interpolated.

    A loss that shrinks again at a larger share is noise of the scan: no loss counts for less than
    one at a smaller share.
    """
    share, cost, worst = 0.0, 0.0, 0.0
    for next_share, loss in (*curve, ALL_GONE):
        worst = max(worst, loss)
        next_cost = worst + SLOPE * next_share
        if next_cost > limit:
            return share + (next_share - share) * (limit - cost) / (next_cost - cost)
        share, cost = next_share, next_cost
    return share


def smallest(meets: Callable[[float], bool], *, highest: float, halvings: int) -> float:
    """Return the smallest number from 0 to ``highest`` that ``meets`` accepts, by bisection.

    ``highest`` is taken for accepted, and so is every number above an accepted one. Unless it is 0,
    the answer may be too large by ``highest / 2 ** halvings``; it is never too small.
    """
    if meets(0.0):
        return 0.0
    low, high = 0.0, highest
    for _ in range(halvings):
        middle = (low + high) / 2
        if meets(middle):
            high = middle
        else:
            low = middle
    return high
