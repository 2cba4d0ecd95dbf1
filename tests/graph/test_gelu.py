from __future__ import annotations

import numpy as np
import pytest

from exporter.graph.gelu import use_gelu
from tests.graph.graphs import Array, evaluate, graph, noise, operators

CONSTANTS: dict[str, Array] = {
    "root": np.array(2**0.5, np.float32),
    "one": np.array(1, np.float32),
    "half": np.array(0.5, np.float32),
}
START = "d = Div(x, root) e = Erf(d) a = Add(e, one)"
X = noise(3, 4) * 3


@pytest.mark.parametrize(
    "end", ["m = Mul(half, a) y = Mul(x, m)", "m = Mul(x, a) y = Mul(m, half)"]
)
def test_the_formula_is_one_operator(end: str) -> None:
    model = graph(f"g (float[N,4] x) => (float[N,4] y) {{ {START} {end} }}", CONSTANTS)
    before = evaluate(model, x=X)

    assert use_gelu(model) == 1

    assert operators(model) == ["Gelu"]
    assert not model.graph.initializer
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 20
    np.testing.assert_allclose(evaluate(model, x=X), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (f"{START} m = Mul(half, a) y = Mul(x, m)", {"root": np.array(1.5, np.float32)}),
        (f"{START} m = Mul(half, a) y = Mul(x, m)", {"one": np.array(2, np.float32)}),
        (f"{START} m = Mul(half, a) y = Mul(d, m)", {}),
        (f"{START} m = Mul(half, a) s = Mul(x, m) y = Add(s, a)", {}),
    ],
)
def test_other_formulas_stay(text: str, changed: dict[str, Array]) -> None:
    model = graph(f"g (float[N,4] x) => (float[N,4] y) {{ {text} }}", CONSTANTS | changed)
    before = operators(model)

    assert use_gelu(model) == 0

    assert operators(model) == before
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 18
