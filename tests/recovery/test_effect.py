from __future__ import annotations

import math

import numpy as np
import pytest

from exporter.recovery.effect import effect, logit_error

BEFORE = np.array([[0.0, math.log(3)], [2.0, 0.0]], np.float32)


def test_nothing_moved() -> None:
    found = effect(BEFORE, BEFORE)

    assert (found.kl, found.logit_error, found.flips) == (0, 0, 0)


def test_a_shift_of_all_logits_changes_no_probability() -> None:
    found = effect(BEFORE, BEFORE + 5)

    assert found.kl == pytest.approx(0, abs=1e-12)
    assert found.flips == 0
    assert found.logit_error == pytest.approx(5 / math.sqrt((math.log(3) ** 2 + 4) / 4))


def test_the_divergence_is_that_of_the_definition() -> None:
    after = np.array([[0.0, 0.0], [0.0, 2.0]], np.float32)
    first = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    p = 1 / (1 + math.exp(-2))
    second = p * math.log(p / (1 - p)) + (1 - p) * math.log((1 - p) / p)

    found = effect(BEFORE, after)

    assert found.kl == pytest.approx((first + second) / 2, rel=1e-6)
    assert found.flips == 2  # the first of equals is predicted


def test_large_logits_do_not_overflow() -> None:
    assert effect(1e4 * BEFORE, 1e4 * BEFORE[:, ::-1]).kl > 1e3
    assert logit_error(np.zeros((2, 2), np.float32), BEFORE) == math.inf
