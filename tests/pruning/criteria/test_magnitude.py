"""l1, l2 and lamp against loops over single numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from exporter.pruning.criteria import CRITERIA
from exporter.pruning.criteria.magnitude import lamp
from exporter.pruning.threshold import survivors
from tests.pruning.criteria.networks import channel_scores, residual, simple, weight_scores


def numbers(tensor: Tensor) -> Iterator[float]:
    return (float(value) for value in tensor.detach().flatten())


def test_l1_and_l2_of_a_filter() -> None:
    module = simple()
    l1, l2 = (channel_scores(name, module, "conv1") for name in ("l1", "l2"))
    for channel in range(4):
        row = list(numbers(module.conv1.weight[channel]))
        assert l1[channel] == pytest.approx(sum(map(abs, row)))
        assert l2[channel] == pytest.approx(math.sqrt(sum(value * value for value in row)))


def test_tied_filters_count_together() -> None:
    module = residual()
    l1, l2 = (channel_scores(name, module, "stem") for name in ("l1", "l2"))
    for channel in range(4):
        row = [*numbers(module.stem.weight[channel]), *numbers(module.inner.weight[channel])]
        assert l1[channel] == pytest.approx(sum(map(abs, row)))
        assert l2[channel] == pytest.approx(math.sqrt(sum(value * value for value in row)))


def test_single_weights_by_size() -> None:
    module = simple()
    value = float(module.conv2.weight.detach()[1, 2, 0, 1])
    assert float(weight_scores("l1", module, "conv2")[1, 2, 0, 1]) == pytest.approx(abs(value))
    assert float(weight_scores("l2", module, "conv2")[1, 2, 0, 1]) == pytest.approx(value**2)


def test_lamp_by_hand() -> None:
    squares = torch.tensor([[9.0, 1.0], [4.0, 0.0]], dtype=torch.float64)
    expected = [[1.0, 1 / 14], [4 / 13, 0.0]]
    assert lamp(squares).tolist() == [pytest.approx(row) for row in expected]


def test_lamp_of_equal_entries_ends_at_one_and_of_zeros_at_zero() -> None:
    assert lamp(torch.full((4,), 2.0)).tolist() == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1])
    assert lamp(torch.zeros(3)).tolist() == [0, 0, 0]


def test_lamp_of_single_weights_as_the_paper_writes_it() -> None:
    module = simple()
    weight = list(numbers(module.conv2.weight))
    scores = list(numbers(weight_scores("lamp", module, "conv2")))
    for value, score in zip(weight, scores, strict=True):
        larger = sum(other * other for other in weight if other * other >= value * value)
        assert score == pytest.approx(value * value / larger, rel=1e-9)


def test_lamp_of_channels_takes_the_squared_norms() -> None:
    module = residual()
    norms = [
        sum(value * value for value in numbers(module.stem.weight[channel]))
        + sum(value * value for value in numbers(module.inner.weight[channel]))
        for channel in range(4)
    ]
    expected = [norm / sum(other for other in norms if other >= norm) for norm in norms]
    assert channel_scores("lamp", module, "stem") == pytest.approx(expected)


def test_what_is_on_one_scale_already_is_not_divided_by_the_layers_total() -> None:
    scores = {"a": torch.tensor([0.1, 0.9, 1.0]), "b": torch.tensor([0.02, 0.03, 0.04])}
    nothing = {"a": 0, "b": 0}
    assert CRITERIA["lamp"].comparable
    assert not CRITERIA["l1"].comparable
    assert survivors(scores, nothing, 0.5, "global", comparable=True) == {"a": 3, "b": 0}
    assert survivors(scores, nothing, 0.5, "global") == {"a": 2, "b": 1}
