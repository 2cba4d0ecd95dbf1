"""Channels are tied across all sorts of operators, or left alone for a reason that is told."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from exporter.contract import InputContract
from exporter.pruning.groups import Coupling, Group, find_coupling, find_groups
from exporter.pruning.masks import fold, mask_channels, zero_channels
from exporter.pruning.shrink import shrink_groups

SIDE = 8
CONTRACT = InputContract(height=SIDE, width=SIDE, classes=("a", "b", "c"))
TOLERANCE = 1e-5
"""Float32 sums in another order, relative to the largest logit."""


class Network(nn.Module):
    """A stem of 12 channels, something, and a head that reads what comes out of it."""

    def __init__(self, body: nn.Module, features: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.body = body
        self.last = nn.Conv2d(features, 6, 1)
        self.head = nn.Linear(6, len(CONTRACT.classes))

    def forward(self, pixels: Tensor) -> Tensor:
        features = functional.relu(self.body(functional.relu(self.stem(pixels))))
        logits: Tensor = self.head(functional.relu(self.last(features)).mean((2, 3)))
        return logits


def settled(module: nn.Module) -> nn.Module:
    """Return ``module`` in eval mode with batch-norms that have seen something."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.normal_(0, 0.5, generator=generator)
                if "running_var" in name:
                    tensor.square_().add_(0.2)
    return module.eval()


def named(coupling: Coupling) -> dict[str, Group]:
    return {group.name: group for group in coupling.groups}


def reasons(coupling: Coupling) -> dict[str, str]:
    return {entry.layer: entry.reason for entry in coupling.fixed}


def check_removal(module: nn.Module, groups: Sequence[Group]) -> None:
    """Half of every group goes: masked, folded and shrunk network must agree."""
    kept = {group.name: tuple(range(group.width))[::2] for group in groups}
    pixels = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    before = sum(parameter.numel() for parameter in module.parameters())
    silenced = copy.deepcopy(module)
    zero_channels(silenced, groups, kept)
    with torch.no_grad():
        dense = module(pixels)
        mask_channels(module, groups, kept)
        masked = module(pixels)
        fold(module)
        assert torch.equal(module(pixels), masked)
        weights = module.state_dict()
        assert all(torch.equal(weights[name], w) for name, w in silenced.state_dict().items())
        shrink_groups(module, groups, kept)
        small = module(pixels)
    scale = float(dense.abs().max())
    assert float((masked - dense).abs().max()) > 0.01 * scale
    assert float((small - masked).abs().max()) < TOLERANCE * scale
    assert sum(parameter.numel() for parameter in module.parameters()) < before
    assert [group.width for group in find_groups(module, CONTRACT)] == [
        len(kept[group.name]) for group in groups
    ]


class Gated(nn.Module):
    """Squeeze and excite."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(12, 4, 1)
        self.excite = nn.Conv2d(4, 12, 1)

    def forward(self, features: Tensor) -> Tensor:
        squeezed = functional.silu(self.squeeze(functional.adaptive_avg_pool2d(features, 1)))
        gate: Tensor = self.excite(squeezed).sigmoid()
        return features * gate


class Dense(nn.Module):
    """A concatenation with a batch-norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(18)

    def forward(self, features: Tensor) -> Tensor:
        joined: Tensor = self.norm(torch.cat([functional.relu(self.conv(features)), features], 1))
        return joined


class Halves(nn.Module):
    """A gated linear unit: one half of the channels decides over the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 16, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        both: Tensor = self.conv(features)
        signal, gate = both.chunk(2, dim=1)
        return signal * gate.sigmoid()


class Scaled(nn.Module):
    """Parameters that belong to no layer, and a slope for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 12, 3, padding=1, bias=False)
        self.scale = nn.Parameter(torch.ones(12, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, 12, 1, 1))
        self.slope = nn.PReLU(12)

    def forward(self, features: Tensor) -> Tensor:
        inner: Tensor = self.slope(self.conv(features) * self.scale + self.bias)
        return features + inner


