"""From a share to widths, by hand and as a property."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from exporter.pruning.allocation import Allocation, Curve, smallest, tolerated, tolerated_shares

CURVE: Curve = ((0.25, 0.0), (0.5, 2.0), (0.75, 1.0), (0.9, 12.0))
"""Free up to a quarter; the gain from 0.5 to 0.75 is noise."""
Scope = Literal["global", "layer", "sensitivity"]
SCOPES: tuple[Scope, ...] = ("global", "layer", "sensitivity")


def allocation(scope: Scope, removed: int = 0, multiple: int = 1) -> Allocation:
    generator = torch.Generator().manual_seed(0)
    widths = {"a": 8, "b": 24, "c": 40 - removed}
    return Allocation(
        scores={name: torch.rand(width, generator=generator) for name, width in widths.items()},
        removed={"a": 0, "b": 0, "c": removed},
        scope=scope,
        comparable=False,
        multiples=dict.fromkeys(widths, multiple),
        curves={"a": CURVE, "b": ((0.5, 0.1),), "c": ()},
    )


@pytest.mark.parametrize(
    ("limit", "share"),
    [
        (0.0, 0.0),
        (0.00025, 0.25),  # free, so but for the slope of 0.001 points per unit of share
        (1.000375, 0.375),  # half way to the 2 points (and 0.0005) that 0.5 costs
        (2.0005, 0.5),
        (2.00075, 0.75),  # costs no less than 0.5 does
        (12.0009, 0.9),
        (100.001, 1.0),
    ],
)
def test_the_largest_share_within_a_limit(limit: float, share: float) -> None:
    assert tolerated(CURVE, limit) == pytest.approx(share, abs=1e-3)


def test_groups_lose_what_costs_the_same() -> None:
    curves: dict[str, Curve] = {"robust": ((0.8, 1.0),), "delicate": ((0.2, 1.0), (0.8, 60.0))}
    # At a limit of 1 point, 0.8 of 10 and 0.2 of 30 channels go: 14 of 40.
    shares = tolerated_shares(curves, {"robust": 10, "delicate": 30}, 14 / 40)
    assert shares == pytest.approx({"robust": 0.8, "delicate": 0.2}, abs=1e-3)


def test_a_scan_steers_the_widths() -> None:
    found = Allocation(
        scores={"robust": torch.ones(10), "delicate": torch.ones(30)},
        removed={"robust": 0, "delicate": 0},
        scope="sensitivity",
        comparable=False,
        multiples={"robust": 1, "delicate": 1},
        curves={"robust": ((0.8, 1.0),), "delicate": ((0.2, 1.0), (0.8, 60.0))},
    )
    assert found.widths(14 / 40) == {"robust": 2, "delicate": 24}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("multiple", [1, 4, 16])
def test_widths_never_grow_with_the_share(scope: Scope, multiple: int) -> None:
    found = allocation(scope, multiple=multiple)
    before = found.widths(0.0)
    assert before == {"a": 8, "b": 24, "c": 40}
    for step in range(1, 101):
        widths = found.widths(step / 100)
        assert all(widths[name] <= before[name] for name in widths)
        before = widths
    assert before == {"a": min(8, multiple), "b": multiple, "c": multiple}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.75])
def test_the_share_is_met(scope: Scope, share: float) -> None:
    assert sum(allocation(scope).widths(share).values()) == pytest.approx(72 * (1 - share), abs=2)


@pytest.mark.parametrize(
    ("scope", "widths"),
    [
        ("global", {"a": 8, "b": 24, "c": 4}),  # half of all is gone: more than a fifth
        ("layer", {"a": 6, "b": 19, "c": 4}),
    ],
)
def test_what_is_gone_counts(scope: Scope, widths: dict[str, int]) -> None:
    assert allocation(scope, removed=36).widths(0.2) == widths


def test_each_group_has_a_multiple_of_its_own() -> None:
    found = Allocation(
        scores={"a": torch.ones(16), "b": torch.ones(16)},
        removed={"a": 0, "b": 0},
        scope="layer",
        comparable=False,
        multiples={"a": 8, "b": 2},
        curves={},
    )
    assert found.widths(0.4) == {"a": 8, "b": 10}


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.999, 5.0])
def test_bisection_is_never_too_small_and_hardly_too_large(threshold: float) -> None:
    found = smallest(lambda value: value >= threshold, highest=1.0, halvings=20)
    assert min(threshold, 1.0) <= found <= min(threshold + 2.0**-20, 1.0)
