"""How far the measured drop and speed-up can be trusted, put together for the report."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exporter.report.evidence import (
    AccuracyEvidence,
    ColdStart,
    LatencyEvidence,
    SettingTimes,
    StepLoss,
    Top5,
)
from exporter.verification.accuracy import class_accuracies, compare
from exporter.verification.calibration_error import confidence
from exporter.verification.detectable_drop import detectable_drop
from exporter.verification.latency import Latency
from exporter.verification.score_interval import drop_interval
from exporter.verification.top_k import within_top

MANY_CLASSES = 10
"""Up to so many classes the five likeliest are half of all, and say little."""


def accuracy_evidence(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    steps: tuple[StepLoss, ...],
) -> AccuracyEvidence:
    """Return what there is to know about the drop between two models' ``float [N, classes]``."""
    change, total = compare(before, after, labels), len(labels)
    flips = change.flips.right_to_wrong + change.flips.wrong_to_right
    return AccuracyEvidence(
        mcnemar_p=change.mcnemar_p,
        detectable_drop_points=100 * detectable_drop(flips / total, total),
        dense_confidence=confidence(before, labels),
        shipped_confidence=confidence(after, labels),
        top5=_top5(before, after, labels) if len(classes) > MANY_CLASSES else None,
        classes=class_accuracies(before, after, labels, classes),
        steps=steps,
    )


def latency_evidence(
    latency: Latency,
    settings: tuple[SettingTimes, ...] = (),
    starts: tuple[ColdStart, ...] = (),
) -> LatencyEvidence:
    """Return how the speed-up compares with the noise of the same run, and what else was timed."""
    same, noise = latency.same_file, latency.same_file.farthest
    return LatencyEvidence(
        noise=noise,
        same_file_ratio=same.value,
        same_file_ratio_ci=(same.low, same.high),
        beyond_noise=latency.speedup.beyond(noise),
        settings=settings,
        starts=starts,
    )


def _top5(
    before: NDArray[np.float32], after: NDArray[np.float32], labels: NDArray[np.int64]
) -> Top5:
    first, second = (within_top(5, logits, labels) for logits in (before, after))
    lost, gained, total = int((first & ~second).sum()), int((second & ~first).sum()), len(labels)
    low, high = drop_interval(lost, gained, total)
    return Top5(
        before=100 * int(first.sum()) / total,
        after=100 * int(second.sum()) / total,
        drop_points=100 * (lost - gained) / total,
        drop_ci=(100 * low, 100 * high),
    )
