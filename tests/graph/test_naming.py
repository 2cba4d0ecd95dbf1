from __future__ import annotations

import numpy as np

from exporter.graph.naming import name_after_layers
from tests.graph.graphs import evaluate, graph, noise

SHARED = """g (float[N,4] normalized) => (float[N,4] logits) {
    val_1 = Gemm<transB=1>(normalized, "head.weight", bias_of_something)
    val_2 = Relu(val_1)
    val_3 = Gemm<transB=1>(val_2, "head.weight")
    val_4 = Add(val_3, val_9)
    val_5 = Gemm<transB=1>(val_4, fused)
    logits = Relu(val_5)
}"""
WEIGHTS = {
    "head.weight": noise(4, 4),
    "bias_of_something": noise(4, seed=1),
    "val_9": noise(4, seed=2),
    "fused": noise(4, 4, seed=3),
}


def test_nodes_are_called_after_layers_and_tensors_after_nodes() -> None:
    model = graph(SHARED, WEIGHTS)
    x = noise(2, 4, seed=9)
    before = evaluate(model, normalized=x)

    name_after_layers(model)

    assert [(node.name, *node.input) for node in model.graph.node] == [
        ("head", "normalized", "head.weight", "head.bias"),
        ("relu_0", "head"),
        ("head_2", "relu_0", "head.weight"),
        ("add_0", "head_2", "add_0.constant_1"),
        ("gemm_0", "add_0", "gemm_0.weight"),
        ("relu_1", "gemm_0"),
    ]
    assert model.graph.node[-1].output == ["logits"]
    np.testing.assert_array_equal(evaluate(model, normalized=x), before)


def test_what_the_exporter_called_things_does_not_matter() -> None:
    renamed = SHARED.replace("val_", "node_")
    weights = {name.replace("val_", "node_"): value for name, value in WEIGHTS.items()}
    one, other = graph(SHARED, WEIGHTS), graph(renamed, weights)

    name_after_layers(one)
    name_after_layers(other)

    assert one.graph == other.graph


def test_a_layer_may_bear_a_name_of_the_contract() -> None:
    text = """g (float[N,4] normalized) => (float[N,4] logits) {
        a = Gemm<transB=1>(normalized, "logits.weight")
        b = Gemm<transB=1>(a, "normalized.weight")
        logits = Relu(b)
    }"""
    model = graph(text, {"logits.weight": noise(4, 4), "normalized.weight": noise(4, 4, seed=1)})
    x = noise(2, 4, seed=9)
    before = evaluate(model, normalized=x)

    name_after_layers(model)

    assert [node.name for node in model.graph.node] == ["logits_2", "normalized_2", "relu_0"]
    np.testing.assert_array_equal(evaluate(model, normalized=x), before)
