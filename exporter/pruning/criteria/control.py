"""The control: a criterion that is worth something must beat ``random``."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from exporter.pruning.criteria.criterion import Criterion
from exporter.pruning.views import Channels, Weights


def random_channels(seen: Channels) -> Tensor:
    """Uniform numbers that depend on the seed and the group's name only."""
    return _uniform(seen.seed, seen.group.name, torch.Size([seen.group.width]))


def random_weights(seen: Weights) -> Tensor:
    """Uniform numbers that depend on the seed and the layer's name only."""
    return _uniform(seen.seed, seen.layer, seen.weight.shape)


def _uniform(seed: int, name: str, shape: torch.Size) -> Tensor:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]))
    return torch.rand(shape, generator=generator, dtype=torch.float64)


CRITERIA = (
    Criterion(
        name="random",
        summary="chance: the control that every other criterion has to beat",
        source="Mittal et al., arXiv 1801.10447",
        channels=random_channels,
        weights=random_weights,
        # Every channel of the network has the same chance, in wide layers and in narrow ones.
        comparable=True,
    ),
)
