"""The rung of the ladder that leaves the most sensitive layers in float.

Layers are taken in the order of the sensitivity scan. Where it is a layer's input that suffers, not
its weights, the layers that write this input fall back with it: between two integer kernels a
tensor has 8 bits whatever reads it. 1, 2, 4, 8 … of them are tried until the drop is within the
budget, then the smallest number that still is, by halving. Each candidate is the file itself, with
float kernels confirmed in ONNX Runtime's optimized graph.

More accurate is not enough to be kept among equals here, since float layers take time and bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from exporter.recovery.ladder import Ladder, Solution, Tried
from exporter.recovery.sensitivity import QuantizationSensitivity

MOST = 0.5
"""Share of the layers that may fall back, rounded up; with more of them it is no int8 file."""
BY_INPUT = 0.5
"""A layer whose rounded weights alone explain less than this share of its divergence suffers from
its input."""


def fall_back(
    ladder: Ladder,
    sensitivity: QuantizationSensitivity,
    with_float: Callable[[tuple[str, ...]], Solution],
) -> None:
    """Try ever more layers in float; keep the fewest within the budget, else the most accurate.

    Args:
        ladder: judges and remembers.
        sensitivity: of the best solution so far.
        with_float: makes that solution with more layers in float.
    """
    sets = float_sets(sensitivity)
    tried: dict[int, Tried | None] = {}

    def enough(size: int) -> bool:
        if size not in tried:
            layers = sets[size - 1]
            what = f"{len(layers)} in float: {', '.join(layers)}"
            tried[size] = ladder.attempt(what, lambda: with_float(layers))
        return ladder.enough(tried[size])

    few, size = 0, 1
    while size < len(sets) and not enough(size):
        few, size = size, min(2 * size, len(sets))
    if sets and enough(size):
        while size - few > 1:
            middle = (few + size) // 2
            few, size = (few, middle) if enough(middle) else (middle, size)
        fewest = tried[size]
        assert fewest is not None, "it is within the budget"
        ladder.keep(fewest)
        return
    correct = ladder.best.result.correct
    better = [t for t in tried.values() if t is not None and t.result.correct > correct]
    if better:
        ladder.keep(max(better, key=lambda found: found.rank))


def float_sets(sensitivity: QuantizationSensitivity) -> list[tuple[str, ...]]:
    """Return growing sets of layers, in graph order: each the last one and the next by ranking."""
    order = [found.layer for found in sensitivity.layers]
    most = min(math.ceil(MOST * len(order)), len(order) - 1)
    chosen: set[str] = set()
    sets: list[tuple[str, ...]] = []
    for found in sensitivity.ranked:
        by_input = found.weights.kl < BY_INPUT * found.both.kl
        more = chosen | {found.layer} | (set(found.writers) if by_input else set())
        if chosen < more and len(more) <= most:
            chosen = more
            sets.append(tuple(name for name in order if name in chosen))
    return sets
