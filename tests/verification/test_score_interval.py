from __future__ import annotations

import math

import pytest

from exporter.verification.score_interval import drop_interval

Z95 = 1.959963984540054


def log_likelihood(lost: int, gained: int, total: int, drop: float, share: float) -> float:
    """Of the three counts, where the share of gained images is ``share``."""
    cells = ((lost, share + drop), (gained, share), (total - lost - gained, 1 - 2 * share - drop))
    return sum(count * math.log(max(part, 1e-300)) for count, part in cells if count)


def score(lost: int, gained: int, total: int, drop: float) -> float:
    """Tango's statistic, with the most likely nuisance found by ternary search."""
    low, high = max(0.0, -drop), (1 - drop) / 2
    for _ in range(200):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if log_likelihood(lost, gained, total, drop, left) < log_likelihood(
            lost, gained, total, drop, right
        ):
            low = left
        else:
            high = right
    variance = 2 * low + drop * (1 - drop)
    return (lost - gained - total * drop) / math.sqrt(total * variance)


@pytest.mark.parametrize(
    ("lost", "gained", "total"), [(1, 7, 21), (3, 1, 10), (12, 5, 359), (40, 41, 5000), (9, 0, 60)]
)
def test_the_ends_are_where_the_score_test_starts_to_reject(
    lost: int, gained: int, total: int
) -> None:
    low, high = drop_interval(lost, gained, total)

    assert low < (lost - gained) / total < high
    assert score(lost, gained, total, low) == pytest.approx(Z95, abs=1e-4)
    assert score(lost, gained, total, high) == pytest.approx(-Z95, abs=1e-4)


def test_published_example() -> None:
    """Airway reactivity before and after a transplantation (Fagerland et al. 2014, table 2)."""
    assert drop_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=1e-3)


@pytest.mark.parametrize("total", [30, 359, 5000])
def test_no_flips_leave_a_drop_possible(total: int) -> None:
    expected = Z95**2 / (total + Z95**2)

    assert drop_interval(0, 0, total) == pytest.approx((-expected, expected))


@pytest.mark.parametrize(("lost", "end"), [(20, 1.0), (0, -1.0)])
def test_it_ends_where_no_image_is_left(lost: int, end: float) -> None:
    interval = drop_interval(lost, 20 - lost, 20)

    assert end in interval
    assert all(-1 <= value <= 1 for value in interval)


def test_exchanging_the_models_mirrors_it() -> None:
    low, high = drop_interval(9, 4, 100)

    assert drop_interval(4, 9, 100) == pytest.approx((-high, -low))


def test_more_confidence_is_wider() -> None:
    wide, narrow = drop_interval(9, 4, 100, 0.99), drop_interval(9, 4, 100, 0.8)

    assert wide[0] < narrow[0] < 0.05 < narrow[1] < wide[1]


@pytest.mark.parametrize(("lost", "gained"), [(0.02, 0.02), (0.1, 0.05), (0.05, 0.0), (0.3, 0.1)])
def test_it_covers_the_true_drop_as_often_as_it_says(lost: float, gained: float) -> None:
    """Exactly: the probability of every table of 40 images times whether it covers."""
    total, covered = 40, 0.0
    for b in range(total + 1):
        for c in range(total + 1 - b):
            probability = (
                math.comb(total, b)
                * math.comb(total - b, c)
                * lost**b
                * gained**c
                * (1 - lost - gained) ** (total - b - c)
            )
            if probability < 1e-7:
                continue
            low, high = drop_interval(b, c, total)
            covered += probability * (low <= lost - gained <= high)

    assert 0.93 <= covered <= 1.0
