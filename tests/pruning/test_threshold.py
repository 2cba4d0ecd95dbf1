"""Thresholds and rounding, by hand."""

from __future__ import annotations

import pytest
import torch

from exporter.pruning.threshold import rounded_width, strongest, survivors

SCORES = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([10.0, 10.0, 10.0, 50.0])}


def test_one_threshold_per_layer() -> None:
    assert survivors(SCORES, {"a": 0, "b": 0}, 0.5, "layer") == {"a": 2, "b": 2}


def test_one_threshold_for_all_compares_shares_of_the_layers_total() -> None:
    # a: .1 .2 .3 .4, b: .125 .125 .125 .625; the lowest four are .1 and the three .125.
    assert survivors(SCORES, {"a": 0, "b": 0}, 0.5, "global") == {"a": 3, "b": 1}


def test_a_layer_of_many_equal_channels_gives_before_one_of_few() -> None:
    scores = {"narrow": torch.ones(4), "wide": torch.ones(12)}
    assert survivors(scores, {"narrow": 0, "wide": 0}, 0.5, "global") == {"narrow": 4, "wide": 4}


def test_equal_scores_do_not_fall_together() -> None:
    flat = {"a": torch.ones(10)}
    assert survivors(flat, {"a": 0}, 0.3, "global") == {"a": 7}


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize(("share", "left"), [(0.0, 4), (0.25, 4), (0.5, 3), (0.99, 0)])
def test_earlier_rounds_count(scope: str, share: float, left: int) -> None:
    """Two of six are gone already; the share is of all six."""
    result = survivors({"a": SCORES["a"]}, {"a": 2}, share, scope)  # type: ignore[arg-type]
    assert result == {"a": left}


@pytest.mark.parametrize(
    ("count", "width", "multiple", "expected"),
    [
        (77, 128, 16, 80),
        (72, 128, 16, 80),
        (71, 128, 16, 64),
        (3, 128, 16, 16),
        (0, 128, 16, 16),
        (19, 32, 16, 16),
        (128, 128, 16, 128),
        (10, 16, 16, 16),
        (5, 8, 16, 8),
        (50, 50, 16, 48),
        (57, 57, 16, 57),
        (5, 7, 1, 5),
    ],
)
def test_widths_are_rounded_to_the_hardwares_multiple(
    count: int, width: int, multiple: int, expected: int
) -> None:
    assert rounded_width(count, width, multiple) == expected


def test_strongest_keeps_the_order_of_the_channels() -> None:
    assert strongest(torch.tensor([5.0, 1.0, 9.0, 5.0]), 2) == (0, 2)
    assert strongest(torch.tensor([5.0, 1.0, 9.0, 5.0]), 3) == (0, 2, 3)
