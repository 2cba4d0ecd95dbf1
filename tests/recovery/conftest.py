from __future__ import annotations

import pytest
import torch
from torch import nn

from exporter.data.splits import Splits
from exporter.graph.model import OnnxModel
from tests.graph import networks
from tests.quantization.conftest import calibrated

__all__ = ["calibrated"]  # a fixture

LOUD, QUIET = 1e4, 1e-6


class Fragile(nn.Module):
    """Tells the brightest colour, but beside a channel whose range drowns the others in 8 bits.

    What that channel says is next to nothing: it is read with a weight of ``QUIET``.
    """

    def __init__(self, loud: float = LOUD) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Conv2d(4, 3, 1)
        self.third = nn.Conv2d(3, 3, 1)
        self.pool = nn.AvgPool2d(20)
        self.head = nn.Linear(3, 3)
        eye = torch.eye(3)
        with torch.no_grad():
            self.first.weight.copy_(torch.cat([eye, loud * torch.ones(1, 3)]).view(4, 3, 1, 1))
            self.first.bias.copy_(torch.tensor([2.0, 2.0, 2.0, 6 * loud]))  # type: ignore[union-attr]
            self.second.weight.copy_(torch.cat([eye, QUIET * eye[:, :1]], 1).view(3, 4, 1, 1))
            self.third.weight.copy_(eye.view(3, 3, 1, 1))
            self.head.weight.copy_(20 * eye.flip(0))
            for layer in (self.second, self.third, self.head):
                layer.bias.zero_()  # type: ignore[union-attr]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.second(torch.relu(self.first(pixels))))
        logits: torch.Tensor = self.head(self.pool(torch.relu(self.third(features))).flatten(1))
        return logits


@pytest.fixture(scope="session")
def fragile(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    folder = tmp_path_factory.mktemp("fragile")
    return networks.exported(Fragile().eval(), folder, splits.contract)


@pytest.fixture(scope="session")
def sound(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    """The same network with a channel that is no louder than the others."""
    folder = tmp_path_factory.mktemp("sound")
    return networks.exported(Fragile(loud=0.1).eval(), folder, splits.contract)
