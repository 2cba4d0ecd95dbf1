"""What the prune stage found and made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.checkpoint import Checkpoint
from exporter.pruning.group import Fixed
from exporter.pruning.recovery import Distillation
from exporter.training.loop import History


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One round of pruning."""

    removed: float
    """Share of channels (or weights) gone so far."""
    folded_error: float
    """Largest difference between masked and folded logits, relative to the largest logit."""
    shrunk_error: float
    """The same between folded and shrunk."""
    validation_before: float
    """Top-1 in percent right after the removal, batch-norms measured anew."""
    validation_after: float
    """Top-1 in percent after fine-tuning."""
    history: History | None = field(compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """A budget and the network that was made for it."""

    name: str
    """max-parameters, max-macs, max-kb or max-ms."""
    limit: float
    planned: float
    """The network's cost as pruning reckoned it, in the unit of the limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """The small network: folded, shrunk and fine-tuned."""

    checkpoint: Checkpoint
    criterion: str
    unit: str
    asked: float | None
    """The share that was to be removed; None where a budget was to be met."""
    budget: Budget | None
    removed: float
    """The share that was removed, after rounding to the target's channel multiple."""
    dead: int
    """Channels that went first, because they changed nothing; the share includes them."""
    widths: Mapping[str, tuple[int, int]]
    """Channels of each group before and after."""
    fixed: tuple[Fixed, ...]
    """Channels that were left alone, with reasons."""
    rounds: tuple[Round, ...]
    distillation: Distillation | None
    """What the teacher brought, where that was to be found out."""
