"""Schedules by hand."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from exporter.pruning.schedule import Schedule, epochs_of_rounds, share_after


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("linear", [0.2, 0.4, 0.6, 0.8]),
        # 0.8 * (1 - (3/4)^3), 0.8 * (1 - (2/4)^3), 0.8 * (1 - (1/4)^3)
        ("cubic", [0.4625, 0.7, 0.7875, 0.8]),
        # 0.2 of it is left: after each round the fourth root of that, about 0.6687
        ("geometric", [0.331260, 0.552786, 0.700930, 0.8]),
    ],
)
def test_shares_of_four_rounds(schedule: Schedule, shares: list[float]) -> None:
    found = [share_after(schedule, 0.8, done, 4) for done in (1, 2, 3, 4)]
    assert found == pytest.approx(shares, abs=1e-6)


@pytest.mark.parametrize("schedule", get_args(Schedule))
@pytest.mark.parametrize("final", [0.0, 0.1, 0.3, 0.7, 0.99, 1.0])
def test_every_schedule_rises_and_ends_exactly_where_asked(
    schedule: Schedule, final: float
) -> None:
    for rounds in (1, 3, 7):
        shares = [share_after(schedule, final, done, rounds) for done in range(1, rounds + 1)]
        assert shares == sorted(shares)
        assert shares[-1] == final


def test_geometric_removes_the_same_share_of_what_is_left() -> None:
    left = [1 - share_after("geometric", 0.9, done, 5) for done in range(6)]
    ratios = [after / before for before, after in itertools.pairwise(left)]
    assert ratios == pytest.approx([ratios[0]] * 5)


@pytest.mark.parametrize(
    ("total", "rounds", "epochs"),
    [
        (12, 1, (12,)),
        (12, 2, (6, 6)),
        (12, 4, (2, 2, 2, 6)),
        (3, 2, (1, 2)),
        (4, 4, (0, 1, 1, 2)),
        (1, 3, (0, 0, 1)),
        (0, 2, (0, 0)),
    ],
)
def test_the_last_round_gets_half_of_the_epochs(
    total: int, rounds: int, epochs: tuple[int, ...]
) -> None:
    assert epochs_of_rounds(total, rounds) == epochs
    assert sum(epochs) == total
