"""Every criterion against loops over single numbers, on a network small enough to follow."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from exporter.contract import InputContract
from exporter.errors import ConfigError
from exporter.models.simple_cnn import SimpleCNN
from exporter.pruning.criteria import CRITERIA, Criterion, find_criterion
from exporter.pruning.evidence import Evidence, gather_evidence, view_channels, view_weights
from exporter.pruning.groups import Group, find_groups

CONTRACT = InputContract(height=8, width=8, classes=("a", "b", "c"))
ALPHA = 0.7


@pytest.fixture(scope="module")
def module() -> SimpleCNN:
    torch.manual_seed(0)
    return SimpleCNN(widths=(4, 5, 6), classes=3, height=8, width=8).eval()


@pytest.fixture(scope="module")
def batches() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(size, 3, 8, 8), torch.arange(size) % 3) for size in (6, 6, 3)]


@pytest.fixture(scope="module")
def evidence(module: SimpleCNN, batches: list[tuple[Tensor, Tensor]]) -> Evidence:
    return gather_evidence(module, batches)


@pytest.fixture(scope="module")
def groups(module: SimpleCNN) -> dict[str, Group]:
    return {group.name: group for group in find_groups(module, CONTRACT)}


def channel_scores(name: str, module: nn.Module, group: Group, evidence: Evidence) -> list[float]:
    scores: list[float] = (
        CRITERIA[name].channels(view_channels(module, group, evidence, ALPHA)).tolist()
    )
    return scores


def activations(module: SimpleCNN, batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """What conv2 reads: ``[channels, everything]``."""
    pixels = torch.cat([pixels for pixels, _ in batches])
    with torch.no_grad():
        read = functional.max_pool2d(functional.relu(module.conv1(pixels)), 2)
    return read.transpose(0, 1).flatten(1)


def fan_out(module: SimpleCNN, channel: int) -> float:
    return sum(
        abs(float(module.conv2.weight.detach()[o, channel, y, x]))
        for o in range(5)
        for y in range(3)
        for x in range(3)
    )


def test_l1_and_l2(module: SimpleCNN, groups: dict[str, Group], evidence: Evidence) -> None:
    for channel in range(4):
        numbers = [float(value) for value in module.conv1.weight.detach()[channel].flatten()]
        l1 = channel_scores("l1", module, groups["conv1"], evidence)[channel]
        l2 = channel_scores("l2", module, groups["conv1"], evidence)[channel]
        assert l1 == pytest.approx(sum(map(abs, numbers)))
        assert l2 == pytest.approx(math.sqrt(sum(value * value for value in numbers)))


def test_wanda_is_fan_out_times_the_activations_norm(
    module: SimpleCNN,
    groups: dict[str, Group],
    evidence: Evidence,
    batches: list[tuple[Tensor, Tensor]],
) -> None:
    read = activations(module, batches)
    scores = channel_scores("wanda", module, groups["conv1"], evidence)
    for channel in range(4):
        norm = math.sqrt(float(read[channel].double().square().mean()))
        assert scores[channel] == pytest.approx(fan_out(module, channel) * norm, rel=1e-5)


def test_wanda_ignores_a_rescaling_that_changes_nothing(
    groups: dict[str, Group], batches: list[tuple[Tensor, Tensor]]
) -> None:
    torch.manual_seed(0)
    scaled = SimpleCNN(widths=(4, 5, 6), classes=3, height=8, width=8).eval()
    before = channel_scores("wanda", scaled, groups["conv1"], gather_evidence(scaled, batches))
    with torch.no_grad():
        scaled.conv1.weight *= 8
        assert scaled.conv1.bias is not None
        scaled.conv1.bias *= 8
        scaled.conv2.weight /= 8
    after = channel_scores("wanda", scaled, groups["conv1"], gather_evidence(scaled, batches))
    assert after == pytest.approx(before, rel=1e-5)


def test_weight_activation_is_the_balanced_sum(
    module: SimpleCNN,
    groups: dict[str, Group],
    evidence: Evidence,
    batches: list[tuple[Tensor, Tensor]],
) -> None:
    read = activations(module, batches).abs().double()
    weights = [fan_out(module, channel) for channel in range(4)]
    means = [float(read[channel].mean()) for channel in range(4)]
    scores = channel_scores("weight-activation", module, groups["conv1"], evidence)
    for channel in range(4):
        expected = weights[channel] / (sum(weights) / 4) + ALPHA * means[channel] / (sum(means) / 4)
        assert scores[channel] == pytest.approx(expected, rel=1e-5)


def test_gradient_is_the_mean_over_batches_of_its_size(
    module: SimpleCNN,
    groups: dict[str, Group],
    evidence: Evidence,
    batches: list[tuple[Tensor, Tensor]],
) -> None:
    totals = torch.zeros_like(module.conv1.weight)
    for pixels, labels in batches:
        loss = functional.cross_entropy(module(pixels), labels)
        (gradient,) = torch.autograd.grad(loss, module.conv1.weight)
        totals += gradient.abs() / len(batches)
    expected = totals.flatten(1).mean(1).tolist()
    scores = channel_scores("gradient", module, groups["conv1"], evidence)
    assert scores == pytest.approx(expected, rel=1e-4)


def test_a_flattened_channels_activations_are_taken_together(
    module: SimpleCNN, groups: dict[str, Group], evidence: Evidence
) -> None:
    seen = view_channels(module, groups["conv2"], evidence, ALPHA)
    assert seen.outgoing.shape == (5, 4 * 6)  # 2x2 pixels, 6 hidden units
    read = evidence.input_mean["fc1"]
    for channel in range(5):
        expected = float(read[4 * channel : 4 * channel + 4].mean())
        assert float(seen.activation_mean[channel]) == pytest.approx(expected)


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=list(CRITERIA))
def test_every_criterion_scores_every_channel_and_weight(
    criterion: Criterion, module: SimpleCNN, groups: dict[str, Group], evidence: Evidence
) -> None:
    for group in groups.values():
        scores = criterion.channels(view_channels(module, group, evidence, ALPHA))
        assert scores.shape == (group.width,)
        assert bool((scores >= 0).all())
        assert bool(scores.isfinite().all())
    for name in ("conv1", "conv2", "fc1", "fc2"):
        weight = module.get_parameter(f"{name}.weight")
        single = criterion.weights(view_weights(name, weight, evidence, ALPHA))
        assert single.shape == weight.shape
        assert bool(single.isfinite().all())
    assert criterion.summary
    assert criterion.source


def test_single_weights_by_hand(module: SimpleCNN, evidence: Evidence) -> None:
    weight = module.conv2.weight
    seen = view_weights("conv2", weight, evidence, ALPHA)
    value = float(weight.detach()[1, 2, 0, 1])
    norm = float(evidence.input_norm["conv2"][2])
    assert float(CRITERIA["l1"].weights(seen)[1, 2, 0, 1]) == pytest.approx(abs(value))
    assert float(CRITERIA["l2"].weights(seen)[1, 2, 0, 1]) == pytest.approx(value**2)
    assert float(CRITERIA["wanda"].weights(seen)[1, 2, 0, 1]) == pytest.approx(abs(value) * norm)


def test_evidence_leaves_the_network_as_it_was(
    module: SimpleCNN, batches: list[tuple[Tensor, Tensor]]
) -> None:
    before = {name: value.clone() for name, value in module.state_dict().items()}
    gather_evidence(module, batches)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(layer._forward_pre_hooks for layer in module.modules())


def test_an_unknown_criterion_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="l1, l2, wanda, weight-activation, gradient"):
        find_criterion("magnitude")