class Expanded(nn.Module):
    """Linear layers over the channels of an image, which come last."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(12, 20)
        self.narrow = nn.Linear(20, 12)

    def forward(self, features: Tensor) -> Tensor:
        last = features.permute(0, 2, 3, 1)
        inner: Tensor = self.narrow(functional.gelu(self.wide(last)))
        return inner.permute(0, 3, 1, 2)


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(12, 18, 3, padding=1, groups=3, bias=False), nn.BatchNorm2d(18), nn.ReLU6()
    )


def separable() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.BatchNorm2d(12), nn.Sigmoid()
    )


BODIES: dict[str, tuple[Callable[[], nn.Module], int, dict[str, tuple[int, int]]]] = {
    # factory, features it puts out, width and step of the groups beside `last`
    "gated": (Gated, 12, {"stem": (12, 1), "body.squeeze": (4, 1)}),
    "dense": (Dense, 18, {"stem": (12, 1), "body.conv": (6, 1)}),
    "halves": (Halves, 8, {"stem": (12, 1), "body.conv": (8, 2)}),
    "scaled": (Scaled, 12, {"stem": (12, 1)}),
    "expanded": (Expanded, 12, {"stem": (12, 1), "body.wide": (20, 1), "body.narrow": (12, 1)}),
    "grouped": (grouped, 18, {"stem": (4, 3), "body.0": (6, 3)}),
    "separable": (separable, 12, {"stem": (12, 1)}),
    "instance-norm": (lambda: nn.InstanceNorm2d(12, affine=True), 12, {"stem": (12, 1)}),
    "plain-norm": (lambda: nn.BatchNorm2d(12, affine=False), 12, {"stem": (12, 1)}),
}


@pytest.mark.parametrize("name", BODIES)
def test_masked_folded_and_shrunk_agree(name: str) -> None:
    body, features, expected = BODIES[name]
    module = settled(Network(body(), features))

    coupling = find_coupling(module, CONTRACT)

    assert reasons(coupling) == {"head": "they are an output of the network"}
    found = {group.name: (group.width, group.step) for group in coupling.groups}
    assert found == expected | {"last": (6, 1)}
    check_removal(module, coupling.groups)


def test_a_grouped_convolution_loses_as_many_channels_in_each_group() -> None:
    stem, body, _ = find_groups(settled(Network(grouped(), 18)), CONTRACT)

    assert stem.producers[0].positions == tuple((c, c + 4, c + 8) for c in range(4))
    assert stem.consumers[0].positions == stem.producers[0].positions
    assert body.norms[0].positions == tuple((c, c + 6, c + 12) for c in range(6))


def test_a_concatenation_reads_each_part_in_its_place() -> None:
    groups = named(find_coupling(settled(Network(Dense(), 18)), CONTRACT))

    assert [tied.layer for tied in groups["stem"].consumers] == ["body.conv", "last"]
    assert groups["stem"].consumers[1].positions == tuple((6 + c,) for c in range(12))
    assert groups["body.conv"].norms[0].positions == tuple((c,) for c in range(6))


def test_parameters_outside_of_layers_belong_to_the_group() -> None:
    groups = named(find_coupling(settled(Network(Scaled())), CONTRACT))

    assert [(p.name, p.dimension) for p in groups["stem"].parameters] == [
        ("body.bias", 1),
        ("body.scale", 0),
        ("body.slope.weight", 0),
    ]


class Mixed(nn.Module):
    """Whatever a function does to the channels."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("weights", torch.rand(12, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        return self.function(features)


class Buffered(Mixed):
    def forward(self, features: Tensor) -> Tensor:
        return features * self.get_buffer("weights")


def shuffle(features: Tensor) -> Tensor:
    count, channels, height, width = features.shape
    parts = features.reshape(count, 2, channels // 2, height, width)
    return parts.transpose(1, 2).reshape(count, channels, height, width)


@pytest.mark.parametrize(
    ("body", "features", "reason"),
    [
        (Mixed(shuffle), 12, r"a reshape from \(1, 12, 8, 8\) to \(1, 2, 6, 8, 8\) mixes them"),
        (Mixed(lambda x: x[:, 2:]), 10, "a slice takes them by their place"),
        (Mixed(lambda x: torch.stack(x.unbind(1)[:6], 1)), 6, "they are taken apart one by one"),
        (Mixed(lambda x: torch.cat(x.split([6, 6], 1)[::-1], 1)), 12, "does not run without them"),
        (Mixed(lambda x: x + x.flip(1)), 12, "outputs differ by"),
        (Mixed(lambda x: x * x.mean(1, keepdim=True)), 12, "outputs differ by"),
        (Mixed(lambda x: functional.pixel_shuffle(x, 2)), 3, "does not run without them"),
        (Buffered(torch.relu), 12, "does not run without them"),
        (nn.GroupNorm(3, 12), 12, "GroupNorm takes its mean over them"),
        (nn.ConvTranspose2d(12, 12, 1), 12, "ConvTranspose2d is not taken apart"),
        (nn.Conv2d(12, 6, 1, groups=6), 6, "a grouped convolution has one output per group"),
    ],
)
def test_what_cannot_be_tied_safely_is_left_alone(
    body: nn.Module, features: int, reason: str
) -> None:
    module = settled(Network(body, features))

    coupling = find_coupling(module, CONTRACT)

    found = {entry.layer: entry for entry in coupling.fixed}
    assert found["stem"].width == 12
    assert re.search(reason, found["stem"].reason)
    assert [group.name for group in coupling.groups] == ["last"]
    check_removal(module, coupling.groups)


class LayerNorm2d(nn.LayerNorm):
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def test_only_the_inside_of_a_block_between_layer_norms_is_pruned() -> None:
    module = settled(Network(nn.Sequential(LayerNorm2d(12), Expanded(), LayerNorm2d(12))))

    coupling = find_coupling(module, CONTRACT)

    assert reasons(coupling) == {
        "stem": "LayerNorm2d takes its mean over them",
        "body.1.narrow": "LayerNorm2d takes its mean over them",
        "head": "they are an output of the network",
    }
    assert [group.name for group in coupling.groups] == ["body.1.wide", "last"]
    check_removal(module, coupling.groups)


class TwoOutputs(nn.Module):
    """A backbone that hands out what it reads itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3)
        self.inner = nn.Conv2d(12, 8, 3)
        self.last = nn.Conv2d(8, 4, 3)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        low = functional.relu(self.stem(pixels))
        high = self.last(functional.relu(self.inner(low)))
        return {"high": high, "low": low}


def test_every_output_of_a_network_keeps_its_channels() -> None:
    coupling = find_coupling(settled(TwoOutputs()), CONTRACT)

    output = "they are an output of the network"
    assert reasons(coupling) == {"stem": output, "last": output}
    assert [group.name for group in coupling.groups] == ["inner"]


def test_frozen_layers_keep_their_channels() -> None:
    module = settled(Network(Gated()))
    module.get_parameter("body.squeeze.weight").requires_grad = False

    coupling = find_coupling(module, CONTRACT)

    assert reasons(coupling)["body.squeeze"] == "body.squeeze is frozen"
    assert list(named(coupling)) == ["stem", "last"]


class Patchwork(nn.Module):
    """Two halves from two layers, added to a whole from another."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = nn.Conv2d(12, 12, 1)
        self.left = nn.Conv2d(12, 4, 1)
        self.right = nn.Conv2d(12, 8, 1)

    def forward(self, features: Tensor) -> Tensor:
        whole: Tensor = self.whole(features)
        return whole + torch.cat([self.left(features), self.right(features)], 1)


def test_layers_that_share_some_channels_only_are_left_alone() -> None:
    coupling = find_coupling(settled(Network(Patchwork())), CONTRACT)

    assert reasons(coupling)["body.whole"] == "its layers share only some of them"
    assert list(named(coupling)) == ["stem", "last"]


def test_the_network_is_left_as_it_was() -> None:
    module = Network(separable()).train()
    module.stem.weight.requires_grad = False
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    first = find_coupling(module, CONTRACT)

    assert find_coupling(module, CONTRACT) == first
    assert module.training
    assert not module.stem.weight.requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
