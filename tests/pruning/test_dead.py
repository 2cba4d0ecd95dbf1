"""Planted dead channels are found, folded and removed without a trace; live ones stay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from exporter.contract import InputContract
from exporter.models import MODELS
from exporter.models.family import ModelRef, build_model
from exporter.pruning.dead import find_dead, fold_constants
from exporter.pruning.groups import find_groups
from exporter.pruning.masks import fold, mask_channels
from exporter.pruning.shrink import shrink_groups
from exporter.training.augmentation import normalise

CONTRACT = InputContract(height=8, width=8, classes=("a", "b", "c"))
SAME = 1e-6
"""Largest difference of the logits, relative to the largest."""


class Chain(nn.Module):
    """A reader of each kind: zero padding, none, mirrored borders, a flattened linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 5, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(5)
        self.conv3 = nn.Conv2d(5, 6, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(6)
        self.conv4 = nn.Conv2d(6, 5, 3, padding=1, padding_mode="reflect")
        self.head = nn.Linear(5 * 16, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        features = functional.max_pool2d(functional.relu(self.norm1(self.conv1(pixels))), 2)
        features = functional.relu(self.norm2(self.conv2(features)))
        features = functional.relu(self.norm3(self.conv3(features)))
        features = functional.relu(self.conv4(features))
        logits: Tensor = self.head(features.flatten(1))
        return logits


class Tied(nn.Module):
    """A sum, and a depthwise convolution that passes channels on."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 1)
        self.depthwise = nn.Conv2d(5, 5, 3, groups=5)
        self.branch = nn.Conv2d(5, 5, 1)
        self.head = nn.Linear(5, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        features = functional.relu(self.depthwise(functional.relu(self.stem(pixels))))
        features = functional.relu(features + self.branch(features))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


def batches(count: int = 2) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shape = (4, CONTRACT.height, CONTRACT.width, 3)
    return [
        (
            normalise(torch.randint(0, 256, shape, generator=generator).byte(), CONTRACT),
            torch.zeros(4).long(),
        )
        for _ in range(count)
    ]


def random_network(module: nn.Module) -> nn.Module:
    """Every channel alive: scales and means are random, biases lift all channels."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, 0.1, 0.5)
            norm.running_mean = torch.randn(norm.num_features) / 10
            norm.running_var = torch.rand(norm.num_features) + 0.5
    return module.eval().requires_grad_(True)


def chain() -> Chain:
    torch.manual_seed(0)
    module = Chain()
    random_network(module)
    return module


@torch.no_grad()
def planted() -> Chain:
    module = chain()
    # Blank filters: behind batch-norm and ReLU the constant is 0, or what the bias makes it.
    module.conv1.weight[1] = 0
    module.norm1.bias[1] = -1
    module.norm1.bias[3] = -1000  # no image lifts this one above 0
    module.conv1.weight[4] = 0
    module.norm1.bias[4] = 1  # a constant that the next layer's zero padding shows
    module.conv2.weight[2] = 0
    module.norm2.bias[2] = 0.75
    module.conv3.weight[0] = 0
    module.norm3.bias[0] = 0.5
    assert module.conv4.bias is not None
    module.conv4.weight[1] = 0
    module.conv4.bias[1] = 2
    module.conv4.bias[2] = -1000
    return module


DEAD = {"conv1": (1, 3), "conv2": (2,), "conv3": (0,), "conv4": (1, 2)}


def logits(module: nn.Module) -> Tensor:
    pixels = torch.cat([pixels for pixels, _ in batches(8)])
    with torch.no_grad():
        result: Tensor = module(pixels)
    return result


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert float((found - expected).abs().max()) <= SAME * float(expected.abs().max())


def test_planted_channels_are_found_and_no_others() -> None:
    module = planted()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    groups = find_groups(module, CONTRACT)
    assert find_dead(module, groups, CONTRACT, batches()) == DEAD
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in module.modules())


def test_folding_changes_no_output_and_leaves_the_dead_unread() -> None:
    module = planted()
    expected = logits(module)
    fold_constants(module, find_groups(module, CONTRACT), DEAD, CONTRACT)
    assert_same(logits(module), expected)
    read, head = module.conv2.weight.detach(), module.head.weight.detach()
    assert float(read[:, [1, 3]].abs().max()) == 0
    assert float(read[:2, [0, 2, 4, 5]].abs().min()) > 0
    assert float(head[:, 16:48].abs().max()) == 0
    # By hand: the head reads 16 pixels of the constant 2.
    before = planted().head
    shift = 2 * before.weight.detach()[:, 16:32].sum(1)
    assert torch.allclose(module.head.bias - before.bias, shift, atol=1e-6)


def test_masked_and_shrunk_agree_with_the_network_as_it_was() -> None:
    module = planted()
    expected = logits(module)
    groups = find_groups(module, CONTRACT)
    fold_constants(module, groups, DEAD, CONTRACT)
    kept = {
        group.name: tuple(c for c in range(group.width) if c not in DEAD[group.name])
        for group in groups
    }
    mask_channels(module, groups, kept)
    fold(module)
    assert_same(logits(module), expected)
    shrink_groups(module, groups, kept)
    assert_same(logits(module), expected)
    assert module.conv1.weight.shape[0] == 4
    assert module.head.weight.shape[1] == 3 * 16
    assert find_dead(module, find_groups(module, CONTRACT), CONTRACT, batches()) == dict.fromkeys(
        DEAD, ()
    )


def test_a_constant_needs_a_place_to_go() -> None:
    """Without a bias and without a batch-norm right behind it there is none."""
    module = planted()
    module.norm3 = nn.Sequential(nn.Identity(), nn.Sigmoid())  # type: ignore[assignment]
    dead = find_dead(module, find_groups(module, CONTRACT), CONTRACT, batches())
    assert dead["conv2"] == ()
    assert dead["conv1"] == DEAD["conv1"]


def test_silence_on_the_images_at_hand_is_no_proof() -> None:
    module = chain()
    with torch.no_grad():
        # Out of reach for these images, not for all: the filter sums to at most about 8.
        module.norm1.bias[2] = -3
    (pixels, labels), *_ = batches()
    quiet = [(pixels / 100, labels)]
    with torch.no_grad():
        assert float(functional.relu(module.norm1(module.conv1(quiet[0][0])))[:, 2].max()) == 0
    dead = find_dead(module, find_groups(module, CONTRACT), CONTRACT, quiet)
    assert dead == dict.fromkeys(DEAD, ())


def test_images_that_contradict_the_proof_keep_a_channel_alive() -> None:
    """They do where pixels are not what the contract says."""
    module = planted()
    (pixels, labels), *_ = batches()
    dead = find_dead(module, find_groups(module, CONTRACT), CONTRACT, [(pixels * 1e4, labels)])
    assert dead == DEAD | {"conv1": (1,), "conv4": (1,)}


def test_a_layer_keeps_one_channel() -> None:
    module = chain()
    with torch.no_grad():
        module.norm1.bias.fill_(-1000)
    dead = find_dead(module, find_groups(module, CONTRACT), CONTRACT, batches())
    assert dead["conv1"] == (1, 2, 3, 4, 5)


def test_tied_channels_are_dead_only_where_all_are() -> None:
    torch.manual_seed(0)
    module = Tied()
    with torch.no_grad():
        for conv in (module.stem, module.depthwise, module.branch):
            assert conv.bias is not None
            conv.bias.fill_(0.5)
        # 0: silent in both; 1: silent in the stem only; 2: constant in both, but the branch says
        # other things to it through its own channel.
        for channel in (0, 1, 2):
            module.stem.weight[channel] = 0
            module.stem.bias[channel] = -1  # type: ignore[index]
        module.depthwise.bias[0] = -1  # type: ignore[index]
        module.branch.weight[0] = 0
        module.branch.bias[0] = -1  # type: ignore[index]
        module.branch.weight[2] = 0
        module.branch.bias[2] = 0.25  # type: ignore[index]
    module.eval()
    groups = find_groups(module, CONTRACT)
    assert [group.name for group in groups] == ["stem"]
    dead = find_dead(module, groups, CONTRACT, batches())
    # 2 is the constant 0.5 where the branch reads it, 0.75 where the head does: both have a bias.
    assert dead == {"stem": (0, 2)}
    expected = logits(module)
    fold_constants(module, groups, dead, CONTRACT)
    assert_same(logits(module), expected)
    shrink_groups(module, groups, {"stem": (1, 3, 4)})
    assert_same(logits(module), expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_healthy_network_has_none_and_no_image_is_read(name: str) -> None:
    def unread() -> Iterator[tuple[Tensor, Tensor]]:
        raise AssertionError("images were asked for")
        yield

    torch.manual_seed(0)
    contract = InputContract(height=20, width=20, classes=("a", "b", "c"))
    module = random_network(build_model(ModelRef(name=name, widths=(4, 6, 8)), contract))
    groups = find_groups(module, contract)
    assert groups
    dead = find_dead(module, groups, contract, unread())
    assert dead == {group.name: () for group in groups}
