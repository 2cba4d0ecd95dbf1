"""Weights that were brought along become the dense network, unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from exporter.artifacts import Cache
from exporter.checkpoint import restore
from exporter.config import TrainConfig
from exporter.data.splits import Splits
from exporter.errors import ConfigError, ModelError
from exporter.models.choose import (
    BARE_LEARNING_RATE,
    FOREIGN_LEARNING_RATE,
    usual_learning_rate,
)
from exporter.models.family import ModelRef, build_model
from exporter.progress import Silent, shown_on
from exporter.training.dense import check_dense, dense_network, normalized_data
from exporter.training.loop import evaluate

MODEL = ModelRef(name="simple-cnn", widths=(4, 8, 8))


class Listener(Silent):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture
def weights(splits: Splits, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "weights.pt"
    torch.save(build_model(MODEL, splits.contract).state_dict(), path)
    return path


def test_nothing_is_trained_and_the_stated_pixels_are_kept(
    splits: Splits, weights: Path, tmp_path: Path
) -> None:
    config = TrainConfig(
        model="simple-cnn", widths="4,8,8", weights=str(weights), normalization="imagenet",
        learning_rate=0.5,
    )  # fmt: skip
    data = normalized_data(splits, config)
    cache = Cache(tmp_path / "cache")
    with shown_on(listener := Listener()):
        trained = dense_network(cache, config, data)
    assert [run.name for run in cache.runs] == ["adopt"]
    assert trained.checkpoint.model == MODEL
    assert trained.checkpoint.contract == data.contract
    assert trained.checkpoint.contract.mean == pytest.approx((123.675, 116.28, 103.53))
    module = restore(trained.checkpoint)
    expected = torch.load(weights, weights_only=True)
    assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())
    top1 = evaluate(module, data.contract, data.validation)
    assert trained.validation_top1 == top1
    assert trained.preprocessing is not None
    assert trained.preprocessing.top1["imagenet"] == pytest.approx(top1)
    assert any(f"{top1:.2f} % on validation images" in text for text in listener.messages)
    assert trained.history.epochs == ()
    assert trained.epochs == trained.lesson.epochs == 24
    assert (trained.lesson.learning_rate, trained.lesson.label_smoothing) == (0.5, 0.0)


def test_the_warning_comes_back_with_the_cached_result(
    splits: Splits, weights: Path, tmp_path: Path
) -> None:
    config = TrainConfig(model="simple-cnn", widths="4,8,8", weights=str(weights))
    cache = Cache(tmp_path / "cache")
    heard = []
    for _ in range(2):
        with shown_on(listener := Listener()):
            dense_network(cache, config, normalized_data(splits, config))
        heard.append([text for text in listener.messages if text.startswith("WARNING")])
    assert [run.cached for run in cache.runs] == [False, True]
    assert heard[0] == heard[1]
    assert "Do they know these classes in this order: blue, green, red?" in heard[0][0]


def test_other_weights_in_the_same_file_are_another_result(
    splits: Splits, weights: Path, tmp_path: Path
) -> None:
    config = TrainConfig(model="simple-cnn", widths="4,8,8", weights=str(weights))
    cache = Cache(tmp_path / "cache")
    first = dense_network(cache, config, splits)
    torch.manual_seed(1)
    torch.save(build_model(MODEL, splits.contract).state_dict(), weights)
    second = dense_network(cache, config, splits)
    assert [run.cached for run in cache.runs] == [False, False]
    assert first.checkpoint.weights.sha256 != second.checkpoint.weights.sha256


def test_own_and_foreign_networks_have_careful_rates() -> None:
    bare = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    normed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    foreign = ModelRef(name="nets.py:net")
    assert usual_learning_rate(MODEL, bare) == 0.15
    assert usual_learning_rate(foreign, normed) == FOREIGN_LEARNING_RATE
    assert usual_learning_rate(foreign, bare) == BARE_LEARNING_RATE
    assert BARE_LEARNING_RATE < FOREIGN_LEARNING_RATE < 0.15


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (TrainConfig(weights="nowhere.pt"), ModelError, "--weights is nowhere.pt, but there is no"),
        (TrainConfig(normalization="x"), ConfigError, "Unknown normalization 'x'"),
        (TrainConfig(widths="a"), ConfigError, "'a'"),
        (TrainConfig(model="x"), ModelError, "Unknown model 'x'. Known: edge-vgg"),
    ],
)
def test_a_wrong_request_is_refused_before_any_image_is_read(
    config: TrainConfig, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_dense(config)
