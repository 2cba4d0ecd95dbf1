"""A row of the table of criteria."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from exporter.pruning.evidence import Need
from exporter.pruning.views import Channels, Weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Criterion:
    """One importance score: its formula for channels and for weights, and what that looks at."""

    name: str
    summary: str
    source: str
    channels: Callable[[Channels], Tensor]
    """``[C]``, one score per channel of a group."""
    weights: Callable[[Weights], Tensor] | None
    """Scores in the weight's shape; None where a single weight has no such score."""
    needs: Need = "weights"
    comparable: bool = False
    """Whether scores of different layers are on one scale as they are. All others are divided by
    their layer's total before one threshold spans the network."""
