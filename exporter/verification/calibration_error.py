"""How far a classifier's confidence is from how often it is right.

Expected calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks",
1706.04599): images are put into bins of equal width by the largest softmax value; the error is the
mean over images of ``|share right in the bin - mean confidence in the bin|``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exporter.report.evidence import Confidence

BINS = 15
"""As in the paper."""


def confidence(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Confidence:
    """Return mean confidence and calibration error of ``float [N, classes]`` logits, in percent."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    confident = 1 / np.exp(shifted).sum(axis=1)  # the largest softmax value: exp(0) over the sum
    right = logits.argmax(axis=1) == labels
    # Bins are (low, high], as in the paper.
    bins = np.clip(np.ceil(confident * BINS).astype(np.int64) - 1, 0, BINS - 1)
    excess = np.bincount(bins, weights=right - confident, minlength=BINS)
    return Confidence(
        mean=100 * float(confident.mean()),
        calibration_error=100 * float(np.abs(excess).sum()) / len(labels),
    )
