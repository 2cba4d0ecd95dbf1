"""Accuracy of two models on the same images.

The images are the same, so what counts is where the models disagree. With b images that only the
first classifies correctly and c that only the second does, the drop is ``(b - c) / n``. Its
interval is that of Agresti and Min (2005, "Simple improved confidence intervals for comparing
matched proportions"): Wald's, after adding half an image to each of the four cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.report.model import Flips, WorstClass

_Z95 = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Top-1 of one model."""

    correct: int
    total: int
    top1: float
    """In percent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What changed from one model to another on the same images."""

    drop_points: float
    """Percentage points that the second model lost; negative if it gained."""
    drop_ci: tuple[float, float]
    """95 % confidence interval of drop_points."""
    changed: int
    """Images with another predicted class."""
    changed_share: float
    """The same as a share, 0 to 1."""
    flips: Flips


def accuracy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Accuracy:
    """Return top-1 of ``float [N, classes]`` logits against ``int [N]`` labels."""
    correct = int((logits.argmax(axis=1) == labels).sum())
    return Accuracy(correct=correct, total=len(labels), top1=_percent(correct, len(labels)))


def majority_top1(labels: NDArray[np.int64]) -> float:
    """Return the top-1 of always answering the most frequent of ``int [N]`` labels, in percent."""
    return _percent(int(np.bincount(labels).max()), len(labels))


def compare(
    before: NDArray[np.float32], after: NDArray[np.float32], labels: NDArray[np.int64]
) -> Comparison:
    """Return what changed between two models' ``float [N, classes]`` logits."""
    first, second = before.argmax(axis=1), after.argmax(axis=1)
    changed = first != second
    lost = int((changed & (first == labels)).sum())
    gained = int((changed & (second == labels)).sum())
    total = len(labels)
    return Comparison(
        # One division of whole numbers is rounded correctly: a drop of 3 in 1000 images is the
        # same float as a limit of 0.3, which top1 - top1 would miss.
        drop_points=_percent(lost - gained, total),
        drop_ci=_paired_interval(lost, gained, total),
        changed=int(changed.sum()),
        changed_share=int(changed.sum()) / total,
        flips=Flips(
            right_to_wrong=lost,
            wrong_to_right=gained,
            wrong_to_wrong=int(changed.sum()) - lost - gained,
        ),
    )


def worst_class(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
) -> WorstClass:
    """Return the class with the largest drop; of equals, the first. Absent classes don't count."""
    counts = np.bincount(labels, minlength=len(classes))
    right_before = np.bincount(labels[before.argmax(axis=1) == labels], minlength=len(classes))
    right_after = np.bincount(labels[after.argmax(axis=1) == labels], minlength=len(classes))
    present = np.flatnonzero(counts)
    drops = (right_before - right_after)[present] / counts[present]
    worst = int(present[drops.argmax()])
    count = int(counts[worst])
    return WorstClass(
        name=classes[worst],
        before=_percent(int(right_before[worst]), count),
        after=_percent(int(right_after[worst]), count),
        drop_points=_percent(int(right_before[worst] - right_after[worst]), count),
        count=count,
    )


def _paired_interval(lost: int, gained: int, total: int) -> tuple[float, float]:
    b, c, n = lost + 0.5, gained + 0.5, total + 2
    center = (b - c) / n
    spread = _Z95 * math.sqrt(b + c - (b - c) ** 2 / n) / n
    return 100 * max(center - spread, -1.0), 100 * min(center + spread, 1.0)


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole
