"""Bounds hold for every image that is tried, and are exact where they can be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from exporter.contract import InputContract
from exporter.models import MODELS
from exporter.models.family import ModelRef, build_model
from exporter.pruning.bounds import trace_bounds
from exporter.pruning.evidence import weighted_layers
from exporter.pruning.interval import Bounds
from exporter.training.augmentation import normalise

CONTRACT = InputContract(height=6, width=6, classes=("a", "b"))
LOW, HIGH = -2.0, 127 / 64
ROUNDING = 1e-5
"""Bounds are those of real numbers; the network runs in float32."""


class Probe(nn.Module):
    """What a layer reads behind an operator."""

    def __init__(self, operator: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.operator = operator
        self.parts = nn.ModuleList([operator] if isinstance(operator, nn.Module) else [])
        result = operator(torch.zeros(2, 3, 6, 6))
        width = result.shape[1]
        self.head: nn.Module = nn.Conv2d(width, 2, 1) if result.ndim == 4 else nn.Linear(width, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.operator(pixels))
        return logits


def images() -> Tensor:
    """Every grey, every corner of the colour cube, and noise: bytes ``[N, 6, 6, 3]``."""
    generator = torch.Generator().manual_seed(0)
    greys = torch.arange(256).view(-1, 1, 1, 1).expand(-1, 6, 6, 3)
    corners = torch.tensor(list(itertools.product((0, 255), repeat=3))).view(-1, 1, 1, 3)
    noise = torch.randint(0, 256, (64, 6, 6, 3), generator=generator)
    return torch.cat([greys, corners.expand(-1, 6, 6, 3), noise]).to(torch.uint8)


def observed(values: Tensor) -> tuple[Tensor, Tensor]:
    by_channel = values.transpose(0, 1).flatten(1).double()
    return by_channel.amin(1), by_channel.amax(1)


def assert_within(values: Tensor, bounds: Bounds) -> None:
    low, high = observed(values)
    assert bool((low >= bounds.low - ROUNDING).all())
    assert bool((high <= bounds.high + ROUNDING).all())


EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "relu in place": lambda x: functional.relu(x.clone(), inplace=True),
    "torch.relu": torch.relu,
    "method": lambda x: x.relu(),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(-0.5, 0.25),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "hardsigmoid": nn.Hardsigmoid(),
    "hardswish": nn.Hardswish(),
    "silu": nn.SiLU(),
    "max pool": nn.MaxPool2d(3, 2, padding=1),
    "average pool": nn.AvgPool2d(2),
    "adaptive average": nn.AdaptiveAvgPool2d(2),
    "adaptive maximum": nn.AdaptiveMaxPool2d(1),
    "mean": lambda x: x.mean((2, 3)),
    "kept mean": lambda x: x.mean([2, 3], keepdim=True),
    "flatten": lambda x: torch.flatten(x, 1),
    "view": lambda x: x.view(x.shape[0], -1),
    "reshape": lambda x: x.reshape(x.size(0), -1),
    "squeeze": lambda x: functional.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1),
    "dropout": nn.Dropout(0.5).eval(),
    "reflect": nn.ReflectionPad2d(1),
    "concatenation": lambda x: torch.cat([x, x.relu()], 1),
    "double": lambda x: x + x,
}
LOOSE: dict[str, Callable[[Tensor], Tensor]] = {
    "padded average": nn.AvgPool2d(3, padding=1),
    "padded": lambda x: functional.pad(x.relu() + x.sigmoid(), (1, 1, 1, 1)),
    "sum": lambda x: x + x.sigmoid(),
    "product": lambda x: x * x.tanh(),
    "in place sum": lambda x: x.clone().add_(x.relu()),
}


@pytest.mark.parametrize("name", [*EXACT, *LOOSE])
def test_operators(name: str) -> None:
    operator = (EXACT | LOOSE)[name]
    probe = Probe(operator).eval()
    bounds = trace_bounds(probe, CONTRACT).reads["head"]
    with torch.no_grad():
        values = operator(normalise(images(), CONTRACT).contiguous())
    assert_within(values, bounds)
    assert bool(bounds.low.isfinite().all())
    assert bool(bounds.high.isfinite().all())
    if name in EXACT:
        low, high = observed(values)
        # Greys are 1/64 apart, so the bottom of a valley is met to its square.
        assert torch.allclose(bounds.low, low, atol=1e-4)
        assert torch.allclose(bounds.high, high, atol=1e-4)


@pytest.mark.parametrize(
    "operator",
    [
        lambda x: functional.gelu(x),
        lambda x: x.permute(0, 2, 1, 3),
        lambda x: x + torch.ones(3, 1, 1),
        lambda x: torch.cat([x, x], 2),
        lambda x: torch.add(x, x, alpha=2),
        lambda x: functional.pad(x, (0, 0, 0, 0, 1, 1)),
        lambda x: x.mean(0, keepdim=True).expand(2, 3, 6, 6),
    ],
)
def test_what_has_no_rule_may_be_anything(operator: Callable[[Tensor], Tensor]) -> None:
    bounds = trace_bounds(Probe(operator).eval(), CONTRACT).reads["head"]
    assert bool((bounds.low == -math.inf).all())
    assert bool((bounds.high == math.inf).all())


def test_a_convolution_takes_the_worst_image_for_each_weight() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 6, 3, groups=3)
    bounds = trace_bounds(Probe(conv).eval(), CONTRACT).reads["head"]
    assert conv.bias is not None
    for channel in range(6):
        low = high = float(conv.bias.detach()[channel])
        for value in conv.weight.detach()[channel].flatten().tolist():
            low += min(value * LOW, value * HIGH)
            high += max(value * LOW, value * HIGH)
        assert float(bounds.low[channel]) == pytest.approx(low)
        assert float(bounds.high[channel]) == pytest.approx(high)


def test_zero_padding_puts_zeros_among_the_inputs() -> None:
    conv = nn.Conv2d(3, 1, 3, padding=1, bias=False)
    bright = nn.Sequential(nn.Sigmoid(), conv)
    with torch.no_grad():
        conv.weight.fill_(1.0)
    bounds = trace_bounds(Probe(bright).eval(), CONTRACT).reads["head"]
    assert float(bounds.low) == 0
    assert float(bounds.high) == pytest.approx(27 / (1 + math.exp(-HIGH)))


def test_batch_norm_with_positive_negative_and_no_scale() -> None:
    norm = nn.BatchNorm2d(3).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, -2.0, 0.0]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, 5.0]))
    norm.running_mean, norm.running_var = torch.ones(3), torch.full((3,), 4.0)
    bounds = trace_bounds(Probe(norm).eval(), CONTRACT).reads["head"]
    scale = 2 / math.sqrt(4 + 1e-5)
    assert bounds.low.tolist() == pytest.approx([scale * (LOW - 1), 1 - scale * (HIGH - 1), 5])
    assert bounds.high.tolist() == pytest.approx([scale * (HIGH - 1), 1 - scale * (LOW - 1), 5])


def test_a_zero_filter_is_constant_whatever_it_reads() -> None:
    conv = nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        conv.weight[0] = 0
        conv.bias.copy_(torch.tensor([3.0, 4.0]))  # type: ignore[union-attr]
    bounds = trace_bounds(Probe(nn.Sequential(nn.GELU(), conv, nn.ReLU())), CONTRACT).reads["head"]
    assert bounds.low.tolist() == [3, 0]
    assert bounds.high.tolist() == [3, math.inf]


def test_own_normalisation_counts() -> None:
    contract = InputContract(
        height=6, width=6, classes=("a", "b"), mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 3.0)
    )
    bounds = trace_bounds(Probe(nn.Identity()), contract).reads["head"]
    assert bounds.low.tolist() == pytest.approx([-10, -10, -10])
    assert bounds.high.tolist() == pytest.approx([245, 117.5, 75])


@pytest.mark.parametrize("name", MODELS)
def test_every_network_stays_within_its_bounds(name: str) -> None:
    torch.manual_seed(0)
    contract = InputContract(height=20, width=20, classes=("a", "b"))
    module = build_model(ModelRef(name=name, widths=(4, 6, 8)), contract).eval()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    reads = trace_bounds(module, contract).reads
    assert set(reads) == set(weighted_layers(module))
    bytes_ = torch.randint(0, 256, (16, 20, 20, 3), dtype=torch.uint8)
    for layer_name, layer in weighted_layers(module).items():
        layer.register_forward_pre_hook(
            lambda _, inputs, name=layer_name: assert_within(inputs[0], reads[name])
        )
    with torch.no_grad():
        module(normalise(bytes_, contract))
    assert all(bool(bounds.low.isfinite().all()) for bounds in reads.values())


class Branches(nn.Module):
    """A batch-norm that is the only reader of a layer, and three that are not."""

    def __init__(self) -> None:
        super().__init__()
        self.alone, self.shared, self.behind, self.joined = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.BatchNorm2d(3) for _ in range(4))
        self.head = nn.Conv2d(18, 2, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        shared, joined = self.shared(pixels), self.joined(pixels)
        parts = [
            self.norm1(self.alone(pixels)),
            self.norm2(shared) + shared,
            self.norm3(functional.relu(self.behind(pixels), inplace=True)),
            self.norm4(joined),
            torch.cat([joined, pixels], 1),
        ]
        logits: Tensor = self.head(torch.cat(parts, 1))
        return logits


def test_a_batch_norm_is_paired_with_a_layer_that_nothing_else_reads() -> None:
    module = Branches().requires_grad_(False)
    assert trace_bounds(module, CONTRACT).norm_after == {"alone": "norm1"}
