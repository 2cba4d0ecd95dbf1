from __future__ import annotations

import numpy as np
import pytest

from exporter.verification.top_k import within_top


@pytest.mark.parametrize("k", [1, 2, 5])
def test_it_agrees_with_sorting(k: int) -> None:
    rng = np.random.default_rng(0)
    logits = rng.integers(0, 4, (200, 12)).astype(np.float32)  # many ties
    labels = rng.integers(12, size=200)

    expected = [
        label in sorted(range(12), key=lambda index: (-row[index], index))[:k]
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    ]

    assert within_top(k, logits, labels).tolist() == expected


def test_top_1_is_that_of_argmax() -> None:
    logits = np.array([[1, 1, 0], [0, 1, 1]], np.float32)

    assert within_top(1, logits, np.array([1, 1])).tolist() == [False, True]
