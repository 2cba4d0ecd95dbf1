from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exporter.contract import InputContract
from exporter.errors import CoverageError, GraphError
from exporter.graph.canonical import save_model
from exporter.graph.contract import attach_image
from exporter.graph.execution import Executed
from exporter.graph.model import OnnxModel
from exporter.quantization.coverage import Coverage, check_integer, counted, measure_coverage
from tests.graph import networks
from tests.graph.graphs import graph


def executed(operator: str, *, integer: bool = False, name: str = "layer") -> Executed:
    return Executed(name=name, operator=operator, integer=integer)


@pytest.mark.parametrize(
    "operator",
    ["Conv", "FusedConv", "Gemm", "MatMul", "Add", "MaxPool", "GlobalAveragePool", "Concat"],
)
def test_layers_may_nowhere_be_float(operator: str) -> None:
    operators = [
        executed("QLinearConv", integer=True),
        executed(operator, name="blocks.1.conv"),
    ]

    with pytest.raises(
        CoverageError, match=rf"blocks\.1\.conv: {operator} has an int8 kernel that"
    ):
        check_integer(operators)


def test_other_operators_may_be_float_and_are_listed_with_reasons() -> None:
    operators = [
        executed("HardSigmoid"),
        executed("DequantizeLinear"),
        executed("HardSigmoid"),
        executed("QGemm", integer=True),
        executed("Softmax"),
    ]

    check_integer(operators)

    coverage = counted(operators)
    assert coverage.floating == {"DequantizeLinear": 1, "HardSigmoid": 2, "Softmax": 1}
    assert list(coverage.reasons) == ["HardSigmoid", "Softmax"]
    assert coverage.reasons["HardSigmoid"].endswith("has no int8 kernel; use ReLU or ReLU6")
    assert "was not used" in coverage.reasons["Softmax"]


def test_every_layer_that_is_float_is_named() -> None:
    operators = [
        executed("GlobalAveragePool", name="pool"),
        executed("Tanh", name="act"),
        executed("Conv", name=""),
    ]

    with pytest.raises(CoverageError) as refusal:
        check_integer(operators)

    for part in ("pool: GlobalAveragePool", "a node without name: Conv"):
        assert part in str(refusal.value)
    assert "Tanh" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_conversions_are_counted_but_no_failure() -> None:
    operators = [
        executed("QuantizeLinear"),
        executed("QLinearConv", integer=True),
        executed("QLinearConv", integer=True),
        executed("DequantizeLinear"),
    ]

    check_integer(operators)

    assert counted(operators) == Coverage(
        integer={"QLinearConv": 2},
        floating={"DequantizeLinear": 1, "QuantizeLinear": 1},
        reasons={},
    )


def test_a_float_file_does_not_pass_for_a_quantized_one(
    exports: Callable[[str], OnnxModel],
) -> None:
    with pytest.raises(CoverageError, match="conv1: Conv has an int8 kernel that was not used"):
        measure_coverage(exports("plain").file.path, networks.CONTRACT)


def test_logits_must_be_numbers(tmp_path: Path) -> None:
    contract = InputContract(height=2, width=2, classes=("a", "b"))
    model = graph(
        "g (float[N,3,2,2] normalized) => (float[N,12] logits) "
        "{ f = Flatten(normalized) logits = Mul(f, nan) }",
        {"nan": np.array(np.nan, np.float32)},
    )
    attach_image(model, contract)
    save_model(model, tmp_path / "model.onnx")

    with pytest.raises(GraphError, match="not finite"):
        measure_coverage(tmp_path / "model.onnx", contract)


def test_a_file_that_does_not_run_is_an_error(tmp_path: Path) -> None:
    contract = InputContract(height=2, width=2, classes=("a", "b"))
    model = graph(
        "g (float[N,3,2,2] normalized) => (float[N,5] logits) { logits = Reshape(normalized, s) }",
        {"s": np.array([-1, 5])},
    )
    attach_image(model, contract)
    save_model(model, tmp_path / "model.onnx")

    with pytest.raises(GraphError, match="cannot run the quantized file"):
        measure_coverage(tmp_path / "model.onnx", contract)
