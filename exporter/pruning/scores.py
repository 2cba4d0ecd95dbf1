"""Scores of a whole network by one criterion: what the stages call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from exporter.config import PruneConfig, TrainConfig
from exporter.contract import InputContract
from exporter.models.choose import choose_model
from exporter.models.family import build_model
from exporter.pruning.criteria import Criterion, find_criterion, formula_for_weights
from exporter.pruning.evidence import Batches, gather_evidence, weighted_layers
from exporter.pruning.groups import Group, find_groups
from exporter.pruning.views import Channels, Weights


def score_channels(
    criterion: Criterion,
    module: nn.Module,
    groups: Sequence[Group],
    batches: Batches,
    *,
    alpha: float = 1.0,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return ``[C]`` scores by group; low is pruned first.

    Scores of different groups are on one scale only where ``criterion.comparable``.

    Args:
        criterion: the formula.
        module: left as it was.
        groups: its prunable channels.
        batches: calibration images; read once, and only where ``criterion.needs`` them.
        alpha: balance of activations against weights, for ``weight-activation``.
        seed: for ``random``.

    Raises:
        ConfigError: the network lacks what the criterion looks at.
    """
    evidence = gather_evidence(module, groups, batches, criterion.needs)
    return {
        group.name: criterion.channels(
            Channels(module=module, group=group, evidence=evidence, alpha=alpha, seed=seed)
        )
        for group in groups
    }


def score_weights(
    criterion: Criterion,
    module: nn.Module,
    batches: Batches,
    *,
    alpha: float = 1.0,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return scores in the weight's shape, by layer: every convolution and linear not frozen.

    Arguments as for ``score_channels``.

    Raises:
        ConfigError: the criterion has no meaning for single weights.
    """
    formula = formula_for_weights(criterion)
    evidence = gather_evidence(module, (), batches, criterion.needs)
    return {
        name: formula(Weights(module=module, layer=name, evidence=evidence, alpha=alpha, seed=seed))
        for name, layer in weighted_layers(module).items()
        if layer.weight.requires_grad
    }


def check_criterion(config: PruneConfig, train: TrainConfig, contract: InputContract) -> None:
    """Refuse, before the network is trained, a criterion that it has nothing for.

    Raises:
        ConfigError: as ``score_channels`` would after the training.
    """
    criterion = find_criterion(config.criterion, config.unit)
    if criterion.needs == "batch-norms" and (config.budget or config.share):
        with torch.random.fork_rng(devices=[]):
            module = build_model(choose_model(train, contract), contract)
        score_channels(criterion, module, find_groups(module, contract), ())
