from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration import Histogram, MinMax
from tests.calibration.nets import floats


def random_batches(count: int = 5) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(3)
    # Larger than a chunk of the binning loop, and not a multiple of it.
    return [random.normal(0.3, 2.0, (3, 101, 131)).astype(np.float32) for _ in range(count)]


def filled(batches: list[NDArray[np.float32]], bins: int = 2048) -> Histogram:
    values = np.concatenate([batch.ravel() for batch in batches])
    histogram = Histogram(float(values.min()), float(values.max()), bins)
    for batch in batches:
        histogram.update(batch)
    return histogram


def test_minmax_over_batches_of_any_shape() -> None:
    extremes = MinMax()
    extremes.update(floats([[1, -2]]))
    extremes.update(floats(3))
    extremes.update(floats([0.5]))

    assert (extremes.low, extremes.high) == (-2.0, 3.0)
    assert extremes.is_finite


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_minmax_never_forgets_what_is_not_finite(bad: float, position: int) -> None:
    extremes = MinMax()
    for index in range(3):
        extremes.update(floats([1, bad if index == position else 2]))

    assert not extremes.is_finite


def test_minmax_that_saw_nothing_is_not_finite() -> None:
    extremes = MinMax()
    extremes.update(np.zeros((0, 3), np.float32))

    assert not extremes.is_finite


def test_histogram_counts_by_hand() -> None:
    histogram = Histogram(-1.0, 3.0, bins=4)
    histogram.update(floats([[-1, -0.5, 0, 0.99], [1, 2, 2.5, 3]]))

    assert histogram.edges.tolist() == [-1, 0, 1, 2, 3]
    assert histogram.centers.tolist() == [-0.5, 0.5, 1.5, 2.5]
    assert histogram.counts.tolist() == [2, 2, 1, 3]  # 3.0 is in the last bin, 1.0 in the third
    assert histogram.counts.dtype == np.int64


def test_histogram_agrees_with_numpy() -> None:
    batches = random_batches()
    histogram = filled(batches)

    values = np.concatenate([batch.ravel() for batch in batches]).astype(np.float64)
    expected, edges = np.histogram(values, 2048, (histogram.low, histogram.high))
    np.testing.assert_allclose(histogram.edges, edges, rtol=0, atol=1e-12)
    # A value within float64 rounding of an edge may be on either side of it.
    assert np.abs(np.cumsum(histogram.counts) - np.cumsum(expected)).max() <= 2
    assert histogram.counts.sum() == values.size


def test_histogram_does_not_depend_on_batches_or_their_order() -> None:
    batches = random_batches()
    whole = np.concatenate(batches)
    ragged = [whole[:1], whole[1:9], whole[9:]]

    expected = filled(batches).counts
    assert np.array_equal(filled(batches[::-1]).counts, expected)
    assert np.array_equal(filled(ragged).counts, expected)


@pytest.mark.parametrize(
    ("low", "high", "edges"), [(2.0, 4.0, (0.0, 4.0)), (-4.0, -2.0, (-4.0, 0.0))]
)
def test_histogram_always_reaches_zero(low: float, high: float, edges: tuple[float, float]) -> None:
    histogram = Histogram(low, high, bins=4)
    histogram.update(floats([low, high]))

    assert (histogram.low, histogram.high) == edges
    assert histogram.counts.sum() == 2


def test_histogram_of_zeros_only() -> None:
    histogram = Histogram(0.0, 0.0)
    histogram.update(np.zeros((4, 4), np.float32))

    assert histogram.counts[0] == 16
    assert histogram.counts.sum() == 16


@pytest.mark.parametrize("scale", [1e-44, 3e38])
def test_histogram_of_the_smallest_and_largest_floats(scale: float) -> None:
    values = floats([-1, 0, 0.5, 1]) * np.float32(scale)
    histogram = filled([values], bins=8)

    assert histogram.counts.sum() == 4
    assert histogram.counts[0] == 1
    assert histogram.counts[-1] == 1


@pytest.mark.parametrize("outside", [-1.1, 3.1, math.nan, math.inf])
def test_histogram_refuses_values_outside_its_edges(outside: float) -> None:
    histogram = Histogram(-1.0, 3.0, bins=4)
    with pytest.raises(ValueError, match="outside -1 to 3"):
        histogram.update(floats([0, outside]))

    assert histogram.counts.sum() == 0


def test_histogram_takes_an_empty_batch() -> None:
    histogram = Histogram(-1.0, 3.0, bins=4)
    histogram.update(np.zeros((0, 2), np.float32))

    assert histogram.counts.sum() == 0
