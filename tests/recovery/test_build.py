"""``--recover auto`` by the commands, on digits and a file that 8 bits ruin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper
from typer.testing import CliRunner, Result

from exporter.artifacts import Cache, sha256_of
from exporter.cli import app
from exporter.config import CorrectionConfig, DataConfig
from exporter.data.load import load_splits
from exporter.errors import ConfigError
from tests.intake.files import fitted_classifier, written

DATA = ["--test-share", "0.5", "--calibration-images", "64", "--validation-share", "0.1"]
LOOSE = ["--max-drop", "100", "--min-speedup", "0", "--timing-seconds", "0.2"]
ALLOWED = 4.0
"""Points, which the network that nothing was done to stays within."""
LOUD = 1e4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the same function: one as it was made, one with a channel that drowns the others."""
    folder = tmp_path_factory.mktemp("recovery")
    config = DataConfig(size="12x12", test_share=0.5, calibration_images=64, validation_share=0.1)
    model = fitted_classifier(load_splits(Cache(folder / "cache"), config))
    written(model, folder / "sound.onnx")
    written(loud(model), folder / "fragile.onnx")
    return folder


def loud(model: ModelProto) -> ModelProto:
    """Multiply what one channel writes, and divide what reads it: 8 bits have to hold both."""
    changed: ModelProto = ModelProto.FromString(model.SerializeToString())
    for tensor in changed.graph.initializer:
        values = np.array(numpy_helper.to_array(tensor))
        if tensor.name in ("scale", "shift"):
            values[0] *= LOUD
        elif tensor.name == "w2":
            values[:, 0] /= LOUD
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return changed


def run(folder: Path, name: str, *arguments: str) -> Result:
    words = [word.replace("@", f"{folder}/") for word in arguments]
    return CliRunner().invoke(app, [name, *words, "--cache", f"{folder}/cache", "--json"])


def build(folder: Path, name: str, *arguments: str) -> dict[str, Any]:
    file = ["--onnx", f"@{name}.onnx", "--out", f"@{name}-dist"]
    result = run(folder, "build", *file, *DATA, *LOOSE, *arguments)
    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


RECOVER = ["--recover", "auto", "--recover-drop", str(ALLOWED)]


def test_a_file_that_8_bits_ruin_is_recovered_and_the_report_names_the_rung(folder: Path) -> None:
    plain = build(folder, "fragile", "--method", "minmax")
    report = build(folder, "fragile", "--method", "minmax", *RECOVER)

    dense = report["models"]["dense"]["top1"]
    assert dense - plain["models"]["int8"]["top1"] > 20
    assert dense - report["models"]["int8"]["top1"] < 2 * ALLOWED  # other images than those judged
    recovery = report["quantization"]["recovery"]
    assert plain["quantization"]["recovery"] is None
    assert recovery["within_budget"]
    assert recovery["stopped"].startswith("stopped at corrections")
    first, *_, last = recovery["attempts"]
    assert first["result"]["drop_points"] > 20
    assert (last["rung"], last["kept"]) == ("corrections", True)
    assert last["what"].startswith("equalize")
    assert last["gain_points"] > 20
    bundle = Path(report["bundle"])
    assert "### Recovery" in (bundle / "report.md").read_text()


def test_a_file_that_needs_nothing_is_the_same_with_and_without(folder: Path) -> None:
    plain = build(folder, "sound")
    digest = sha256_of(Path(plain["bundle"]) / "model.onnx")

    report = build(folder, "sound", *RECOVER)

    assert sha256_of(Path(report["bundle"]) / "model.onnx") == digest
    assert {attempt["rung"] for attempt in report["quantization"]["recovery"]["attempts"]} == {
        "ranges"
    }


def test_quantize_recovers_too(folder: Path) -> None:
    result = run(
        folder, "quantize", "@fragile.onnx", *DATA, "--method", "minmax", *RECOVER,
        "--out", "@int8.onnx",
    )  # fmt: skip

    assert result.exit_code == 0, result.stderr
    recovery = json.loads(result.stdout)["recovery"]
    assert recovery["within_budget"]
    assert recovery["attempts"][-1]["what"].startswith("equalize")
    assert (folder / "int8.onnx").stat().st_size > 0


def test_the_scan_alone_names_the_layer_that_reads_the_loud_channel(folder: Path) -> None:
    result = run(folder, "quantization-sensitivity", "@fragile.onnx", *DATA, "--method", "minmax")

    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["images"] == 64
    worst = max(found["layers"], key=lambda layer: layer["both"]["kl"])
    assert worst == found["layers"][1]
    assert worst["both"]["flips"] > 10
    assert worst["weights"]["kl"] < 0.5 * worst["both"]["kl"]
    assert worst["writers"] == [found["layers"][0]["layer"]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recover": "auto", "correct": "bias"}, "--correct is bias. Leave out one"),
        ({"recover_drop": 1.0}, "--recover-drop 1 needs --recover auto"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CorrectionConfig(**options).check_rules()


def test_ranges_that_were_measured_before_cannot_be_corrected(folder: Path) -> None:
    (folder / "ranges.json").write_text("{}")
    arguments = ["@sound.onnx", "--ranges", "@ranges.json", "--out", "@other.onnx"]

    result = run(folder, "quantize", *arguments, "--correct", "bias")

    assert result.exit_code == 2
    assert "Leave out --ranges" in result.stderr
    assert not (folder / "other.onnx").exists()
