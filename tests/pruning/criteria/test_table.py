"""Contracts over every row of the table of criteria."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from exporter.errors import ConfigError
from exporter.pruning.criteria import CRITERIA, Criterion, find_criterion, formula_for_weights
from exporter.pruning.evidence import Evidence
from exporter.pruning.groups import find_groups
from exporter.pruning.scores import score_channels, score_weights
from exporter.pruning.views import Channels
from tests.pruning.criteria.networks import CONTRACT, random_batches, residual, simple

FOR_CHANNELS_ONLY = {"activation", "apoz", "bn-scale", "fpgm", "hrank"}
NETWORKS = [simple(), residual()]
ROWS = pytest.mark.parametrize("criterion", CRITERIA.values(), ids=list(CRITERIA))


@ROWS
def test_every_channel_gets_a_finite_score_of_at_least_zero(criterion: Criterion) -> None:
    for module in NETWORKS:
        groups = find_groups(module, CONTRACT)
        if criterion.name == "bn-scale" and not all(group.norms for group in groups):
            continue
        scores = score_channels(criterion, module, groups, random_batches(6, 3))
        assert list(scores) == [group.name for group in groups]
        for group in groups:
            assert scores[group.name].shape == (group.width,)
            assert scores[group.name].dtype == torch.float64
            assert bool((scores[group.name] >= 0).all())
            assert bool(scores[group.name].isfinite().all())
            assert len(scores[group.name].unique()) > 1


@ROWS
def test_every_weight_gets_a_score_or_the_criterion_is_refused(criterion: Criterion) -> None:
    if criterion.name in FOR_CHANNELS_ONLY:
        with pytest.raises(ConfigError, match=f"{criterion.name} scores whole channels only"):
            find_criterion(criterion.name, "weights")
        with pytest.raises(ConfigError, match="one of these for single weights: l1, l2, lamp"):
            formula_for_weights(criterion)
        return
    assert find_criterion(criterion.name, "weights") is criterion
    module = residual()
    module.stem.requires_grad_(False)
    scores = score_weights(criterion, module, random_batches(6, 3))
    assert list(scores) == ["inner", "head"]  # the stem is frozen
    for name, values in scores.items():
        assert values.shape == module.get_parameter(f"{name}.weight").shape
        assert bool((values >= 0).all())
        assert bool(values.isfinite().all())


@ROWS
def test_what_the_network_alone_decides_needs_no_images(criterion: Criterion) -> None:
    def read() -> object:
        raise AssertionError("images were asked for")
        yield

    module = residual()
    groups = find_groups(module, CONTRACT)
    if criterion.needs in ("weights", "batch-norms"):
        assert score_channels(criterion, module, groups, read())  # type: ignore[arg-type]
    else:
        with pytest.raises(AssertionError, match="asked for"):
            score_channels(criterion, module, groups, read())  # type: ignore[arg-type]


@ROWS
def test_the_network_is_left_as_it_was(criterion: Criterion) -> None:
    module = residual().train()
    module.stem.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    score_channels(criterion, module, find_groups(module, CONTRACT), random_batches(6, 3))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert [name for name, p in module.named_parameters() if not p.requires_grad] == ["stem.weight"]
    assert all(layer.training for layer in module.modules())
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in module.modules())


@ROWS
def test_a_row_explains_itself(criterion: Criterion) -> None:
    assert find_criterion(criterion.name, "channels") is criterion
    assert criterion.summary
    assert criterion.source
    assert criterion.channels.__doc__


def test_an_unknown_criterion_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="l1, l2, lamp, wanda, weight-activation, activation"):
        find_criterion("magnitude", "channels")


class Grouped(nn.Module):
    """A depthwise convolution within a group, and one of two groups that stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 4, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.halves = nn.Conv2d(4, 6, 3, groups=2)
        self.head = nn.Linear(6, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.halves(self.depthwise(self.wide(pixels).relu()).relu())
        logits: torch.Tensor = self.head(features.mean((2, 3)))
        return logits


@pytest.mark.parametrize("name", [name for name in CRITERIA if name not in FOR_CHANNELS_ONLY])
def test_weights_of_grouped_convolutions_are_scored(name: str) -> None:
    torch.manual_seed(4)
    module = Grouped().eval()
    scores = score_weights(CRITERIA[name], module, random_batches(6, 3))
    assert {layer: tuple(values.shape) for layer, values in scores.items()} == {
        layer: tuple(module.get_parameter(f"{layer}.weight").shape)
        for layer in ("wide", "depthwise", "halves", "head")
    }
    if name == "wanda":
        pixels = torch.cat([pixels for pixels, _ in random_batches(6, 3)])
        with torch.no_grad():
            read = module.depthwise(module.wide(pixels).relu()).relu()
        # The sixth filter belongs to the second half: its first input is the third channel.
        norm = float(read[:, 2].double().square().mean().sqrt())
        weight = float(module.halves.weight.detach()[5, 0, 1, 2])
        assert float(scores["halves"][5, 0, 1, 2]) == pytest.approx(abs(weight) * norm, rel=1e-5)


def test_what_reads_a_channel_of_a_grouped_convolution() -> None:
    torch.manual_seed(4)
    module = Grouped().eval()
    (group,) = (group for group in find_groups(module, CONTRACT) if group.name == "wide")
    seen = Channels(module=module, group=group, evidence=Evidence(), alpha=1.0, seed=0)
    weight = module.halves.weight.detach()
    for channel, (row, places) in enumerate(
        zip(seen.outgoing, group.consumers[0].positions, strict=True)
    ):
        expected = 0.0
        for place in places:
            half, within = divmod(place, 2)
            expected += float(weight[3 * half : 3 * half + 3, within].double().square().sum())
        assert float(row.square().sum()) == pytest.approx(expected), channel
