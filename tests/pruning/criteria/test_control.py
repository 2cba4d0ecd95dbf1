"""random depends on the seed and the name, and on nothing else."""

from __future__ import annotations

import pytest
import torch

from tests.pruning.criteria.networks import channel_scores, simple, weight_scores


def test_the_same_however_often_it_is_asked_and_whatever_the_weights() -> None:
    first = channel_scores("random", simple(), "conv1", seed=3)
    other = simple()
    with torch.no_grad():
        other.conv1.weight.add_(1)
    torch.manual_seed(99)
    assert channel_scores("random", other, "conv1", seed=3) == first
    single = weight_scores("random", simple(), "conv2", seed=3)
    assert torch.equal(weight_scores("random", other, "conv2", seed=3), single)


def test_seeds_and_names_draw_other_numbers() -> None:
    module = simple()
    draws = [
        channel_scores("random", module, name, seed=seed)[:4]
        for name in ("conv1", "conv2", "fc1")
        for seed in (0, 1)
    ]
    assert len({number for draw in draws for number in draw}) == 24


def test_torchs_own_generator_is_left_alone() -> None:
    module = simple()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    channel_scores("random", module, "conv1")
    assert torch.equal(torch.rand(3), expected)


def test_every_layer_loses_about_the_same_share() -> None:
    for layer, few in (("conv1", 108), ("conv2", 180), ("fc1", 120)):
        scores = weight_scores("random", simple(), layer)
        assert scores.numel() == few
        assert float((scores < 0.3).double().mean()) == pytest.approx(0.3, abs=0.1)
