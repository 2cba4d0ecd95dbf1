"""wanda, weight-activation, activation and apoz against numpy and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from exporter.models.simple_cnn import SimpleCNN
from tests.pruning.criteria.networks import (
    ALPHA,
    channel_scores,
    random_batches,
    residual,
    simple,
    weight_scores,
)

BATCHES = random_batches(6, 6, 3)
PIXELS = torch.cat([pixels for pixels, _ in BATCHES])


def read_by_conv2(module: SimpleCNN) -> NDArray[np.float64]:
    """``[channels, everything]``"""
    with torch.no_grad():
        read = functional.max_pool2d(functional.relu(module.conv1(PIXELS)), 2)
    return read.transpose(0, 1).flatten(1).double().numpy()


def fan_out(module: SimpleCNN, channel: int) -> float:
    return sum(
        abs(float(module.conv2.weight.detach()[o, channel, y, x]))
        for o in range(5)
        for y in range(3)
        for x in range(3)
    )


def test_wanda_is_fan_out_times_the_activations_norm() -> None:
    module = simple()
    read = read_by_conv2(module)
    scores = channel_scores("wanda", module, "conv1", BATCHES)
    for channel in range(4):
        norm = math.sqrt(float(np.mean(read[channel] ** 2)))
        assert scores[channel] == pytest.approx(fan_out(module, channel) * norm, rel=1e-5)


def test_wanda_of_single_weights() -> None:
    module = simple()
    weight = module.conv2.weight.detach()
    scores = weight_scores("wanda", module, "conv2", BATCHES)
    for channel, read in enumerate(read_by_conv2(module)):
        norm = math.sqrt(float(np.mean(read**2)))
        expected = abs(float(weight[3, channel, 2, 0])) * norm
        assert float(scores[3, channel, 2, 0]) == pytest.approx(expected, rel=1e-5)


def test_wanda_ignores_a_rescaling_that_changes_nothing() -> None:
    scaled = simple()
    before = channel_scores("wanda", scaled, "conv1", BATCHES)
    with torch.no_grad():
        scaled.conv1.weight *= 8
        assert scaled.conv1.bias is not None
        scaled.conv1.bias *= 8
        scaled.conv2.weight /= 8
    assert channel_scores("wanda", scaled, "conv1", BATCHES) == pytest.approx(before, rel=1e-5)


def test_weight_activation_is_the_balanced_sum() -> None:
    module = simple()
    weights = [fan_out(module, channel) for channel in range(4)]
    means = [float(np.mean(np.abs(read))) for read in read_by_conv2(module)]
    scores = channel_scores("weight-activation", module, "conv1", BATCHES)
    for channel in range(4):
        expected = weights[channel] / (sum(weights) / 4) + ALPHA * means[channel] / (sum(means) / 4)
        assert scores[channel] == pytest.approx(expected, rel=1e-5)


def test_weight_activation_of_single_weights() -> None:
    module = simple()
    weight = module.conv2.weight.detach().double().abs().numpy()
    means = [float(np.mean(np.abs(read))) for read in read_by_conv2(module)]
    scores = weight_scores("weight-activation", module, "conv2", BATCHES)
    for channel, mean in enumerate(means):
        expected = weight[1, channel, 0, 1] / weight.mean() + ALPHA * mean / np.mean(means)
        assert float(scores[1, channel, 0, 1]) == pytest.approx(expected, rel=1e-5)


def test_activation_is_the_mean_size() -> None:
    module = simple()
    expected = [float(np.mean(np.abs(read))) for read in read_by_conv2(module)]
    scores = channel_scores("activation", module, "conv1", BATCHES)
    assert scores == pytest.approx(expected, rel=1e-5)


def test_apoz_counts_what_is_not_zero() -> None:
    module = simple()
    scores = channel_scores("apoz", module, "conv1", BATCHES)
    for channel, read in enumerate(read_by_conv2(module)):
        zeros = sum(1 for value in read if value == 0)
        assert scores[channel] == pytest.approx(1 - zeros / len(read))
    assert min(scores) < 1


def test_a_flattened_channels_pixels_are_taken_together() -> None:
    module = simple()
    with torch.no_grad():
        first = functional.max_pool2d(functional.relu(module.conv1(PIXELS)), 2)
        read = functional.max_pool2d(functional.relu(module.conv2(first)), 2)
    expected = read.abs().mean((0, 2, 3)).tolist()
    assert channel_scores("activation", module, "conv2", BATCHES) == pytest.approx(expected)
    norms = read.double().square().mean((0, 2, 3)).sqrt().tolist()
    outgoing = module.fc1.weight.detach().abs().sum(0).view(5, 4).sum(1).tolist()  # 2x2 pixels
    products = [weight * norm for weight, norm in zip(outgoing, norms, strict=True)]
    scores = channel_scores("wanda", module, "conv2", BATCHES)
    assert scores == pytest.approx(products, rel=1e-5)


def test_all_who_read_a_channel_count_alike() -> None:
    module = residual()
    with torch.no_grad():
        outer = functional.max_pool2d(functional.relu(module.norm(module.stem(PIXELS))), 2)
        total = functional.relu(outer + module.inner_norm(module.inner(outer)))
    # The head has 16 inputs per channel, the convolution one: each input is a voice.
    size = total.abs().mean(0).flatten(1).sum(1) + outer.abs().mean((0, 2, 3))
    scores = channel_scores("activation", module, "stem", BATCHES)
    assert scores == pytest.approx((size / 17).tolist(), rel=1e-5)
