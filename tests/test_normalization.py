"""What is stated about pixels becomes the contract, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from exporter.config import TrainConfig
from exporter.contract import InputContract
from exporter.errors import ConfigError
from exporter.normalization import (
    NORMALIZATIONS,
    Normalization,
    normalized_by,
    stated_normalization,
)
from exporter.option import options_of
from exporter.training.augmentation import normalise

CONTRACT = InputContract(height=2, width=3, classes=("a", "b"))
IMAGES = torch.arange(2 * 2 * 3 * 3, dtype=torch.uint8).mul(7).reshape(2, 2, 3, 3)


@pytest.mark.parametrize("row", NORMALIZATIONS.values(), ids=list(NORMALIZATIONS))
def test_every_row_is_its_formula(row: Normalization) -> None:
    expected = (IMAGES.numpy().astype(np.float64) * row.scale - row.mean) / row.std
    found = normalise(IMAGES, normalized_by(CONTRACT, row))
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_the_help_names_every_row() -> None:
    text = options_of(TrainConfig)["normalization"].help
    assert [name for name in NORMALIZATIONS if f" {name}" not in text] == []


def test_the_scalar_form_is_used_exactly_where_it_says_it_all() -> None:
    scalar = {
        name: (contract.zero_point, contract.scale)
        for name, row in NORMALIZATIONS.items()
        if not (contract := normalized_by(CONTRACT, row)).mean
    }
    assert scalar == {
        "own": (128, 1 / 64),
        "none": (0, pytest.approx(1 / 255)),
        "raw": (0, 1.0),
    }
    assert normalized_by(CONTRACT, NORMALIZATIONS["own"]) == CONTRACT


def test_the_zero_point_lies_among_the_means() -> None:
    contract = normalized_by(CONTRACT, NORMALIZATIONS["imagenet"])
    assert contract.zero_point == 116  # 0.456 * 255
    assert contract.mean == pytest.approx((123.675, 116.28, 103.53))
    assert contract.std == pytest.approx((58.395, 57.12, 57.375))
    beyond = Normalization(name="", summary="", scale=1.0, mean=(-40.0, 300.0, 900.0))
    assert normalized_by(CONTRACT, beyond).zero_point == 255


@pytest.mark.parametrize(
    ("model", "weights", "name"),
    [
        ("resnet8", "", "own"),
        ("resnet8", "a.pt", "own"),
        ("torchvision:resnet18", "", "own"),
        ("torchvision:resnet18", "a.pt", "imagenet"),
        ("mine.py:net", "a.pt", "imagenet"),
        ("torchvision:googlenet", "a.pt", "inception"),
    ],
)
def test_what_is_taken_where_nothing_is_stated(model: str, weights: str, name: str) -> None:
    assert stated_normalization(TrainConfig(model=model, weights=weights)).name == name


def test_numbers_are_for_all_channels_or_for_each() -> None:
    stated = stated_normalization(TrainConfig(mean="0.5", std="0.1,0.2,0.3", scale="0.01"))
    assert (stated.scale, stated.mean, stated.std) == (0.01, (0.5,), (0.1, 0.2, 0.3))
    assert stated.name == "--scale and --mean and --std"
    contract = normalized_by(CONTRACT, stated)
    assert contract.mean == pytest.approx((50, 50, 50))
    assert contract.std == pytest.approx((10, 20, 30))
    only_mean = stated_normalization(TrainConfig(mean="-0.25"))
    assert (only_mean.scale, only_mean.std) == (1 / 255, (1.0,))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TrainConfig(normalization="imagnet"), "Unknown normalization 'imagnet'. Known: own"),
        (TrainConfig(normalization="none", std="1"), "--normalization and --std exclude"),
        (TrainConfig(mean="1,2"), "--mean is '1,2', but must be one number or 3"),
        (TrainConfig(mean="1;2;3"), "--mean is '1;2;3'"),
        (TrainConfig(std="nan"), "--std is 'nan'"),
        (TrainConfig(std="0.2,0,0.2"), "--std is '0.2,0,0.2', but must be greater than 0"),
        (TrainConfig(scale="-1"), "--scale is '-1', but must be greater than 0"),
        (TrainConfig(scale="1,1,2"), "--scale is '1,1,2', but must be one number"),
    ],
)
def test_a_statement_that_makes_no_sense_is_refused(config: TrainConfig, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        stated_normalization(config)
    assert message in str(caught.value)
