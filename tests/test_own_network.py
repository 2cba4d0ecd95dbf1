"""A user's network with a user's weights: from two files to a bundle that checks itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from typer.testing import CliRunner, Result

from exporter.artifacts import Cache
from exporter.checkpoint import restore
from exporter.cli import app
from exporter.config import DataConfig, TrainConfig
from exporter.data.load import load_splits
from exporter.recipe import read_recipe
from exporter.training.dense import dense_network, normalized_data
from exporter.training.loop import evaluate
from tests.tiny_bundle import run_bundle

SOURCE = """
from torch import nn

def net(num_classes, width=16):
    def block(inputs, stride):
        convolution = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        return convolution, nn.BatchNorm2d(width), nn.ReLU()
    return nn.Sequential(
        *block(3, 2), *block(width, 2), *block(width, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, num_classes),
    )
"""
DATA = DataConfig(size="16x16", test_share=0.5, calibration_images=64, validation_share=0.1)
MEAN, STD = "0.25,0.3,0.35", "0.3,0.4,0.5"
TIMES = {"p50_ms": 0.0, "p90_ms": 0.0, "p99_ms": 0.0, "p50_ci_ms": 0.0, "runs": 0}
PLENTY = 40.0
"""Top-1 in percent; guessing gives 10."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def top1(folder: Path) -> float:
    """Train a network, save its weights as somebody else would; return their test accuracy."""
    (folder / "nets.py").write_text(SOURCE)
    config = TrainConfig(
        model=f"{folder}/nets.py:net", model_arg=("width=32",), mean=MEAN, std=STD, epochs=8,
        batch_size=64,
    )  # fmt: skip
    cache = Cache(folder / "cache")
    data = normalized_data(load_splits(cache, DATA), config)
    module = restore(dense_network(cache, config, data).checkpoint).half()
    state = {f"module.{name}": value for name, value in module.state_dict().items()}
    torch.save({"epoch": 8, "state_dict": state}, folder / "weights.pth.tar")
    return evaluate(module.float(), data.contract, data.test)


def run(folder: Path, command: str, *arguments: str) -> Result:
    network = ["--model", f"{folder}/nets.py:net", "--model-arg", "width=32"]
    weights = ["--weights", f"{folder}/weights.pth.tar"]
    data = ["--size", "16x16", "--test-share", "0.5", "--calibration-images", "64"]
    data += ["--validation-share", "0.1"]
    common = ["--cache", f"{folder}/cache", "--json"]
    return CliRunner().invoke(app, [command, *network, *weights, *data, *common, *arguments])


@pytest.fixture(scope="module")
def report(folder: Path, top1: float) -> dict[str, Any]:
    result = run(
        folder, "build", "--mean", MEAN, "--std", STD, "--prune", "0.3", "--finetune-epochs", "1",
        "--out", f"{folder}/dist", "--max-drop", "100", "--min-speedup", "0",
        "--timing-seconds", "0.2",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "WARNING" not in result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_the_dense_accuracy_is_that_of_the_weights(report: dict[str, Any], top1: float) -> None:
    dense = report["models"]["dense"]
    one_image = 100 / dense["total"]
    assert top1 > PLENTY
    assert abs(dense["top1"] - top1) <= one_image
    assert [stage["name"] for stage in report["stages"]][:3] == ["load", "adopt", "prune"]
    assert report["models"]["int8"]["top1"] > PLENTY
    assert report["models"]["small"]["parameters"] < dense["parameters"]
    assert report["quantization"]["floating"] == {}


def test_how_it_learns_is_not_taken_from_a_build_that_learned_otherwise(
    report: dict[str, Any], folder: Path
) -> None:
    result = run(
        folder, "build", "--mean", MEAN, "--std", STD, "--prune", "0.3", "--finetune-epochs", "1",
        "--seed", "1", "--out", f"{folder}/seed", "--max-drop", "100", "--min-speedup", "0",
        "--timing-seconds", "0.2",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    again = json.loads(result.stdout)
    assert again["models"]["dense"] | TIMES == report["models"]["dense"] | TIMES
    assert not next(stage for stage in again["stages"] if stage["name"] == "prune")["cached"]


def test_the_bundle_checks_itself(report: dict[str, Any], folder: Path) -> None:
    bundle = Path(report["bundle"])
    assert bundle == folder / "dist" / "net-cpu-int8"
    run_bundle(bundle)
    graph = onnx.load(bundle / "model.onnx").graph
    assert [node.op_type for node in graph.node[:2]] == ["Pad", "Transpose"]
    config = read_recipe(bundle / "recipe.toml").train
    assert (config.model_arg, config.mean, config.std) == (("width=32",), MEAN, STD)


def test_a_wrong_normalisation_is_noticed(folder: Path, top1: float) -> None:
    result = run(folder, "train", "--normalization", "raw", "--out", f"{folder}/dense")
    assert result.exit_code == 0, result.stderr
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("WARNING")]
    assert "with the normalisation as stated (raw)" in warning
    document = json.loads(result.stdout)
    assert document["model"] == f"{folder}/nets.py:net"
    assert document["epochs"] == 0


def test_a_report_tells_what_was_warned_of(folder: Path, top1: float) -> None:
    result = run(
        folder, "build", "--normalization", "raw", "--prune", "0", "--out", f"{folder}/raw",
        "--max-drop", "100", "--min-speedup", "0", "--timing-seconds", "0.2",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    (warning,) = json.loads(result.stdout)["warnings"]
    assert "with the normalisation as stated (raw)" in warning
    assert warning in (folder / "raw" / "net-cpu-int8" / "report.md").read_text()


def test_a_stage_goes_on_with_the_pixels_of_the_checkpoint(folder: Path, top1: float) -> None:
    trained = run(folder, "train", "--mean", MEAN, "--std", STD, "--out", f"{folder}/dense2")
    assert trained.exit_code == 0, trained.stderr
    words = ["--size", "16x16", "--test-share", "0.5", "--calibration-images", "64"]
    words += ["--validation-share", "0.1", "--prune", "0.3", "--finetune-epochs", "1"]
    words += ["--cache", f"{folder}/cache", "--json", "--out", f"{folder}/small2"]
    pruned = CliRunner().invoke(app, ["prune", f"{folder}/dense2", *words])
    assert pruned.exit_code == 0, pruned.stderr
    assert json.loads(pruned.stdout)["validation_top1"] > PLENTY


def test_a_changed_file_is_refused_by_later_stages(folder: Path, top1: float) -> None:
    trained = run(folder, "train", "--mean", MEAN, "--std", STD, "--out", f"{folder}/dense3")
    assert trained.exit_code == 0, trained.stderr
    source = folder / "nets.py"
    source.write_text(SOURCE.replace("nn.ReLU()", "nn.SiLU()"))
    try:
        result = CliRunner().invoke(
            app,
            ["convert", f"{folder}/dense3", "--out", f"{folder}/m.onnx", "--cache", f"{folder}/c"],
        )
    finally:
        source.write_text(SOURCE)
    assert result.exit_code == 2
    assert f"error: {source} has changed since this network was made with it" in result.stderr
    assert result.stderr.count("\n") == 1
