"""What one round removes from the network, and the network between rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from exporter.config import PruneConfig
from exporter.data.splits import Splits
from exporter.pruning.allocation import Allocation, Curve
from exporter.pruning.batches import batches_of, batches_to_score
from exporter.pruning.budget import widest_within
from exporter.pruning.checked_removal import Agreement, remove_channels, remove_weights
from exporter.pruning.cost import Cost
from exporter.pruning.criteria import Criterion
from exporter.pruning.groups import find_groups
from exporter.pruning.schedule import share_after
from exporter.pruning.scores import score_channels, score_weights
from exporter.pruning.threshold import strongest, survivors, width_multiple

PROBE_IMAGES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What holds in every round."""

    config: PruneConfig
    criterion: Criterion
    seed: int
    channel_multiple: int
    cost: Cost | None
    """What a budget is compared with; None where a share is asked for."""
    curves: Mapping[str, Curve]
    data: Splits


@dataclass(slots=True, kw_only=True)
class Work:
    """The network as it is now."""

    module: nn.Module
    widths: Mapping[str, int]
    """Channels of each group in the dense network."""
    kept: dict[str, tuple[int, ...]]
    """Channels that are left, as indices into the dense network."""
    masks: dict[str, Tensor] = field(default_factory=dict)
    """Weights that are left, where single weights are removed."""

    def removed(self) -> float:
        """Return the share of channels (or, with weight masks, of weights) that are gone."""
        if self.masks:
            zeros = sum(int((mask == 0).sum()) for mask in self.masks.values())
            return zeros / sum(mask.numel() for mask in self.masks.values())
        before = sum(self.widths.values())
        return 1 - sum(map(len, self.kept.values())) / before if before else 0.0

    def keep(self, chosen: Mapping[str, tuple[int, ...]]) -> None:
        """Note which channels of the present network stay."""
        self.kept = {
            name: tuple(self.kept[name][channel] for channel in channels)
            for name, channels in chosen.items()
        }


def remove_round(work: Work, rules: Rules, done: int) -> Agreement:
    """Remove what the ``done``-th round is to remove.

    Under a budget every round asks anew how far the network has to go, by its present scores, and
    goes its part of that way; the last round goes all of it.
    """
    remove = _remove_channels if rules.config.unit == "channels" else _remove_weights
    return remove(work, rules, done)


def probe_of(data: Splits) -> Tensor:
    """Return a few normalised images on which networks are compared."""
    pixels, _ = next(batches_of(data.calibration, data.contract))
    return pixels[:PROBE_IMAGES]


def _remove_channels(work: Work, rules: Rules, done: int) -> Agreement:
    config, data = rules.config, rules.data
    groups = find_groups(work.module, data.contract)
    scores = score_channels(
        rules.criterion,
        work.module,
        groups,
        batches_to_score(data.calibration, data.contract),
        alpha=config.alpha,
        seed=rules.seed,
    )
    allocation = Allocation(
        scores=scores,
        removed={group.name: work.widths[group.name] - group.width for group in groups},
        scope=config.allocate,
        comparable=rules.criterion.comparable,
        multiples={group.name: width_multiple(group, rules.channel_multiple) for group in groups},
        curves=rules.curves,
    )
    final, widths = config.share, None
    if config.budget and rules.cost:
        final, widths = widest_within(config.budget, allocation, work.module, groups, rules.cost)
    if widths is None or done < config.rounds:
        widths = allocation.widths(share_after(config.schedule, final, done, config.rounds))
    chosen = {name: strongest(scores[name], width) for name, width in widths.items()}
    agreement = remove_channels(work.module, groups, chosen, probe_of(data))
    work.keep(chosen)
    return agreement


def _remove_weights(work: Work, rules: Rules, done: int) -> Agreement:
    config, data = rules.config, rules.data
    found = score_weights(
        rules.criterion,
        work.module,
        batches_to_score(data.calibration, data.contract),
        alpha=config.alpha,
        seed=rules.seed,
    )
    weights = {name: work.module.get_parameter(f"{name}.weight") for name in found}
    alive = {
        name: work.masks.get(name, torch.ones_like(weight)) > 0 for name, weight in weights.items()
    }
    scores = {name: values[alive[name]] for name, values in found.items()}
    counts = survivors(
        scores,
        {name: int((~alive[name]).sum()) for name in weights},
        share_after(config.schedule, config.share, done, config.rounds),
        "layer" if config.allocate == "layer" else "global",
        comparable=rules.criterion.comparable,
    )
    for name, weight in weights.items():
        best = torch.zeros(scores[name].numel())
        best[torch.tensor(strongest(scores[name], counts[name]), dtype=torch.long)] = 1
        work.masks[name] = torch.zeros_like(weight).masked_scatter(alive[name], best)
    return remove_weights(work.module, work.masks, probe_of(data))
