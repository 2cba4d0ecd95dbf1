from __future__ import annotations

import numpy as np
import pytest

from exporter.graph.flatten import use_flatten
from tests.graph.graphs import evaluate, graph, noise, operators


@pytest.mark.parametrize("target", [[-1, 60], [0, 60], [0, -1]])
def test_a_reshape_that_joins_all_but_the_batch_is_a_flatten(target: list[int]) -> None:
    model = graph(
        "g (float[N,3,4,5] x) => (float[M,K] y) { y = Reshape(x, shape) }",
        {"shape": np.array(target)},
    )
    x = noise(2, 3, 4, 5)
    before = evaluate(model, x=x)

    assert use_flatten(model) == 1

    assert operators(model) == ["Flatten"]
    assert not model.graph.initializer
    np.testing.assert_array_equal(evaluate(model, x=x), before)


@pytest.mark.parametrize("target", [[-1, 20], [0, 3, 20], [-1, 120], [0, 4, 3, 5], [-1]])
def test_other_reshapes_stay(target: list[int]) -> None:
    rank = ",".join("abcd"[: len(target)])
    model = graph(
        f"g (float[N,3,4,5] x) => (float[{rank}] y) {{ y = Reshape(x, shape) }}",
        {"shape": np.array(target)},
    )

    assert use_flatten(model) == 0

    assert operators(model) == ["Reshape"]


def test_a_reshape_of_unknown_size_stays() -> None:
    model = graph(
        "g (float[N,3,h,w] x) => (float[a,b] y) { y = Reshape(x, shape) }",
        {"shape": np.array([0, -1])},
    )

    assert use_flatten(model) == 0
