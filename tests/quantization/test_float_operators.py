from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from exporter.quantization.quantize import quantize
from exporter.targets import find_target
from tests.graph import networks
from tests.quantization.conftest import Calibrator


class Attentive(nn.Module):
    """A block with a LayerNorm over the channels and a GELU, as convnext has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.LayerNorm(16)
        self.wide = nn.Linear(16, 32)
        self.narrow = nn.Linear(32, 16)
        self.scale = nn.Parameter(torch.ones(16, 1, 1))
        self.head = nn.Linear(16, len(networks.CLASSES))

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.stem(pixels)
        last = self.norm(features.permute(0, 2, 3, 1))
        inner = self.narrow(functional.gelu(self.wide(last))).permute(0, 3, 1, 2)
        logits: Tensor = self.head((features + self.scale * inner).mean((2, 3)))
        return logits


def test_what_has_no_integer_kernel_stays_float_and_is_listed(
    tmp_path: Path, calibrated: Calibrator
) -> None:
    model = networks.exported(networks.settled(Attentive), tmp_path / "float")

    int8 = quantize(tmp_path, find_target("cpu-int8"), model, calibrated(model), "minmax")

    computing = {
        n for n in int8.coverage.floating if n not in ("QuantizeLinear", "DequantizeLinear")
    }
    assert computing == {"Gelu", "LayerNormalization"}
    assert set(int8.coverage.reasons) == computing
    images = networks.pixels(32, seed=2)
    logits, exact = networks.run(int8.file.path, images), networks.run(model.file.path, images)
    assert 0 < np.abs(logits - exact).max() < 0.1 * np.abs(exact).max()
