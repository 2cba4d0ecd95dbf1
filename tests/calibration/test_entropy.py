from __future__ import annotations

import math

import numpy as np
import pytest

from calibration import METHODS, Histogram
from calibration.entropy import (
    clipping_divergences,
    kullback_leibler_threshold,
    magnitudes,
)


def slow_divergence(counts: list[int], kept: int, groups: int) -> float:
    """Migacz's KL(p || q) for clipping after ``kept`` bins, written out loop by loop."""
    p = [float(count) for count in counts[:kept]]
    p[-1] += sum(counts[kept:])
    members: list[list[int]] = [[] for _ in range(groups)]
    for index in range(kept):
        members[index * groups // kept].append(index)
    q = [0.0] * kept
    for group in members:
        nonempty = [index for index in group if counts[index] > 0]
        for index in nonempty:
            q[index] = sum(counts[member] for member in group) / len(nonempty)
    p_sum, q_sum = sum(p), sum(q)
    divergence = 0.0
    for p_count, q_count in zip(p, q, strict=True):
        if p_count > 0 and q_count == 0:
            return math.inf
        if p_count > 0:
            p_share, q_share = p_count / p_sum, q_count / q_sum
            divergence += p_share * math.log(p_share / q_share)
    return divergence


@pytest.mark.parametrize("seed", range(8))
def test_divergences_are_those_of_the_slow_reference(seed: int) -> None:
    random = np.random.default_rng(seed)
    bins, groups = int(random.integers(20, 90)), int(random.integers(3, 17))
    counts = random.poisson(40 * np.exp(-np.arange(bins) / 15)).astype(np.int64)
    counts[-1] = max(counts[-1], 1)

    divergences = clipping_divergences(counts, groups)

    expected = [slow_divergence(counts.tolist(), kept, groups) for kept in range(groups, bins + 1)]
    assert math.inf in expected  # the empty bins of the tail are covered
    np.testing.assert_allclose(divergences, expected, rtol=1e-9, atol=1e-12)


def test_divergence_by_hand() -> None:
    # Kept whole, two groups of two bins. p = (1, 3, 2, 2) / 8, q = (2, 2, 2, 2) / 8.
    divergences = clipping_divergences(np.array([1, 3, 2, 2]), groups=2)

    assert divergences[-1] == pytest.approx(1 / 8 * math.log(1 / 2) + 3 / 8 * math.log(3 / 2))
    # Clipped after two bins, a group each: p = (1, 3 + 4) / 8, q = (1, 3) / 4.
    assert divergences[0] == pytest.approx(
        1 / 8 * math.log((1 / 8) / (1 / 4)) + 7 / 8 * math.log((7 / 8) / (3 / 4))
    )


def test_counts_as_fine_as_the_levels_lose_nothing() -> None:
    divergences = clipping_divergences(np.array([5, 4, 3, 2]), groups=4)

    assert divergences == pytest.approx([0.0], abs=1e-12)


def test_magnitudes_of_a_symmetric_histogram() -> None:
    seen = Histogram(-2.0, 2.0, bins=8)
    seen.counts[:] = [1, 2, 3, 4, 5, 6, 7, 8]

    assert magnitudes(seen).tolist() == [9, 9, 9, 9]


def test_magnitudes_of_a_one_sided_histogram() -> None:
    seen = Histogram(-4.0, 0.0, bins=4)
    seen.counts[:] = [1, 2, 3, 4]

    assert magnitudes(seen).tolist() == [4, 3, 2, 1]


def test_threshold_is_the_reference_minimum() -> None:
    random = np.random.default_rng(5)
    values = np.maximum(random.laplace(size=20_000), 0).astype(np.float32)
    seen = Histogram(0.0, float(values.max()), bins=256)
    seen.update(values)

    counts = seen.counts.tolist()
    counts[0] = counts[1]
    slow = {kept: slow_divergence(counts, kept, 32) for kept in range(32, 257)}
    best = min(slow.values())
    expected = max(kept for kept, value in slow.items() if value <= best + 1e-12)

    threshold = kullback_leibler_threshold(seen, levels=32)
    assert threshold == pytest.approx(expected * seen.width)
    assert threshold < seen.high  # the test would prove nothing on an unclipped range


def test_the_spike_at_zero_does_not_matter() -> None:
    random = np.random.default_rng(6)
    values = np.abs(random.normal(size=30_000)).astype(np.float32)
    without = Histogram(0.0, float(values.max()))
    without.update(values)
    spiked = Histogram(0.0, float(values.max()))
    spiked.update(np.concatenate([values, np.zeros(1_000_000, np.float32)]))

    assert METHODS["entropy"].choose(spiked) == METHODS["entropy"].choose(without)


def test_long_tails_are_clipped_and_flat_values_are_not() -> None:
    random = np.random.default_rng(8)
    tailed = np.abs(random.standard_t(3, 200_000)).astype(np.float32)
    flat = random.uniform(0, 1, 200_000).astype(np.float32)
    chosen = {}
    for name, values in (("tailed", tailed), ("flat", flat)):
        seen = Histogram(0.0, float(values.max()))
        seen.update(values)
        chosen[name] = METHODS["entropy"].choose(seen).high / seen.high

    assert chosen["tailed"] < 0.9
    assert chosen["flat"] > 0.98


def test_a_symmetric_range_has_half_of_the_levels_on_each_side() -> None:
    random = np.random.default_rng(10)
    values = np.abs(random.standard_t(3, 50_000)).astype(np.float32)
    top = float(values.max())
    one_sided, both_sided = Histogram(0.0, top, bins=512), Histogram(-top, top, bins=1024)
    one_sided.update(values)
    both_sided.update(np.concatenate([values, -values]))

    threshold = kullback_leibler_threshold(both_sided, levels=128)
    assert threshold == pytest.approx(kullback_leibler_threshold(one_sided, levels=64))
    assert threshold != pytest.approx(kullback_leibler_threshold(one_sided, levels=128))


def test_fewer_bins_than_levels_clip_nothing() -> None:
    seen = Histogram(0.0, 8.0, bins=8)
    seen.counts[:] = [9, 5, 3, 2, 1, 1, 1, 1]

    assert kullback_leibler_threshold(seen, levels=256) == 8.0


@pytest.mark.parametrize("low", [-0.7351, -1.3333, -2.9])
def test_a_range_that_is_not_clipped_reaches_exactly_what_was_seen(low: float) -> None:
    seen = Histogram(low, 3.0)
    seen.counts[:] = 100

    assert kullback_leibler_threshold(seen, levels=256) == 3.0


def test_both_sides_share_a_threshold_and_keep_their_own_end() -> None:
    random = np.random.default_rng(9)
    values = random.standard_t(3, 200_000).astype(np.float32)
    values = values[values > -2.0]
    seen = Histogram(float(values.min()), float(values.max()))
    seen.update(values)

    chosen = METHODS["entropy"].choose(seen)

    assert chosen.low == seen.low
    assert 2.0 < chosen.high < seen.high
