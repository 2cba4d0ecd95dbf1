"""`explain` on a real network, float and int8."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from exporter.cli import app
from exporter.config import CalibrationConfig
from exporter.data.splits import Splits
from exporter.explanation.rows import fused
from exporter.graph.export import export_module
from exporter.graph.limits import read_model
from exporter.graph.model import read_onnx_model
from exporter.graph.ort_format import write_ort
from exporter.quantization.calibrate import calibrate
from exporter.quantization.quantize import quantize
from exporter.targets import TARGETS


class Net(nn.Module):
    """A convolution with a ReLU, one with a GELU, which stays float, and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.middle = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.stem(pixels))
        second = nn.functional.gelu(self.middle(first)) + first
        logits: torch.Tensor = self.head(nn.functional.adaptive_avg_pool2d(second, 1).flatten(1))
        return logits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, splits: Splits) -> Path:
    root = tmp_path_factory.mktemp("explain")
    torch.manual_seed(0)
    export_module(Net().eval(), splits.contract, root / "float.onnx")
    model = read_onnx_model(root / "float.onnx")
    ranges = calibrate(root, CalibrationConfig(method="minmax"), model, splits.calibration)
    made = quantize(root, TARGETS["cpu-int8"], model, ranges.by_method["minmax"], "minmax")
    made.file.path.rename(root / "int8.onnx")
    write_ort(root / "int8.onnx", root / "int8.ort")
    return root


def run(folder: Path, *arguments: str) -> Result:
    words = [word.replace("@", f"{folder}/") for word in arguments]
    return CliRunner().invoke(app, ["explain", *words, "--timing-seconds", "0.2"])


def document(folder: Path, *arguments: str) -> dict[str, Any]:
    result = run(folder, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_int8_is_put_beside_float_layer_by_layer(folder: Path) -> None:
    found = document(folder, "@int8.onnx", "--baseline", "@float.onnx")
    rows = {row["name"]: row for row in found["operators"]}

    assert sum(row["ms"] for row in rows.values()) == pytest.approx(found["run_ms"], rel=0.2)
    assert sum(row["ms"] for row in found["operators"]) == pytest.approx(found["run_ms"])
    for layer in ("stem", "middle"):
        assert (rows[layer]["operator"], rows[layer]["integer"]) == ("QLinearConv", True)
        assert rows[layer]["baseline_operator"].endswith("Conv")
        assert rows[layer]["baseline_ms"] > 0
    assert rows["head"]["operator"] == "QGemm"
    baseline = sum(row["baseline_ms"] or 0.0 for row in found["operators"])
    baseline += sum(row["baseline_ms"] for row in found["only_in_baseline"])
    assert baseline == pytest.approx(found["baseline_ms"])


def test_what_stayed_float_is_told_with_its_reason_and_its_conversions(folder: Path) -> None:
    found = document(folder, "@int8.onnx")

    reasons = {row["operator"]: row["float_reason"] for row in found["operators"]}
    assert reasons["Gelu"] == "has no int8 kernel; use ReLU or ReLU6"
    assert reasons["QLinearConv"] is None
    executed = [row for row in found["operators"] if row["operator"].endswith("quantizeLinear")]
    assert 0 < found["conversions_executed"] < found["conversions"]
    assert found["conversions_executed"] >= len(executed) > 0
    assert found["conversions_ms"] > 0
    texts = " ".join(entry["text"] for entry in found["advice"])
    assert "Gelu has no int8 kernel" in texts
    assert found["baseline"] is found["baseline_ms"] is None


def test_an_ort_file_is_explained_with_the_names_of_its_onnx_file(folder: Path) -> None:
    names = {row["name"] for row in document(folder, "@int8.ort")["operators"]}

    assert {"stem", "middle", "head"} <= names


def test_what_is_fused_is_told_with_the_operator_that_computes_it(folder: Path) -> None:
    source = read_model(folder / "float.onnx")
    relu = next(node.name for node in source.graph.node if node.op_type == "Relu")
    alive = [node.name for node in source.graph.node if node.op_type != "Relu"]

    (found,) = fused(alive, source)

    assert (found.name, found.operator, found.into) == (relu, "Relu", "stem")


def test_a_person_sees_the_slowest_first(folder: Path) -> None:
    result = run(folder, "@int8.onnx", "--baseline", "@float.onnx")
    lines = result.stdout.splitlines()

    assert lines[0].split() == ["layer", "executed", "as", "µs", "share", "float", "µs", "faster"]
    assert any(line.startswith("In float: 1 Gelu has no int8 kernel") for line in lines)
    assert any(line.startswith("Conversions: ") for line in lines)
    assert max(map(len, lines)) <= 80


def test_a_file_that_is_not_there(folder: Path) -> None:
    result = run(folder, "@int8.onnx", "--baseline", "@none.onnx")

    assert result.exit_code == 2
    assert "none.onnx is not a file." in result.stderr
