"""Groups tie the right layers; masked, folded and shrunk networks agree."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from exporter.contract import InputContract
from exporter.models import MODELS
from exporter.models.family import ModelRef, build_model
from exporter.pruning.groups import Group, find_groups
from exporter.pruning.masks import fold, mask_channels, mask_weights
from exporter.pruning.shrink import shrink_groups

CONTRACT = InputContract(height=20, width=24, classes=("a", "b", "c"))
WIDTHS = (8, 12, 16)
TOLERANCE = 1e-5


def network(name: str) -> nn.Module:
    """A network whose batch-norms have seen something."""
    torch.manual_seed(3)
    module = build_model(ModelRef(name=name, widths=WIDTHS), CONTRACT).eval()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.bias)
            norm.running_mean = torch.randn(norm.num_features)
            norm.running_var = torch.rand(norm.num_features) + 0.5
    return module


def every_third(groups: tuple[Group, ...]) -> dict[str, tuple[int, ...]]:
    return {group.name: tuple(c for c in range(group.width) if c % 3) for group in groups}


def layers(group: Group) -> tuple[set[str], set[str], set[str]]:
    return (
        {tied.layer for tied in group.producers},
        {tied.layer for tied in group.norms},
        {tied.layer for tied in group.consumers},
    )


def test_a_plain_chain() -> None:
    groups = find_groups(network("simple-cnn"), CONTRACT)
    assert [layers(group) for group in groups] == [
        ({"conv1"}, set(), {"conv2"}),
        ({"conv2"}, set(), {"fc1"}),
        ({"fc1"}, set(), {"fc2"}),
    ]
    flattened = groups[1].consumers[0].positions
    assert flattened[1] == tuple(range(30, 60))  # 20x24 pooled twice is 5x6


def test_a_residual_sum_ties_all_its_producers() -> None:
    groups = {group.name: group for group in find_groups(network("resnet8"), CONTRACT)}
    assert layers(groups["stem"]) == (
        {"stem", "stages.0.conv2"},
        {"norm", "stages.0.norm2"},
        {"stages.0.conv1", "stages.1.conv1", "stages.1.shortcut"},
    )
    assert layers(groups["stages.1.conv2"])[0] == {"stages.1.conv2", "stages.1.shortcut"}


def test_frozen_layers_and_outputs_are_left_alone() -> None:
    groups = find_groups(network("edge-vgg"), CONTRACT)
    produced = {tied.layer for group in groups for tied in group.producers}
    assert produced == {f"blocks.{block}.conv{conv}" for block in range(3) for conv in (1, 2)}


@pytest.mark.parametrize("name", MODELS)
def test_masked_folded_and_shrunk_agree(name: str) -> None:
    module = network(name)
    groups = find_groups(module, CONTRACT)
    kept = every_third(groups)
    for parameter in module.parameters():
        parameter.requires_grad = False
    pixels = torch.randn(4, 3, 20, 24)
    dense = module(pixels)
    before = sum(p.numel() for p in module.parameters())
    mask_channels(module, groups, kept)
    masked = module(pixels)
    assert not torch.allclose(masked, dense, atol=1e-3)
    fold(module)
    assert torch.equal(module(pixels), masked)
    assert not any("mask" in key or "orig" in key for key in module.state_dict())
    shrink_groups(module, groups, kept)
    assert torch.allclose(module(pixels), masked, atol=TOLERANCE * float(masked.abs().max()))
    assert sum(p.numel() for p in module.parameters()) < 0.75 * before


@pytest.mark.parametrize("name", MODELS)
def test_a_shrunk_network_can_be_grouped_and_shrunk_again(name: str) -> None:
    module = network(name)
    for _ in range(2):
        groups = find_groups(module, CONTRACT)
        kept = every_third(groups)
        shrink_groups(module, groups, kept)
    assert [group.width for group in find_groups(module, CONTRACT)] == [
        sum(1 for channel in kept[group.name]) for group in groups
    ]
    assert module(torch.zeros(1, 3, 20, 24)).shape == (1, 3)


@pytest.mark.parametrize("name", MODELS)
def test_removing_nothing_changes_nothing(name: str) -> None:
    module = network(name)
    pixels = torch.randn(2, 3, 20, 24)
    before, twin = module(pixels), copy.deepcopy(module)
    groups = find_groups(module, CONTRACT)
    everything = {group.name: tuple(range(group.width)) for group in groups}
    mask_channels(module, groups, everything)
    fold(module)
    shrink_groups(module, groups, everything)
    assert torch.equal(module(pixels), before)
    assert {k: v.shape for k, v in module.state_dict().items()} == {
        k: v.shape for k, v in twin.state_dict().items()
    }


def test_weight_masks_zero_exactly_what_they_say() -> None:
    module = network("simple-cnn")
    weight = module.get_parameter("fc1.weight")
    mask = (torch.rand_like(weight) > 0.5).float()
    expected = weight.detach() * mask
    mask_weights(module, {"fc1": mask})
    fold(module)
    assert torch.equal(module.get_parameter("fc1.weight"), expected)
