"""Accuracy of two models on the same images.

The images are the same, so what counts is where the models disagree. With b images that only the
first classifies correctly and c that only the second does, the drop is ``(b - c) / n``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.report.evidence import ClassAccuracy
from exporter.report.model import Flips, WorstClass
from exporter.verification.mcnemar import mcnemar_p
from exporter.verification.score_interval import drop_interval


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
    """Confidence interval of drop_points."""
    mcnemar_p: float
    """How likely chance alone gives a drop or gain as large."""
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
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    labels: NDArray[np.int64],
    confidence: float = 0.95,
) -> Comparison:
    """Return what changed between two models' ``float [N, classes]`` logits."""
    first, second = before.argmax(axis=1), after.argmax(axis=1)
    changed = first != second
    lost = int((changed & (first == labels)).sum())
    gained = int((changed & (second == labels)).sum())
    total = len(labels)
    low, high = drop_interval(lost, gained, total, confidence)
    return Comparison(
        # One division of whole numbers is rounded correctly: a drop of 3 in 1000 images is the
        # same float as a limit of 0.3, which top1 - top1 would miss.
        drop_points=_percent(lost - gained, total),
        drop_ci=(100 * low, 100 * high),
        mcnemar_p=mcnemar_p(lost, gained),
        changed=int(changed.sum()),
        changed_share=int(changed.sum()) / total,
        flips=Flips(
            right_to_wrong=lost,
            wrong_to_right=gained,
            wrong_to_wrong=int(changed.sum()) - lost - gained,
        ),
    )


def class_accuracies(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
) -> tuple[ClassAccuracy, ...]:
    """Return the accuracy of every class that has images, in the order of the classes."""
    right_before, right_after = before.argmax(axis=1) == labels, after.argmax(axis=1) == labels

    def images(condition: NDArray[np.bool_]) -> list[int]:
        return [int(count) for count in np.bincount(labels[condition], minlength=len(classes))]

    counts = np.bincount(labels, minlength=len(classes))
    present = [int(index) for index in np.flatnonzero(counts)]
    found_before, found_after = images(right_before), images(right_after)
    lost, gained = images(right_before & ~right_after), images(right_after & ~right_before)
    return tuple(
        ClassAccuracy(
            name=classes[index],
            count=int(counts[index]),
            before=_percent(found_before[index], int(counts[index])),
            after=_percent(found_after[index], int(counts[index])),
            drop_points=_percent(lost[index] - gained[index], int(counts[index])),
            lost=lost[index],
            gained=gained[index],
            mcnemar_p=min(1.0, len(present) * mcnemar_p(lost[index], gained[index])),
        )
        for index in present
    )


def worst_class(found: tuple[ClassAccuracy, ...]) -> WorstClass:
    """Return the class with the largest drop; of equals, the first."""
    worst = max(found, key=lambda entry: entry.drop_points)
    return WorstClass(
        name=worst.name,
        before=worst.before,
        after=worst.after,
        drop_points=worst.drop_points,
        count=worst.count,
    )


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole
