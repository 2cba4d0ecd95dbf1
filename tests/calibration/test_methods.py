from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration import METHODS, CalibrationError, Histogram, find_method
from calibration.methods import STEPS, TAIL, quantization_errors
from tests.calibration import nets

SAMPLES = 40_500
"""No whole number of them is 0.01 %, so that the percentiles fall between two values."""
MSE_SLACK = 1.02
"""The histogram's best range against the best on the raw values: the grid of clipping points
differs, and near the minimum the error is flat."""


def histogram_of(values: NDArray[Any], bins: int = 2048) -> Histogram:
    values = np.asarray(values, dtype=np.float32)
    histogram = Histogram(float(values.min()), float(values.max()), bins)
    histogram.update(values)
    return histogram


def distributions() -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(7)
    gauss = random.normal(0.2, 1.0, SAMPLES)
    laplace = random.laplace(0.0, 1.0, SAMPLES)
    return {
        "gauss": gauss,
        "laplace": laplace,
        "relu": np.maximum(gauss, 0),
        "relu of laplace": np.maximum(laplace, 0),
        "mirrored relu": -np.maximum(gauss, 0),
        "uniform": random.uniform(-1, 3, SAMPLES),
        "outlier": np.append(gauss, 60.0),
        "leaky": np.where(laplace > 0, laplace, 0.01 * laplace),
        "three values": random.choice([-1.0, 0.0, 7.0], SAMPLES),
        "constant": np.full(100, 5.0),
        "negative constant": np.full(100, -3.0),
        "zeros": np.zeros(100),
        "one value": np.array([2.5]),
    }


VALUES = {name: values.astype(np.float32) for name, values in distributions().items()}


def squared_error(values: NDArray[Any], low: float, high: float) -> float:
    """Quantize ``values`` to uint8 and back, and return the mean squared error."""
    scale = (high - low) / 255
    zero_point = round(-low / scale)
    levels = np.clip(np.round(values.astype(np.float64) / scale) + zero_point, 0, 255)
    return float(np.mean(((levels - zero_point) * scale - values) ** 2))


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_within_what_was_seen_and_contains_zero(method: str, name: str) -> None:
    seen = histogram_of(VALUES[name])
    chosen = METHODS[method].choose(seen)

    assert seen.low <= chosen.low <= 0.0 <= chosen.high <= seen.high
    assert METHODS[method].choose(seen) == chosen
    if seen.high > seen.low:
        assert chosen.high > chosen.low


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["constant", "negative constant", "one value", "zeros"])
def test_every_method_keeps_a_constant(method: str, name: str) -> None:
    chosen = METHODS[method].choose(histogram_of(VALUES[name]))
    value = float(VALUES[name][0])

    assert (chosen.low, chosen.high) == (min(value, 0.0), max(value, 0.0))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_its_histogram_alone(method: str) -> None:
    seen = histogram_of(VALUES["relu"])
    before = seen.counts.copy()
    METHODS[method].choose(seen)

    assert np.array_equal(seen.counts, before)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_mirrored_with_its_values(method: str) -> None:
    random = np.random.default_rng(11)
    # Values in the middle of a bin, so that the mirror image has exactly the mirrored histogram.
    values = (random.binomial(2047, 0.3, SAMPLES) - 1023.5).astype(np.float32)
    values = np.concatenate([values, [-1024.0, 1024.0]])
    one, other = (METHODS[method].choose(histogram_of(sign * values)) for sign in (1, -1))

    assert one.low == pytest.approx(-other.high, rel=0.02)
    assert one.high == pytest.approx(-other.low, rel=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_table_is_keyed_by_name_and_documents_its_source(method: str) -> None:
    row = METHODS[method]

    assert row.name == method
    assert find_method(method) is row
    assert "\n" not in row.summary
    assert 20 <= len(row.summary) <= 80
    assert "Source: " in (row.choose.__doc__ or "")


@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name].needs_counts])
def test_a_method_that_needs_no_counts_ignores_them(method: str) -> None:
    filled = histogram_of(VALUES["gauss"])

    assert METHODS[method].choose(Histogram(filled.low, filled.high)) == METHODS[method].choose(
        filled
    )


def test_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(CalibrationError) as caught:
        find_method("median")

    assert all(name in str(caught.value) for name in ("median", *METHODS))


def test_minmax_clips_nothing() -> None:
    chosen = METHODS["minmax"].choose(histogram_of(nets.floats([-3, 1, 7])))

    assert (chosen.low, chosen.high) == (-3.0, 7.0)


def test_percentile_by_hand() -> None:
    # 100,000 values in 10 bins of width 1; one in 10,000 may be cut on each side: 10 of them.
    seen = Histogram(-5.0, 5.0, bins=10)
    seen.counts[:] = [4, 6, 1, 40_000, 20_000, 30_000, 9_977, 2, 5, 5]
    assert seen.counts.sum() == 100_000

    chosen = METHODS["percentile"].choose(seen)

    # 4 + 6 values may go on the left and 5 + 5 on the right; one more would be too many.
    assert (chosen.low, chosen.high) == (-3.0, 3.0)


@pytest.mark.parametrize("name", ["gauss", "laplace", "relu", "uniform", "outlier", "leaky"])
def test_percentile_is_numpys_within_a_bin(name: str) -> None:
    values = VALUES[name].astype(np.float64)
    seen = histogram_of(values)
    chosen = METHODS["percentile"].choose(seen)

    low = min(0.0, np.quantile(values, TAIL, method="lower"))
    high = max(0.0, np.quantile(values, 1 - TAIL, method="higher"))
    assert abs(chosen.low - low) <= seen.width * 1.0001
    assert abs(chosen.high - high) <= seen.width * 1.0001


@pytest.mark.parametrize("name", VALUES)
def test_percentile_cuts_at_most_its_share_on_each_side(name: str) -> None:
    values = VALUES[name]
    chosen = METHODS["percentile"].choose(histogram_of(values))
    most = values.size * TAIL

    assert np.count_nonzero(values < np.float32(chosen.low)) <= most
    assert np.count_nonzero(values > np.float32(chosen.high)) <= most


def test_quantization_error_by_hand() -> None:
    seen = Histogram(0.0, 512.0, bins=512)  # bin k stands for k + 0.5
    seen.counts[[0, 10, 300]] = [2, 1, 1]

    errors = quantization_errors(seen, np.zeros(2), np.array([255.0, 510.0]))

    # Scale 1: 0.5 -> 0 and 10.5 -> 10 (ties to even), 300.5 is clipped to 255.
    # Scale 2: 0.5 -> 0, 10.5 -> 10, 300.5 -> 300.
    assert errors[0] == pytest.approx((2 * 0.25 + 0.25 + 45.5**2) / 4)
    assert errors[1] == pytest.approx((2 * 0.25 + 0.25 + 0.25) / 4)


def test_quantization_error_has_a_zero_point() -> None:
    seen = Histogram(-128.0, 128.0, bins=512)  # bins of a half; the middle of bin 0 is -127.75
    seen.counts[0] = 1

    errors = quantization_errors(seen, np.array([-100.0, -127.0]), np.array([155.0, 128.0]))

    assert errors == pytest.approx([27.75**2, 0.75**2])


@pytest.mark.parametrize(
    "name", ["gauss", "laplace", "relu", "relu of laplace", "outlier", "leaky"]
)
def test_quantization_error_is_that_of_the_raw_values(name: str) -> None:
    values = VALUES[name]
    seen = histogram_of(values)
    for share in (1.0, 0.7, 0.4):
        low, high = share * seen.low, share * seen.high
        measured = quantization_errors(seen, np.array([low]), np.array([high]))[0]
        expected = squared_error(values, low, high)
        # A value is off its bin's middle by half a bin at most.
        assert abs(measured - expected) <= max(0.05 * expected, (seen.width / 2) ** 2), share


@pytest.mark.parametrize("name", ["gauss", "laplace", "uniform", "outlier", "leaky"])
def test_mse_is_as_good_as_brute_force_on_the_raw_values(name: str) -> None:
    values = VALUES[name][::4] if name != "outlier" else VALUES[name][-10_000:]
    seen = histogram_of(values)
    chosen = METHODS["mse"].choose(seen)

    shares = np.arange(0.05, 1.0001, 0.05)
    best = min(
        squared_error(values, seen.low * left, seen.high * right)
        for left in shares
        for right in shares
    )
    assert squared_error(values, chosen.low, chosen.high) <= best * MSE_SLACK


@pytest.mark.parametrize("name", ["relu", "relu of laplace"])
def test_mse_finds_the_best_end_of_a_relu(name: str) -> None:
    values = VALUES[name]
    seen = histogram_of(values)
    chosen = METHODS["mse"].choose(seen)

    best = min(squared_error(values, 0.0, seen.high * step / 200) for step in range(1, 201))
    assert chosen.low == 0.0
    assert chosen.high < seen.high
    assert squared_error(values, chosen.low, chosen.high) <= best * MSE_SLACK


@pytest.mark.parametrize("name", ["gauss", "laplace", "uniform", "outlier", "leaky"])
def test_mse_gains_nothing_by_moving_either_end(name: str) -> None:
    seen = histogram_of(VALUES[name])
    chosen = METHODS["mse"].choose(seen)
    shares = np.arange(1, STEPS + 1) / STEPS

    reached = quantization_errors(seen, np.array([chosen.low]), np.array([chosen.high]))[0]
    other_high = quantization_errors(seen, np.full(STEPS, chosen.low), seen.high * shares)
    other_low = quantization_errors(seen, seen.low * shares, np.full(STEPS, chosen.high))
    assert min(other_high.min(), other_low.min()) >= reached * (1 - 1e-12)


def test_mse_never_loses_to_minmax() -> None:
    for name, values in VALUES.items():
        seen = histogram_of(values)
        chosen = METHODS["mse"].choose(seen)
        if chosen.high > chosen.low:
            after = quantization_errors(seen, np.array([chosen.low]), np.array([chosen.high]))[0]
            before = quantization_errors(seen, np.array([seen.low]), np.array([seen.high]))[0]
            assert after <= before, name


def test_percentile_drops_an_outlier_that_minmax_keeps() -> None:
    seen = histogram_of(VALUES["outlier"])

    assert METHODS["minmax"].choose(seen).high == 60.0
    assert METHODS["percentile"].choose(seen).high < 5.0
