from __future__ import annotations

import numpy as np
import pytest

from exporter.graph.scale_factor import absorb_factors
from tests.graph.graphs import Array, evaluate, graph, operators

BYTES = np.arange(256, dtype=np.uint8).reshape(2, 128)
TEXT = """g (uint8[N,128] q) => (float[N,128] y) {
    x = DequantizeLinear(q, s, z)
    c = DequantizeLinear(cq, cs, cz)
    p = Mul(OPERANDS)
    r = QuantizeLinear(p, s2, z2)
    y = DequantizeLinear(r, s2, z2)
}"""


def constants(**changed: Array) -> dict[str, Array]:
    values: dict[str, Array] = {
        "s": np.array(6 / 255, np.float32),
        "z": np.array(3, np.uint8),
        "cq": np.array(255, np.uint8),
        "cs": np.array(1 / 6 / 255, np.float32),
        "cz": np.array(0, np.uint8),
        "s2": np.array(1 / 255, np.float32),
        "z2": np.array(3, np.uint8),
    }
    return values | changed


@pytest.mark.parametrize("operands", ["x, c", "c, x"])
def test_a_factor_that_is_a_change_of_scale_costs_nothing(operands: str) -> None:
    model = graph(TEXT.replace("OPERANDS", operands), constants())
    before = evaluate(model, q=BYTES)

    assert absorb_factors(model) == 1

    assert operators(model) == ["DequantizeLinear"]
    assert sorted(tensor.name for tensor in model.graph.initializer) == ["s2", "z2"]
    np.testing.assert_array_equal(evaluate(model, q=BYTES), before)


@pytest.mark.parametrize(
    "changed",
    [
        {"s2": np.array(1 / 250, np.float32)},
        {"z2": np.array(4, np.uint8)},
        {"cq": np.array([255] * 128, np.uint8)},
    ],
)
def test_a_product_that_changes_bytes_stays(changed: dict[str, Array]) -> None:
    model = graph(TEXT.replace("OPERANDS", "x, c"), constants(**changed))

    assert absorb_factors(model) == 0
    assert operators(model).count("Mul") == 1


def test_a_product_that_somebody_else_reads_stays() -> None:
    text = TEXT.replace("float[N,128] y)", "float[N,128] y, float[N,128] p)")
    model = graph(text.replace("OPERANDS", "x, c"), constants())

    assert absorb_factors(model) == 0
