"""Statistics measured anew, against direct computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporter.data.splits import Splits
from exporter.models.edge_vgg import EdgeVGG
from exporter.training import batch_norm
from exporter.training.augmentation import normalise
from exporter.training.batch_norm import reestimate_batch_norms


class Small(nn.Module):
    """A convolution, a batch-norm, dropout, and a second batch-norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4, momentum=0.3)
        self.drop = nn.Dropout(0.5)
        self.last = nn.BatchNorm2d(4)

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.last(self.drop(self.norm(self.conv(pixels))))
        return features


def test_statistics_are_averages_over_batches_of_training_images(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_norm, "BATCH", 10)
    monkeypatch.setattr(batch_norm, "IMAGES", 45)  # four whole batches
    module = Small()
    reestimate_batch_norms(module, splits.contract, splits.train)
    images, _ = splits.train.arrays()
    picked = np.linspace(0, 95, 40).astype(int)
    assert len(set(picked)) == 40
    means, variances = [], []
    with torch.no_grad():
        for start in range(0, 40, 10):
            raw = torch.from_numpy(np.array(images[picked[start : start + 10]]))
            seen = module.conv(normalise(raw, splits.contract)).double()
            means.append(seen.mean((0, 2, 3)))
            variances.append(seen.var((0, 2, 3), correction=1))
    assert module.norm.running_mean is not None
    assert module.norm.running_var is not None
    expected_mean = torch.stack(means).mean(0).float()
    expected_variance = torch.stack(variances).mean(0).float()
    assert torch.allclose(module.norm.running_mean, expected_mean, atol=1e-5)
    assert torch.allclose(module.norm.running_var, expected_variance, rtol=1e-4)
    assert module.norm.momentum == 0.3
    assert not module.training


def test_it_repeats_itself_and_leaves_weights_and_random_numbers_alone(splits: Splits) -> None:
    first, second = Small(), Small()
    torch.manual_seed(1)
    reestimate_batch_norms(first, splits.contract, splits.train)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    torch.manual_seed(2)
    reestimate_batch_norms(second, splits.contract, splits.train)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert torch.equal(first.conv.weight, Small().conv.weight)


def test_a_removed_channel_no_longer_shifts_what_follows(splits: Splits) -> None:
    """Right after it, what a batch-norm puts out has mean 0 and variance 1 again."""
    module = Small().eval()
    reestimate_batch_norms(module, splits.contract, splits.train)
    with torch.no_grad():
        module.conv.weight[:, 1] = 0
    reestimate_batch_norms(module, splits.contract, splits.train)
    images, _ = splits.train.arrays()
    with torch.no_grad():
        pixels = normalise(torch.from_numpy(np.array(images)), splits.contract)
        out = module.norm(module.conv(pixels))
    assert out.mean((0, 2, 3)).abs().max() < 1e-4
    assert out.var((0, 2, 3)).sub(1).abs().max() < 1e-2


def test_networks_that_pool_first_in_training_are_measured_as_they_train(splits: Splits) -> None:
    torch.manual_seed(0)
    module = EdgeVGG(widths=(8, 8, 8), classes=3, height=20, width=20)
    reestimate_batch_norms(module, splits.contract, splits.train)
    images, _ = splits.train.arrays()
    conv, pool, norm = (
        module.get_submodule(f"blocks.0.{name}") for name in ("conv1", "pool", "norm1")
    )
    with torch.no_grad():
        pixels = normalise(torch.from_numpy(np.array(images)), splits.contract)
        pooled = pool(conv(torch.relu(module.whiten(pixels))))
    assert torch.allclose(norm.get_buffer("running_mean"), pooled.mean((0, 2, 3)), atol=1e-4)


def test_a_network_without_batch_norms_is_left_as_it_is(splits: Splits) -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 1)).train()
    reestimate_batch_norms(module, splits.contract, splits.train)
    assert module.training
