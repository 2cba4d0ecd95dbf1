"""Importance scores: one small function each, low is pruned first.

A criterion scores whole channels (``Channels`` -> ``[C]``) and, where that means something, single
weights (``Weights`` -> the weight's shape). One file per family, by what it looks at: the weights'
size, activations, gradients, the structure of a layer, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from exporter.errors import ConfigError
from exporter.pruning.criteria import activation, control, gradient, magnitude, structure
from exporter.pruning.criteria.criterion import Criterion
from exporter.pruning.views import Weights

__all__ = ["CRITERIA", "Criterion", "find_criterion", "formula_for_weights"]

CRITERIA: dict[str, Criterion] = {
    criterion.name: criterion
    for family in (magnitude, activation, gradient, structure, control)
    for criterion in family.CRITERIA
}


def find_criterion(name: str, unit: Literal["channels", "weights"]) -> Criterion:
    """Return the criterion called ``name``.

    Raises:
        ConfigError: there is none, or it has no meaning for single weights; the message lists those
            that would do.
    """
    if name not in CRITERIA:
        raise ConfigError(f"Unknown criterion {name!r}. Known: {', '.join(CRITERIA)}.")
    criterion = CRITERIA[name]
    if unit == "weights":
        formula_for_weights(criterion)
    return criterion


def formula_for_weights(criterion: Criterion) -> Callable[[Weights], Tensor]:
    """Return how ``criterion`` scores single weights; raises ConfigError if it doesn't."""
    if criterion.weights is None:
        able = ", ".join(row.name for row in CRITERIA.values() if row.weights is not None)
        raise ConfigError(
            f"Criterion {criterion.name} scores whole channels only. "
            f"Use --unit channels, or one of these for single weights: {able}."
        )
    return criterion.weights
