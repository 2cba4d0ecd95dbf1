"""Counts against the ONNX file, and budgets that are met exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from exporter.contract import InputContract
from exporter.errors import ConfigError
from exporter.graph.model import OnnxModel
from exporter.models import MODELS
from exporter.models.family import ModelRef, build_model
from exporter.pruning import file_size
from exporter.pruning.allocation import Allocation
from exporter.pruning.budget import cost_function, cut, widest_within
from exporter.pruning.cost import Device, count_macs, count_parameters
from exporter.pruning.file_size import file_size_between, int8_file_bytes
from exporter.pruning.groups import find_groups
from exporter.targets import TARGETS
from tests.graph import networks

CONTRACT = InputContract(height=8, width=8, classes=("a", "b", "c"))


def parameters(a: int, b: int, c: int) -> int:
    """Of simple-cnn on 8 x 8 pixels, by hand: two pools leave 2 x 2."""
    return (27 * a + a) + (9 * a * b + b) + (4 * b * c + c) + (3 * c + 3)


def macs(a: int, b: int, c: int) -> int:
    return 64 * 27 * a + 16 * 9 * a * b + 4 * b * c + 3 * c


def simple_cnn(*widths: int) -> nn.Module:
    torch.manual_seed(0)
    return build_model(ModelRef(name="simple-cnn", widths=widths), CONTRACT).eval()


def allocation(module: nn.Module, multiple: int = 1) -> Allocation:
    """The same share of every layer, whatever its channels."""
    groups = find_groups(module, CONTRACT)
    return Allocation(
        scores={group.name: torch.arange(group.width, dtype=torch.double) for group in groups},
        removed={group.name: 0 for group in groups},
        scope="layer",
        comparable=False,
        multiples={group.name: multiple for group in groups},
        curves={},
    )


def test_counts_by_hand() -> None:
    module = simple_cnn(4, 5, 6)
    assert count_parameters(module) == parameters(4, 5, 6)
    assert count_macs(module, CONTRACT) == macs(4, 5, 6)


@pytest.mark.parametrize("name", ["plain", "residual"])
def test_counts_are_those_of_the_onnx_file(name: str, exports: Callable[[str], OnnxModel]) -> None:
    module, model = networks.network(name), exports(name)
    assert count_parameters(module) == model.parameters
    assert count_macs(module, networks.CONTRACT) == model.macs


@pytest.mark.parametrize("name", MODELS)
def test_cutting_to_widths_changes_no_other_network(name: str) -> None:
    contract = InputContract(height=20, width=20, classes=("a", "b", "c"))
    torch.manual_seed(0)
    module = build_model(ModelRef(name=name, widths=(8, 16, 16)), contract).eval()
    before = count_parameters(module)
    groups = find_groups(module, contract)
    small = cut(module, groups, {group.name: group.width // 2 for group in groups})
    assert count_parameters(small) < before == count_parameters(module)
    assert small(torch.zeros(1, 3, 20, 20)).shape == (1, 3)


@pytest.mark.parametrize(
    ("budget", "limit"),
    [
        ("max_parameters", parameters(4, 4, 4)),
        ("max_macs", macs(4, 4, 4)),
    ],
)
def test_the_widest_network_within_a_budget(budget: str, limit: int) -> None:
    module = simple_cnn(8, 8, 8)
    groups = find_groups(module, CONTRACT)
    cost = cost_function(budget, module, groups, CONTRACT, 1, None)
    found = allocation(module)
    share, widths = widest_within((budget, limit), found, module, groups, cost)
    # Of 8 channels 4 go from a share of 3.5 / 8 on.
    assert share == pytest.approx(3.5 / 8, abs=1e-4)
    assert widths == found.widths(share) == {"conv1": 4, "conv2": 4, "fc1": 4}
    assert cost(cut(module, groups, found.widths(share))) <= limit
    assert cost(cut(module, groups, found.widths(share - 1e-4))) > limit


@pytest.mark.parametrize(
    ("left_over", "widths"),
    [
        (0, (4, 4, 4)),
        (19, (4, 4, 4)),
        (20, (4, 4, 5)),  # one of fc1 costs 4 * 4 + 1 + 3
        (52, (4, 4, 5)),
        (53, (4, 5, 4)),  # one of conv2 costs 9 * 4 + 1 + 4 * 4, and comes before fc1
        (parameters(5, 5, 5) - parameters(4, 4, 4) - 1, (5, 5, 4)),
    ],
)
def test_room_in_a_budget_goes_back_to_single_groups(
    left_over: int, widths: tuple[int, ...]
) -> None:
    module = simple_cnn(8, 8, 8)
    groups = find_groups(module, CONTRACT)
    budget = ("max_parameters", parameters(4, 4, 4) + left_over)
    _, found = widest_within(budget, allocation(module), module, groups, count_parameters)
    assert tuple(found.values()) == widths
    assert parameters(*widths) <= budget[1]


def test_a_budget_that_is_met_already_takes_nothing() -> None:
    module = simple_cnn(8, 8, 8)
    groups = find_groups(module, CONTRACT)
    budget = ("max_parameters", parameters(8, 8, 8))
    share, widths = widest_within(budget, allocation(module), module, groups, count_parameters)
    assert share == 0.0
    assert set(widths.values()) == {8}


@pytest.mark.parametrize(
    ("multiple", "fewest", "named"),
    [(1, parameters(1, 1, 1), "49"), (4, parameters(4, 4, 4), "343")],
)
def test_a_budget_out_of_reach_names_the_smallest_that_is(
    multiple: int, fewest: int, named: str
) -> None:
    module = simple_cnn(8, 8, 8)
    groups = find_groups(module, CONTRACT)
    found = allocation(module, multiple)
    share, widths = widest_within(
        ("max_parameters", fewest), found, module, groups, count_parameters
    )
    assert 0 < share < 1
    assert set(widths.values()) == {multiple}
    with pytest.raises(ConfigError, match=rf"--max-parameters {fewest - 1} .* has {named} param"):
        widest_within(("max_parameters", fewest - 1), found, module, groups, count_parameters)


@pytest.mark.parametrize("budget", ["max_parameters", "max_macs"])
def test_costs_never_rise_with_the_share(budget: str) -> None:
    module = simple_cnn(8, 12, 16)
    groups = find_groups(module, CONTRACT)
    cost = cost_function(budget, module, groups, CONTRACT, 2, None)
    found = allocation(module, 2)
    costs = [cost(cut(module, groups, found.widths(step / 20))) for step in range(21)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]


def test_the_size_of_the_file_is_foretold() -> None:
    module = networks.network("plain")
    groups = find_groups(module, networks.CONTRACT)
    device = Device(target=TARGETS["cpu-int8"], machine="", times=Path())
    cost = cost_function("max_kb", module, groups, networks.CONTRACT, 4, device)
    between = cut(module, groups, {group.name: group.width // 2 // 4 * 4 for group in groups})
    real = int8_file_bytes(between, networks.CONTRACT, TARGETS["cpu-int8"])
    assert 1000 * cost(between) == pytest.approx(real, rel=2e-3)


def test_a_network_that_cannot_shrink_has_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_size, "int8_file_bytes", lambda *_: 1234)
    module = simple_cnn(4, 4, 4)
    assert file_size_between(module, module, CONTRACT, TARGETS["cpu-int8"])(module) == 1234
