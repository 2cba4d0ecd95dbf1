from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.explanation.profile import interquartile_mean, operator_times, profile_operators
from tests.verification.linear_model import RIGHT, linear_model, qdq_model


def event(index: int, name: str, operator: str, microseconds: int, kind: str) -> dict[str, Any]:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "dur": microseconds,
        "args": {"node_index": index, "op_name": operator, "input_type_shape": [{kind: [1, 3]}]},
    }


def test_times_add_up_to_a_run_without_profiling() -> None:
    run = [
        event(4, "to_nchw", "Transpose", 10, "uint8"),
        event(7, "conv_token_3", "QLinearConv", 60, "uint8"),
        event(9, "back", "DequantizeLinear", 10, "uint8"),
        event(2, "gelu", "Gelu", 20, "float"),
    ]
    session = {"cat": "Session", "name": "model_run", "dur": 500, "args": {}}
    fence = event(7, "conv_token_3", "QLinearConv", 900, "uint8") | {"name": "conv_fence_before"}

    found = operator_times([session, fence, *run * 30], run_ms=0.05)

    assert [(entry.node, entry.operator, entry.integer) for entry in found] == [
        ("to_nchw", "Transpose", True),
        ("conv_token_3", "QLinearConv", True),
        ("back", "DequantizeLinear", False),
        ("gelu", "Gelu", False),
    ]
    assert [entry.ms for entry in found] == pytest.approx([0.005, 0.03, 0.005, 0.01])


def test_the_first_runs_and_disturbances_do_not_count() -> None:
    slow = [event(0, "a", "Add", 5000, "float"), event(1, "b", "Add", 1, "float")] * 20
    usual = [event(0, "a", "Add", 3, "float"), event(1, "b", "Add", 1, "float")] * 40
    usual[10] = event(0, "a", "Add", 90_000, "float")

    first, second = operator_times([*slow, *usual], run_ms=1.0)

    assert (first.ms, second.ms) == pytest.approx((0.75, 0.25))


def test_whole_steps_keep_their_fractions() -> None:
    assert interquartile_mean([2, 3, 2, 3, 2, 3, 2, 3]) == 2.5
    assert interquartile_mean([7]) == 7.0


@pytest.mark.parametrize("quantized", [False, True])
def test_a_real_file(tmp_path: Path, quantized: bool) -> None:
    path = tmp_path / "model.onnx"
    model = qdq_model(path) if quantized else linear_model(path, RIGHT)

    found = profile_operators(model, np.zeros((20, 20, 3), np.uint8), 0.5, threads=1, runs=30)

    assert sum(entry.ms for entry in found) == pytest.approx(0.5)
    operators = {entry.operator: entry.integer for entry in found}
    if quantized:
        assert operators["QLinearConv"] is True
    else:
        assert operators["GlobalAveragePool"] is False
