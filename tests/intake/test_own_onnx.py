"""From an ONNX file to a bundle and to an int8 file, by the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from typer.testing import CliRunner, Result

from exporter.artifacts import Cache, sha256_of
from exporter.cli import app
from exporter.config import DataConfig
from exporter.data.load import load_splits
from exporter.recipe import read_recipe
from tests.intake.files import classifier, fitted_classifier, normalized, run, written
from tests.tiny_bundle import run_bundle

SIZE = 12
DATA = ["--test-share", "0.5", "--calibration-images", "64", "--validation-share", "0.1"]
LOOSE = ["--max-drop", "100", "--min-speedup", "0", "--timing-seconds", "0.2"]
PLENTY = 75.0
"""Top-1 in percent; guessing gives 10."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def top1(folder: Path) -> float:
    """Write a classifier of digits: random features, and the best line through them.

    Returns its accuracy on the test images, in percent.
    """
    config = DataConfig(
        size=f"{SIZE}x{SIZE}", test_share=0.5, calibration_images=64, validation_share=0.1
    )
    data = load_splits(Cache(folder / "cache"), config)
    model = fitted_classifier(data)
    written(model, folder / "theirs.onnx")
    images, labels = data.test.arrays()
    return 100 * float((run(model, data=normalized(images)).argmax(1) == labels).mean())


def command(folder: Path, name: str, *arguments: str) -> Result:
    common = ["--cache", f"{folder}/cache", "--json"]
    return CliRunner().invoke(app, [name, *arguments, *common])


def build(folder: Path, *arguments: str) -> Result:
    file = ["--onnx", f"{folder}/theirs.onnx"] if "--onnx" not in arguments else []
    out = [] if "--out" in arguments else ["--out", f"{folder}/dist"]
    return command(folder, "build", *file, *DATA, *LOOSE, *out, *arguments)


@pytest.fixture(scope="module")
def report(folder: Path, top1: float) -> dict[str, Any]:
    result = build(folder)
    assert result.exit_code == 0, result.stderr
    assert "WARNING" not in result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_dense_is_the_file_as_it_came(report: dict[str, Any], top1: float) -> None:
    dense, int8 = report["models"]["dense"], report["models"]["int8"]
    assert top1 > PLENTY
    assert abs(dense["top1"] - top1) <= 100 / dense["total"]
    assert int8["top1"] > PLENTY
    assert report["models"]["small"] is None
    assert report["pruning"] is None
    assert report["quantization"]["integer"]["QLinearConv"] == 2
    assert report["quantization"]["floating"] == {}
    stages = [stage["name"] for stage in report["stages"]]
    assert stages[:3] == ["load", "take-in", "calibrate"]


def test_the_report_tells_what_came_in(report: dict[str, Any], folder: Path) -> None:
    told = report["intake"]
    assert told["sha256"] == sha256_of(folder / "theirs.onnx")
    assert (told["path"], told["opset"]) == (f"{folder}/theirs.onnx", 7)
    assert (told["normalization"], told["warning"]) == ("imagenet", None)
    assert told["difference"] < 1e-5
    assert told["validation_top1"] > PLENTY


def test_the_bundle_checks_itself(report: dict[str, Any], folder: Path) -> None:
    bundle = Path(report["bundle"])
    assert bundle == folder / "dist" / "theirs-cpu-int8"
    run_bundle(bundle)
    assert read_recipe(bundle / "recipe.toml").intake.onnx == f"{folder}/theirs.onnx"
    names = (bundle / "labels.txt").read_text().split()
    assert names == [str(digit) for digit in range(10)]


def test_another_normalisation_that_fits_better_is_named(
    report: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    result = build(folder, "--normalization", "raw", "--out", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    (warning,) = [line for line in result.stderr.splitlines() if "WARNING" in line]
    assert "the normalisation as stated (raw)" in warning
    assert json.loads(result.stdout)["intake"]["warning"] in result.stderr


def test_one_command_from_float_to_int8(report: dict[str, Any], folder: Path) -> None:
    out = folder / "int8.onnx"
    result = command(folder, "quantize", f"{folder}/theirs.onnx", *DATA, "--out", str(out))
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["method"] == report["quantization"]["method"]
    assert sha256_of(out) == sha256_of(Path(report["bundle"]) / "model.onnx")


def test_a_float_file_of_this_tool_is_taken_as_it_is(report: dict[str, Any], folder: Path) -> None:
    dense = report["models"]["dense"]["path"]
    result = build(folder, "--onnx", dense, "--out", f"{folder}/again")
    assert result.exit_code == 0, result.stderr
    again = json.loads(result.stdout)
    assert again["models"]["dense"]["path"] == dense
    assert again["intake"]["normalization"] is None
    assert sha256_of(Path(again["bundle"]) / "model.onnx") == sha256_of(
        Path(report["bundle"]) / "model.onnx"
    )
    told = build(folder, "--onnx", dense, "--normalization", "raw")
    assert told.exit_code == 2
    assert "was written by this tool and knows its pixels" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "3"], "--epochs is for training or pruning, but --onnx brings a trained"),
        (["--prune", "0.5"], "--prune is for training or pruning"),
        (["--flip"], "--flip is for training or pruning"),
        (["--flip", "--aware-epochs", "1", "--epochs", "2"], "--epochs is for training"),
        (["--weights", "x.pth"], "--weights is for training or pruning"),
        (["--onnx", "", "--output", "y"], "--output is about an ONNX file. Name it with --onnx."),
        (["--onnx", "nowhere.onnx"], "Cannot read nowhere.onnx: No such file"),
        (["--onnx", "{bundle}/model.onnx"], "is already quantized"),
        (["--onnx", "{bundle}/report.json"], "is not an ONNX file"),
        (["--size", "20x20"], "--size is 20x20, but the file takes images of 12x12"),
        (["--normalization", "magic"], "Unknown normalization 'magic'"),
        (["--input", "x"], "--input is 'x', but the file's inputs are data"),
        (["--output", "x"], "--output is 'x', but the file's outputs are scores"),
        (["--classes", "nowhere.txt"], "--classes is nowhere.txt, which cannot be read"),
        (["--classes", "{bundle}/README.txt"], "must name each class of the data once"),
    ],
)
def test_refused_in_one_line(
    report: dict[str, Any], folder: Path, arguments: list[str], message: str
) -> None:
    filled = [word.format(bundle=report["bundle"]) for word in arguments]
    result = build(folder, *filled)
    assert result.exit_code == 2, result.exception
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert message in line


def test_the_number_of_classes_is_told(report: dict[str, Any], folder: Path) -> None:
    written(classifier(classes=7), folder / "seven.onnx")
    result = build(folder, "--onnx", f"{folder}/seven.onnx")
    assert result.exit_code == 2
    assert "tells 7 classes apart, but the data has 10" in result.stderr


def test_quantizing_takes_ranges_of_wrapped_files_only(
    report: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "ranges.json").write_text("{}")
    result = command(
        folder, "quantize", f"{folder}/theirs.onnx", "--ranges", f"{tmp_path}/ranges.json",
        "--out", f"{tmp_path}/int8.onnx",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "it was not made by this tool" in result.stderr
    assert onnx.load(folder / "theirs.onnx").opset_import[0].version == 7
