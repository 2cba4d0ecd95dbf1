from __future__ import annotations

import numpy as np
import onnx
import pytest

from exporter.graph.hard_sigmoid import use_addition_for_hard_sigmoid
from tests.graph.graphs import evaluate, graph, operators

X = np.linspace(-5, 5, 24, dtype=np.float32).reshape(2, 12)


@pytest.mark.parametrize("attributes", ["", "<alpha=0.1666667, beta=0.5>", "<alpha=1.0, beta=0.0>"])
def test_a_hard_sigmoid_is_a_clipped_sum_times_a_constant(attributes: str) -> None:
    text = f"g (float[N,12] x) => (float[N,12] y) {{ h = HardSigmoid{attributes}(x) y = Neg(h) }}"
    model = onnx.shape_inference.infer_shapes(graph(text))
    before = evaluate(model, x=X)

    ranges = use_addition_for_hard_sigmoid(model)

    assert operators(model) == ["Add", "Clip", "Mul", "Neg"]
    np.testing.assert_allclose(evaluate(model, x=X), before, rtol=0, atol=1e-6)
    slope = {"": 0.2, "<alpha=0.1666667, beta=0.5>": 1 / 6}.get(attributes, 1.0)
    assert ranges == {
        "h.sum": (0.0, pytest.approx(1 / slope, rel=1e-6)),
        "h.clip": (0.0, pytest.approx(1 / slope, rel=1e-6)),
        "h": (0.0, 1.0),
    }
    typed = {info.name: info.type for info in model.graph.value_info}
    assert typed["h.sum"] == typed["h.clip"] == typed["h"]


def test_other_activations_stay() -> None:
    model = graph("g (float[N,12] x) => (float[N,12] y) { h = Sigmoid(x) y = Neg(h) }")

    assert use_addition_for_hard_sigmoid(onnx.shape_inference.infer_shapes(model)) == {}
    assert operators(model) == ["Sigmoid", "Neg"]
