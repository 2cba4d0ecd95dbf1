"""bn-scale, fpgm and hrank against numpy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from exporter.config import PruneConfig, TrainConfig
from exporter.contract import InputContract
from exporter.errors import ConfigError
from exporter.models.edge_vgg import EdgeVGG
from exporter.pruning.criteria import CRITERIA
from exporter.pruning.evidence import RANK_IMAGES
from exporter.pruning.groups import find_groups
from exporter.pruning.scores import check_criterion, score_channels
from tests.pruning.criteria.networks import channel_scores, random_batches, residual, simple


def test_bn_scale_is_gamma_without_its_sign() -> None:
    module = residual()
    first, second = module.norm.weight.tolist(), module.inner_norm.weight.tolist()
    assert min(*first, *second) < 0
    expected = [(abs(one) + abs(other)) / 2 for one, other in zip(first, second, strict=True)]
    assert channel_scores("bn-scale", module, "stem") == pytest.approx(expected)


def test_bn_scale_needs_a_batch_norm_that_learned() -> None:
    with pytest.raises(ConfigError, match=r"conv1 has no batch-norm\. Use another criterion"):
        channel_scores("bn-scale", simple(), "conv1")
    fixed = EdgeVGG(widths=(4, 4, 4), classes=3, height=20, width=20)
    contract = InputContract(height=20, width=20, classes=("a", "b", "c"))
    groups = find_groups(fixed, contract)
    with pytest.raises(ConfigError, match=r"that of blocks\.0\.norm1 is fixed\. Use another"):
        score_channels(CRITERIA["bn-scale"], fixed, groups, [])


@pytest.mark.parametrize(
    ("model", "reason"), [("edge-vgg", "that of blocks.0.norm1 is fixed"), ("simple-cnn", "conv1")]
)
def test_bn_scale_is_refused_before_training(model: str, reason: str) -> None:
    contract = InputContract(height=20, width=20, classes=("a", "b", "c"))
    train = TrainConfig(model=model)
    asked = PruneConfig(criterion="bn-scale")
    with pytest.raises(ConfigError, match=reason):
        check_criterion(asked, train, contract)
    check_criterion(dataclasses.replace(asked, prune=0.0), train, contract)
    check_criterion(asked, TrainConfig(model="resnet8", widths="4,4,4"), contract)
    with pytest.raises(ConfigError, match="scores whole channels only"):
        check_criterion(dataclasses.replace(asked, unit="weights"), train, contract)


def test_fpgm_sums_the_distances_to_the_other_filters() -> None:
    module = residual()
    filters = np.concatenate(
        [
            module.stem.weight.detach().double().flatten(1).numpy(),
            module.inner.weight.detach().double().flatten(1).numpy(),
        ],
        axis=1,
    )
    expected = [sum(float(np.linalg.norm(one - other)) for other in filters) for one in filters]
    assert channel_scores("fpgm", module, "stem") == pytest.approx(expected)


def test_fpgm_tells_a_filter_from_its_negative() -> None:
    """Distances between squared weights would not."""
    module = simple()
    with torch.no_grad():
        module.conv1.weight.zero_()
        module.conv1.weight[:, 0, 0, 0] = torch.tensor([1.0, -1.0, 0.0, 3.0])
    assert channel_scores("fpgm", module, "conv1") == pytest.approx([5, 7, 5, 9])


def test_hrank_is_the_average_rank_behind_the_activation() -> None:
    module = residual()
    batches = random_batches(6, 3)
    with torch.no_grad():
        module.stem.weight[2] = 0  # a constant map has rank 1, or 0 behind the ReLU
        stem = module.norm(module.stem(torch.cat([pixels for pixels, _ in batches])))
        outer = functional.max_pool2d(functional.relu(stem), 2)
        inner = module.inner_norm(module.inner(outer))
    expected = []
    for channel in range(4):
        ranks = [
            np.mean([np.linalg.matrix_rank(image[channel].relu().numpy()) for image in maps])
            for maps in (stem, inner)
        ]
        expected.append(float(np.mean(ranks)))
    assert channel_scores("hrank", module, "stem", batches) == pytest.approx(expected)


def test_hrank_of_a_linear_layer_is_how_often_it_is_positive() -> None:
    module = simple()
    batches = random_batches(6, 3)
    with torch.no_grad():
        first = functional.max_pool2d(
            functional.relu(module.conv1(torch.cat([pixels for pixels, _ in batches]))), 2
        )
        second = functional.max_pool2d(functional.relu(module.conv2(first)), 2)
        positive = (module.fc1(second.flatten(1)) > 0).double().mean(0).tolist()
    assert channel_scores("hrank", module, "fc1", batches) == pytest.approx(positive)


def test_hrank_reads_no_more_images_than_it_needs() -> None:
    module = residual()
    batches = random_batches(*[10] * 8)
    pixels = torch.cat([pixels for pixels, _ in batches])[:RANK_IMAGES]
    read = []

    def stream() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches:
            read.append(batch)
            yield batch

    scores = channel_scores("hrank", module, "stem", stream())
    assert len(read) == math.ceil(RANK_IMAGES / 10)
    assert scores == channel_scores("hrank", module, "stem", [(pixels, torch.tensor([]))])
