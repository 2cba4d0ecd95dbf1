from __future__ import annotations

import numpy as np
import pytest

from exporter.verification.paired import Ratio, median_interval, paired_ratio


def test_ratio_is_the_exponential_of_the_median_log() -> None:
    fast = np.array([1.0, 1.0, 1.0, 1.0])
    slow = np.array([2.0, 100.0, 4.0, 9.0])

    result = paired_ratio(slow, fast, np.random.default_rng(0))

    assert result.value == pytest.approx(6.0)  # median of log 2, 4, 9, 100: sqrt(4 * 9)
    assert 1.99 < result.low < result.value < result.high < 100.01


def test_a_disturbance_of_both_cancels() -> None:
    rng = np.random.default_rng(1)
    disturbance = rng.lognormal(0, 1, size=200)

    result = paired_ratio(3.0 * disturbance, 1.0 * disturbance, rng)

    assert result.value == pytest.approx(3.0)
    assert result.high - result.low < 1e-9


def test_ratio_can_be_below_one() -> None:
    times = np.ones(20)

    result = paired_ratio(times, 4 * times, np.random.default_rng(0))

    assert (result.low, result.value, result.high) == pytest.approx((0.25, 0.25, 0.25))


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(2)
    slow, fast = rng.lognormal(1, 0.1, 50), rng.lognormal(0, 0.1, 50)

    first = paired_ratio(slow, fast, np.random.default_rng(3))

    assert first == paired_ratio(slow, fast, np.random.default_rng(3))


def test_interval_covers_the_true_ratio_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    truth, trials, pairs = 2.5, 200, 60
    covered = 0
    for _ in range(trials):
        common = rng.lognormal(0, 0.5, pairs)
        slow = truth * common * rng.lognormal(0, 0.05, pairs)
        fast = common * rng.lognormal(0, 0.05, pairs)
        result = paired_ratio(slow, fast, rng)
        covered += result.low <= truth <= result.high
        assert result.high / result.low < 1.1  # the common factor must not widen it
    assert 0.90 <= covered / trials <= 0.99


@pytest.mark.parametrize(
    ("low", "high", "beyond"),
    [
        (1.06, 1.2, True),
        (1.05, 1.2, False),
        (0.9, 1.2, False),
        (0.99, 1.01, False),
        (0.7, 0.94, True),
        (0.7, 0.96, False),
    ],
)
def test_a_ratio_is_beyond_the_noise_with_its_whole_interval(
    low: float, high: float, beyond: bool
) -> None:
    assert Ratio(value=1.0, low=low, high=high).beyond(1.05) is beyond


@pytest.mark.parametrize(("low", "high", "farthest"), [(0.8, 1.1, 1.25), (0.9, 1.5, 1.5)])
def test_the_noise_is_the_end_farther_from_one(low: float, high: float, farthest: float) -> None:
    assert Ratio(value=1.0, low=low, high=high).farthest == pytest.approx(farthest)


def test_more_confidence_is_wider() -> None:
    values = np.random.default_rng(0).normal(5, 1, 100)

    wide = median_interval(values, np.random.default_rng(1), 0.99)
    narrow = median_interval(values, np.random.default_rng(1), 0.5)

    assert wide[0] < narrow[0] < np.median(values) < narrow[1] < wide[1]
