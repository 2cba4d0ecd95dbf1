"""Accuracy where one of the k likeliest classes may be the right one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def within_top(k: int, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each image whether its label is among the ``k`` largest of its logits.

    Of equal logits the class of the lower number counts as larger, as ``argmax`` has it, so that
    k = 1 is top-1.

    Args:
        k: how many classes are looked at.
        logits: ``float [N, classes]``.
        labels: ``int [N]``.
    """
    own = np.take_along_axis(logits, labels[:, np.newaxis], axis=1)
    lower = np.arange(logits.shape[1]) < labels[:, np.newaxis]
    ahead = (logits > own) | ((logits == own) & lower)
    found: NDArray[np.bool_] = ahead.sum(axis=1) < k
    return found
