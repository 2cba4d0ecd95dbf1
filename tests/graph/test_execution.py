from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.errors import GraphError
from exporter.graph import optimize_file
from exporter.graph.canonical import save_model
from exporter.graph.execution import executed_graph, executed_operators
from tests.graph.graphs import Array, graph, noise

SCALES: dict[str, Array] = {"s": np.array(0.05, np.float32), "z": np.array(128, np.uint8)}


def executed(text: str, path: Path, **constants: Array) -> list[tuple[str, str, bool]]:
    source = graph(text, SCALES | constants)
    save_model(source, path)
    return [
        (entry.name, entry.operator, entry.integer)
        for entry in executed_operators(executed_graph(path), source)
    ]


def test_an_addition_between_conversions_is_integer(path: Path) -> None:
    text = """g (uint8[N,4] a, uint8[N,4] b) => (uint8[N,4] y) {
        p = DequantizeLinear(a, s, z)
        q = DequantizeLinear(b, s, z)
        r = Add(p, q)
        y = QuantizeLinear(r, s, z)
    }"""

    assert executed(text, path) == [("n2", "QLinearAdd", True)]


def test_float_operators_in_front_of_integer_ones_are_told_apart(path: Path) -> None:
    text = """g (uint8[N,4] a) => (float[N,4] y) {
        p = DequantizeLinear(a, s, z)
        t = Tanh(p)
        q = QuantizeLinear(t, s, z)
        r = DequantizeLinear(q, s, z)
        u = Add(r, r)
        v = QuantizeLinear(u, s, z)
        w = DequantizeLinear(v, s, z)
        y = Softmax(w)
    }"""

    assert executed(text, path) == [
        ("n0", "DequantizeLinear", False),
        ("n1", "Tanh", False),
        ("n2", "QuantizeLinear", False),
        ("n4", "QLinearAdd", True),
        ("n6", "DequantizeLinear", False),
        ("n7", "Softmax", False),
    ]


def test_moving_bytes_is_integer_and_moving_floats_is_not(path: Path) -> None:
    text = """g (uint8[N,4,2,2] a, float[N,4,2,2] b) => (uint8[N,2,2,4] x, float[N,2,2,4] y) {
        x = Transpose<perm=[0,2,3,1]>(a)
        y = Transpose<perm=[0,2,3,1]>(b)
    }"""

    assert executed(text, path) == [
        ("n0", "Transpose", True),
        ("n1", "Transpose", False),
    ]


def test_a_fully_connected_layer_may_write_floats(path: Path) -> None:
    text = """g (uint8[N,4] a) => (float[N,3] y) {
        p = DequantizeLinear(a, s, z)
        w = DequantizeLinear(wq, ws, wz)
        h = Gemm<transB=1>(p, w)
        y = Neg(h)
    }"""
    weights: dict[str, Array] = {
        "wq": np.ones((3, 4), np.int8),
        "ws": np.array(0.1, np.float32),
        "wz": np.array(0, np.int8),
    }

    assert executed(text, path, **weights) == [
        ("n2", "QGemm", True),
        ("n3", "Neg", False),
    ]


def test_shape_arithmetic_does_not_count(path: Path) -> None:
    text = """g (float[N,4,h] x) => (float[a,b,c] y) {
        shape = Shape(x)
        turned = Gather(shape, order)
        y = Reshape(x, turned)
    }"""

    found = executed(text, path, order=np.array([0, 2, 1]))

    assert [operator for _, operator, _ in found] == ["Reshape"]


def test_what_the_runtime_refuses_is_an_error(path: Path) -> None:
    text = "g (float[N,4] x) => (float[N,4] y) { y = com.microsoft.NoSuchOperator(x) }"
    save_model(graph(text), path)

    with pytest.raises(GraphError, match=r"ONNX Runtime refuses .*NoSuchOperator") as refusal:
        executed_graph(path)

    assert "\n" not in str(refusal.value)


def test_a_file_that_wants_too_much_memory_fails_in_its_own_process(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = Path(optimize_file.__file__).read_text()
    starved = tmp_path / "starved.py"
    starved.write_text(program.replace("8 * 2**30", "2**20"))
    monkeypatch.setattr(optimize_file, "__file__", str(starved))
    save_model(graph("g (float[N,4] x) => (float[N,4] y) { y = Add(x, x) }"), path)

    with pytest.raises(GraphError, match="ONNX Runtime"):
        executed_graph(path)


def test_names_survive_layout_changes(path: Path) -> None:
    text = """g (uint8[N,4,6,6] a) => (float[N,16,b,c] y) {
        p = DequantizeLinear(a, s, z)
        w = DequantizeLinear<axis=0>(wq, ws, wz)
        h = Conv<kernel_shape=[3,3]>(p, w)
        q = QuantizeLinear(h, s, z)
        y = DequantizeLinear(q, s, z)
    }"""
    weights: dict[str, Array] = {
        "wq": (noise(16, 4, 3, 3) * 40).astype(np.int8),
        "ws": np.full(16, 0.1, np.float32),
        "wz": np.zeros(16, np.int8),
    }

    found = executed(text, path, **weights)

    assert [(name, integer) for name, operator, integer in found if "Conv" in operator] == [
        ("n2", True)
    ]


def test_a_float_convolution_keeps_its_name_when_it_swallows_the_activation(path: Path) -> None:
    text = """g (float[N,16,6,6] x) => (float[N,16,b,c] y) {
        h = Conv<kernel_shape=[3,3]>(x, w)
        y = Relu(h)
    }"""

    found = executed(text, path, w=noise(16, 16, 3, 3))

    assert [name for name, operator, _ in found if operator in ("Conv", "FusedConv")] == ["n0"]
