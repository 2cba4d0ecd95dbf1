"""The clipping threshold that loses the least information (Migacz, GTC 2017, S7310).

Let ``c`` be a histogram of magnitudes. Clipping at bin ``i`` turns it into

* ``p``: the bins below ``i``, with everything beyond added to bin ``i - 1`` (what clipping does);
* ``q``: the bins below ``i`` merged into as many groups as there are levels, each group's count
  spread evenly over its non-empty bins (what rounding does).

The threshold minimises ``KL(p || q) = sum p log(p / q)``. ``q`` is constant within a group, so the
sum over a group's bins needs only their total and how many are not empty. With running sums, all
thresholds together cost ``candidates x levels`` instead of a loop over ``candidates x bins``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.observers import Histogram


def kullback_leibler_threshold(seen: Histogram, levels: int) -> float:
    """Return the magnitude at which to clip; the largest one seen if nothing is gained.

    ``levels`` quantized values cover the whole range of ``seen``; those on the side that reaches
    farther from 0 describe the magnitudes.
    """
    counts = magnitudes(seen)
    reach = max(-seen.low, seen.high)
    # Zeros (padding, ReLU) are represented exactly whatever the range is, but their spike would
    # drown everything else in its group. As in NVIDIA's pytorch-quantization, the first bin
    # counts like its neighbour.
    counts[0] = counts[1]
    groups = round(levels * reach / (seen.high - seen.low)) if seen.high > seen.low else levels
    if len(counts) <= groups or not counts.any():
        return reach
    divergences = clipping_divergences(counts, groups)
    # Equals are won by the last one, which clips least.
    best = len(counts) - int(np.argmin(divergences[::-1]))
    return reach if best == len(counts) else best * seen.width


def magnitudes(seen: Histogram) -> NDArray[np.int64]:
    """Return the histogram of absolute values, in bins of the same width from 0 on."""
    index = (np.abs(seen.centers) / seen.width if seen.width > 0.0 else seen.centers).astype(
        np.intp
    )
    folded = np.zeros(max(int(index.max()) + 1, 2), dtype=np.int64)
    np.add.at(folded, index, seen.counts)
    return folded


def clipping_divergences(counts: NDArray[np.int64], groups: int) -> NDArray[np.float64]:
    """Return ``KL(p || q)`` for clipping after each of ``groups`` to ``len(counts)`` bins.

    Infinite where clipped values would land in an empty bin: ``q`` has nothing there.
    """
    kept = np.arange(groups, len(counts) + 1)
    total_below = np.concatenate([[0], np.cumsum(counts)])
    filled_below = np.concatenate([[0], np.cumsum(counts > 0)])
    inside = total_below[kept]
    beyond = total_below[-1] - inside

    # Bin j belongs to group floor(j * groups / kept), so group g starts at ceil(g * kept / groups).
    starts = -(-np.arange(groups + 1) * kept[:, None] // groups)
    in_group = np.diff(total_below[starts], axis=1)
    filled = np.diff(filled_below[starts], axis=1)

    # sum p log p: running sums for whole bins, and the last bin with what was clipped into it.
    information_below = np.concatenate([[0.0], np.cumsum(_times_log(counts))])
    p_log_p = information_below[kept - 1] + _times_log(counts[kept - 1] + beyond)
    # sum p log q: a group's count, with what was clipped in the last one, times log of its mean.
    mean = in_group / np.maximum(filled, 1)
    log_mean = np.log(mean, where=mean > 0, out=np.zeros_like(mean))
    p_log_q = (in_group * log_mean).sum(axis=1) + beyond * log_mean[:, -1]

    # Both so far on counts: p sums to all of them, q to those inside.
    everything = total_below[-1]
    with np.errstate(divide="ignore"):
        result: NDArray[np.float64] = (p_log_p - p_log_q) / everything + np.log(inside / everything)
    result[(beyond > 0) & (counts[kept - 1] == 0)] = np.inf
    return result


def _times_log(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    values = counts.astype(np.float64)
    logs = np.log(values, where=values > 0, out=np.zeros_like(values))
    product: NDArray[np.float64] = values * logs
    return product
