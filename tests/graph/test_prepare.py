from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest

from exporter.errors import GraphError
from exporter.graph.prepare import prepare
from tests.graph.graphs import evaluate, graph, noise, operators


def test_padding_is_folded_and_names_are_kept() -> None:
    text = """g (float[N,2,4,4] x) => (float[N,3,4,4] y) {
        p = Pad(x, pads)
        y = Conv<kernel_shape=[3,3]>(p, w)
    }"""
    model = graph(text, {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "w": noise(3, 2, 3, 3)})
    x = noise(2, 2, 4, 4)
    before = evaluate(model, x=x)

    prepared = prepare(model)

    assert operators(prepared) == ["Conv"]
    assert [tensor.name for tensor in prepared.graph.initializer] == ["w"]
    np.testing.assert_allclose(evaluate(prepared, x=x), before, rtol=0, atol=1e-5)


def test_matrix_and_bias_become_one_layer_and_types_are_known() -> None:
    text = "g (float[N,4] x) => (float[N,3] y) { h = MatMul(x, w) b = Add(h, c) y = Relu(b) }"

    prepared = prepare(graph(text, {"w": noise(4, 3), "c": noise(3)}))

    assert operators(prepared) == ["Gemm", "Relu"]
    assert {info.name for info in prepared.graph.value_info} >= {"b"}


def test_what_the_runtime_refuses_is_an_error_and_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = graph("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    model.graph.node[0].op_type = "NoSuchOperator"

    with caplog.at_level(logging.DEBUG), pytest.raises(GraphError, match="NoSuchOperator"):
        prepare(model)

    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_preparing_twice_changes_nothing() -> None:
    text = "g (float[N,4] x) => (float[N,3] y) { h = MatMul(x, w) y = Add(h, c) }"
    once = prepare(graph(text, {"w": noise(4, 3), "c": noise(3)}))

    twice = prepare(onnx.ModelProto.FromString(once.SerializeToString()))

    assert list(twice.graph.node) == list(once.graph.node)
    assert list(twice.graph.initializer) == list(once.graph.initializer)
