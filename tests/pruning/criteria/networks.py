"""Two networks small enough to follow by hand, and how to ask for scores."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from exporter.contract import InputContract
from exporter.models.simple_cnn import SimpleCNN
from exporter.pruning.criteria import CRITERIA
from exporter.pruning.groups import Group, find_groups
from exporter.pruning.scores import score_channels, score_weights

CONTRACT = InputContract(height=8, width=8, classes=("a", "b", "c"))
ALPHA = 0.7

Batches = list[tuple[Tensor, Tensor]]
Images = Iterable[tuple[Tensor, Tensor]]


class Residual(nn.Module):
    """A sum that ties two convolutions with their batch-norms; two layers read it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.inner = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.inner_norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 16, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        outer = functional.max_pool2d(functional.relu(self.norm(self.stem(pixels))), 2)
        inner = self.inner_norm(self.inner(outer))
        logits: Tensor = self.head(functional.relu(outer + inner).flatten(1))
        return logits


def simple() -> SimpleCNN:
    torch.manual_seed(0)
    return SimpleCNN(widths=(4, 5, 6), classes=3, height=8, width=8).eval()


def residual() -> Residual:
    torch.manual_seed(2)
    network = Residual().eval()
    for norm in (network.norm, network.inner_norm):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        norm.running_mean = torch.randn(4)
        norm.running_var = torch.rand(4) + 0.5
    return network


def random_batches(*sizes: int) -> Batches:
    """The same images whatever the sizes, as long as they add up to the same number."""
    torch.manual_seed(1)
    pixels, labels = torch.randn(sum(sizes), 3, 8, 8), torch.arange(sum(sizes)) % 3
    return list(zip(pixels.split(sizes), labels.split(sizes), strict=True))


def group_of(module: nn.Module, name: str) -> Group:
    (group,) = (group for group in find_groups(module, CONTRACT) if group.name == name)
    return group


def channel_scores(
    criterion: str, module: nn.Module, group: str, batches: Images = (), seed: int = 0
) -> list[float]:
    found = score_channels(
        CRITERIA[criterion], module, [group_of(module, group)], batches, alpha=ALPHA, seed=seed
    )
    scores: list[float] = found[group].tolist()
    return scores


def weight_scores(
    criterion: str, module: nn.Module, layer: str, batches: Images = (), seed: int = 0
) -> Tensor:
    return score_weights(CRITERIA[criterion], module, batches, alpha=ALPHA, seed=seed)[layer]
