from __future__ import annotations

import math

import numpy as np
import pytest

from exporter.report.evidence import Confidence
from exporter.verification.calibration_error import BINS, confidence


def test_it_is_the_mean_distance_of_confidence_and_accuracy_by_bin() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (300, 4)).astype(np.float32)
    labels = rng.integers(4, size=300)
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        shares = [math.exp(value) / sum(map(math.exp, row)) for value in row]
        bins[math.ceil(max(shares) * BINS) - 1].append((max(shares), shares[label] == max(shares)))
    error = sum(
        len(found)
        / 300
        * abs(
            sum(right for _, right in found) / len(found)
            - sum(sure for sure, _ in found) / len(found)
        )
        for found in bins
        if found
    )
    mean = sum(sure for found in bins for sure, _ in found) / 300

    result = confidence(logits, labels)

    assert result.calibration_error == pytest.approx(100 * error, abs=1e-4)
    assert result.mean == pytest.approx(100 * mean, abs=1e-4)


def test_a_model_that_is_sure_and_right_is_calibrated() -> None:
    logits = np.eye(3, dtype=np.float32) * 200

    assert confidence(logits, np.arange(3)) == Confidence(mean=100.0, calibration_error=0.0)


def test_a_model_that_is_sure_and_wrong_is_not() -> None:
    logits = np.eye(3, dtype=np.float32) * 200

    assert confidence(logits, np.array([1, 2, 0])).calibration_error == 100.0
