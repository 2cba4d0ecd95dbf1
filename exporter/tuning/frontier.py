"""Which trials no other trial beats, and which of those are worth building."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exporter.tuning.space import Value


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A trial that was measured to the end."""

    trial: int
    values: Mapping[str, Value]
    """What it chose."""
    top1: float
    """Of the int8 file on validation images, in percent."""
    drop: float
    """Points lost against the dense float network, on the same images."""
    ms: float
    """Median time of one image on one thread."""
    kb: float
    """1000 bytes of the file."""
    feasible: bool
    """Whether it keeps every limit of the search."""
    seconds: float
    """What it took to find out."""
    reused: int
    """Stages whose result was there already ..."""
    stages: int
    """... of so many."""


def frontier(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the feasible points that no other one beats, from the fastest to the slowest.

    One beats another if it is as accurate, as fast and as small, and better in one of the three.
    Of points alike in all three the earliest trial stands for all.
    """
    feasible = sorted((point for point in points if point.feasible), key=lambda it: it.trial)
    best = [
        point
        for place, point in enumerate(feasible)
        if not any(
            _beats(other, point) or (_same(other, point) and earlier < place)
            for earlier, other in enumerate(feasible)
        )
    ]
    return tuple(sorted(best, key=lambda point: (point.ms, point.kb, -point.top1)))


def winners(points: Sequence[Point], count: int) -> tuple[Point, ...]:
    """Return at most ``count`` of a frontier: the most accurate, the fastest, the one between.

    Between lies the point that is nearest, with every figure as a share of its span over the
    frontier, to the best of all three; then the next nearest, and so on.
    """
    if not points:
        return ()
    accurate = max(points, key=lambda point: (point.top1, -point.ms))
    fastest = min(points, key=lambda point: (point.ms, -point.top1))
    spans = [
        (min(figures), max(max(figures) - min(figures), 1e-12))
        for figures in zip(*(_costs(point) for point in points), strict=True)
    ]

    def distance(point: Point) -> float:
        return math.hypot(
            *(
                (figure - low) / span
                for figure, (low, span) in zip(_costs(point), spans, strict=True)
            )
        )

    order = [accurate, fastest, *sorted(points, key=distance)]
    return tuple({point.trial: point for point in order}.values())[:count]


def _costs(point: Point) -> tuple[float, float, float]:
    return -point.top1, point.ms, point.kb


def _beats(one: Point, other: Point) -> bool:
    pairs = list(zip(_costs(one), _costs(other), strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _same(one: Point, other: Point) -> bool:
    return _costs(one) == _costs(other)
