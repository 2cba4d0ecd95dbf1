from __future__ import annotations

import numpy as np
import pytest

from exporter.graph.global_pool import use_global_average_pool
from tests.graph.graphs import evaluate, graph, noise, operators

SIGNATURE = "g (float[N,3,4,5] x) => (float[N,3,a,b] y)"


@pytest.mark.parametrize("axes", [[2, 3], [3, 2], [-1, -2], [-2, 3]])
@pytest.mark.parametrize(("keepdims", "shape"), [(1, "[N,3,a,b]"), (0, "[N,3]")])
def test_a_mean_over_height_and_width_is_a_global_pool(
    axes: list[int], keepdims: int, shape: str
) -> None:
    model = graph(
        f"g (float[N,3,4,5] x) => (float{shape} y) {{ y = ReduceMean<keepdims={keepdims}>(x, a) }}",
        {"a": np.array(axes)},
    )
    x = noise(2, 3, 4, 5)
    before = evaluate(model, x=x)

    assert use_global_average_pool(model) == 1

    assert operators(model) == ["GlobalAveragePool", "Flatten"][: 2 - keepdims]
    assert not model.graph.initializer
    after = evaluate(model, x=x)
    assert after.shape == before.shape
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)


def test_an_average_pool_over_the_whole_image_is_a_global_pool() -> None:
    model = graph(f"{SIGNATURE} {{ y = AveragePool<kernel_shape=[4,5], strides=[4,5]>(x) }}")
    x = noise(2, 3, 4, 5)
    before = evaluate(model, x=x)

    assert use_global_average_pool(model) == 1

    assert operators(model) == ["GlobalAveragePool"]
    np.testing.assert_allclose(evaluate(model, x=x), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "node",
    [
        "y = AveragePool<kernel_shape=[2,5]>(x)",
        "y = AveragePool<kernel_shape=[4,5], pads=[1,1,1,1], count_include_pad=1>(x)",
        "y = ReduceMean<keepdims=1>(x, axes)",
        "y = ReduceMax<keepdims=1>(x, axes)",
        "y = ReduceMean<keepdims=1>(x)",
    ],
)
def test_other_reductions_stay(node: str) -> None:
    model = graph(f"{SIGNATURE} {{ {node} }}", {"axes": np.array([1, 2])})
    before = model.graph.node[0].SerializeToString()

    assert use_global_average_pool(model) == 0

    assert [entry.SerializeToString() for entry in model.graph.node] == [before]


def test_a_mean_over_what_is_no_image_stays() -> None:
    model = graph(
        "g (float[N,3,4] x) => (float[N,1,1] y) { y = ReduceMean<keepdims=1>(x, axes) }",
        {"axes": np.array([1, 2])},
    )

    assert use_global_average_pool(model) == 0
