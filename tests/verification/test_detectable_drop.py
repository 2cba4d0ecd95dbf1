from __future__ import annotations

import math

import pytest

from exporter.verification.detectable_drop import detectable_drop


def power(drop: float, flipped: float, total: int) -> float:
    """Probability that McNemar's test finds ``drop``, over all tables of ``total`` images."""
    lost, gained = (flipped + drop) / 2, (flipped - drop) / 2
    found = 0.0
    for flips in range(1, total + 1):
        happens = math.comb(total, flips) * flipped**flips * (1 - flipped) ** (total - flips)
        if happens < 1e-9:
            continue
        for b in range(flips + 1):
            if abs(2 * b - flips) / math.sqrt(flips) >= 1.959964:
                share = math.comb(flips, b) * (lost / flipped) ** b
                found += happens * share * (gained / flipped) ** (flips - b)
    return found


@pytest.mark.parametrize(("flipped", "total"), [(0.1, 200), (0.2, 359), (0.05, 400)])
def test_the_drop_is_found_four_times_in_five(flipped: float, total: int) -> None:
    drop = detectable_drop(flipped, total)

    assert power(drop, flipped, total) == pytest.approx(0.8, abs=0.04)


def test_connors_sample_size() -> None:
    """0.45 lost and 0.05 gained take 22.9 images at 80 % and a two-sided 5 %."""
    assert detectable_drop(0.5, 23) == pytest.approx(0.4, abs=0.01)


def test_a_drop_needs_flips_of_its_own() -> None:
    # z_alpha sqrt(d) + z_power sqrt(d - d^2) = d sqrt(n), which is near 7.85 / n for a small d
    assert detectable_drop(0.0, 5000) == pytest.approx(7.85 / 5000, rel=0.01)


def test_more_images_show_less_and_more_flips_hide_more() -> None:
    assert detectable_drop(0.02, 5000) < detectable_drop(0.02, 500)
    assert detectable_drop(0.02, 5000) < detectable_drop(0.08, 5000)


def test_one_image_shows_nothing() -> None:
    assert detectable_drop(0.0, 1) == 1.0
