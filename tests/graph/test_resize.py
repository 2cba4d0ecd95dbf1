from __future__ import annotations

import numpy as np
import pytest

from exporter.graph.resize import use_constant_factors
from exporter.graph.wiring import static_shapes
from tests.graph.graphs import evaluate, graph, noise, operators

X = noise(3, 2, 4, 6)
LINEAR = 'mode = "linear", coordinate_transformation_mode = "half_pixel"'


def resizing(sizes: str, shape: str = "N,2,4,6") -> str:
    return (
        f"g (float[{shape}] x) => (float[N,2,H,W] y) "
        f"{{ batch = Shape <start = 0, end = 1> (x) {sizes} "
        f"r = Resize <{LINEAR}> (x, , , sizes) y = Relu(r) }}"
    )


def test_the_size_of_a_tensor_becomes_constant_factors() -> None:
    constants = {"rest": np.array([2, 8, 9], np.int64)}
    model = graph(resizing("sizes = Concat <axis = 0> (batch, rest)"), constants)
    before = evaluate(model, x=X)

    assert use_constant_factors(model) == 1

    assert operators(model) == ["Resize", "Relu"]
    assert static_shapes(model)["r"] == (None, 2, 8, 9)
    np.testing.assert_allclose(evaluate(model, x=X), before, rtol=0, atol=1e-6)


def test_channels_may_be_read_with_the_batch() -> None:
    constants = {"rest": np.array([8, 9], np.int64)}
    text = resizing("sizes = Concat <axis = 0> (batch, rest)").replace("end = 1", "end = 2")
    model = graph(text, constants)
    before = evaluate(model, x=X)

    assert use_constant_factors(model) == 1

    assert static_shapes(model)["r"] == (None, 2, 8, 9)
    np.testing.assert_allclose(evaluate(model, x=X), before, rtol=0, atol=1e-6)


def test_one_behind_the_other() -> None:
    constants = {
        name: np.array([2, *size], np.int64) for name, size in (("a", (8, 8)), ("b", (4, 6)))
    }
    text = (
        "g (float[N,2,4,6] x) => (float[N,2,H,W] y) { n = Shape <start = 0, end = 1> (x) "
        f"s = Concat <axis = 0> (n, a) r = Resize <{LINEAR}> (x, , , s) "
        f"m = Shape <start = 0, end = 1> (r) t = Concat <axis = 0> (m, b) "
        f"y = Resize <{LINEAR}> (r, , , t) }}"
    )
    model = graph(text, constants)
    before = evaluate(model, x=X)

    assert use_constant_factors(model) == 2

    assert operators(model) == ["Resize", "Resize"]
    np.testing.assert_allclose(evaluate(model, x=X), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "rest", "shape"),
    [
        ("sizes = Concat <axis = 0> (batch, rest)", [2, 8, 9], "N,2,H,6"),
        ("whole = Shape(x) sizes = Add(whole, rest)", [0, 0, 4, 4], "N,2,4,6"),
        ("sizes = Concat <axis = 0> (rest, batch)", [3, 2, 8], "N,2,4,6"),
    ],
    ids=["unknown height", "computed", "batch last"],
)
def test_others_stay(sizes: str, rest: list[int], shape: str) -> None:
    constants = {"rest": np.array(rest, np.int64)}
    model = graph(resizing(sizes, shape), constants)
    before = operators(model)

    assert use_constant_factors(model) == 0

    assert operators(model) == before
