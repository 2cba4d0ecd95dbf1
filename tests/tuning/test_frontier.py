from __future__ import annotations

import itertools

import numpy as np
import pytest

from exporter.tuning.frontier import Point, frontier, winners


def point(trial: int, top1: float, ms: float, kb: float, *, feasible: bool = True) -> Point:
    return Point(
        trial=trial,
        values={},
        top1=top1,
        drop=95.0 - top1,
        ms=ms,
        kb=kb,
        feasible=feasible,
        seconds=1.0,
        reused=0,
        stages=1,
    )


def trials(points: tuple[Point, ...]) -> list[int]:
    return [found.trial for found in points]


def test_what_is_beaten_in_all_three_is_left_out() -> None:
    points = [point(0, 90, 0.2, 200), point(1, 91, 0.1, 100), point(2, 92, 0.3, 300)]

    assert trials(frontier(points)) == [1, 2]


def test_a_smaller_file_is_enough_to_stay() -> None:
    assert trials(frontier([point(0, 90, 0.1, 99), point(1, 91, 0.1, 100)])) == [0, 1]


def test_of_equals_the_earliest_stays() -> None:
    assert trials(frontier([point(5, 90, 0.1, 100), point(3, 90, 0.1, 100)])) == [3]


def test_what_breaks_a_limit_neither_stays_nor_beats() -> None:
    points = [point(0, 99, 0.01, 1, feasible=False), point(1, 90, 0.1, 100)]

    assert trials(frontier(points)) == [1]
    assert frontier(points[:1]) == ()


def test_the_frontier_agrees_with_the_definition() -> None:
    rng = np.random.default_rng(0)
    points = [
        point(trial, *map(float, rng.integers(0, 5, 3)), feasible=bool(rng.integers(0, 4)))
        for trial in range(60)
    ]

    found = set(trials(frontier(points)))

    def costs(one: Point) -> tuple[float, float, float]:
        return (-one.top1, one.ms, one.kb)

    for one, other in itertools.permutations([p for p in points if p.feasible], 2):
        at_least = all(a <= b for a, b in zip(costs(one), costs(other), strict=True))
        if at_least and costs(one) != costs(other):
            assert other.trial not in found
    kept = {costs(p) for p in points if p.trial in found}
    for one in points:
        if one.feasible and one.trial not in found:
            assert any(all(a <= b for a, b in zip(best, costs(one), strict=True)) for best in kept)


def test_winners_are_the_most_accurate_the_fastest_and_the_one_between() -> None:
    line = frontier(
        [
            point(0, 80, 0.1, 50),
            point(1, 91, 0.15, 90),
            point(2, 92, 0.5, 400),
            point(3, 85, 0.14, 80),
        ]
    )

    assert trials(winners(line, 3)) == [2, 0, 1]
    assert trials(winners(line, 1)) == [2]
    assert sorted(trials(winners(line, 9))) == [0, 1, 2, 3]
    assert winners((), 3) == ()
    assert winners(line, 0) == ()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_point_wins_once(count: int) -> None:
    assert trials(winners((point(7, 90, 0.1, 100),), count)) == [7]
