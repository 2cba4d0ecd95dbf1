from __future__ import annotations

import numpy as np
import pytest

from exporter.quantization.layers import layers_of
from tests.graph.graphs import graph, noise


def test_a_convolution_is_walked_channels_last() -> None:
    weights = noise(2, 3, 2, 2)
    text = "g (float[N,3,4,4] x) => (float[N,2,a,b] y) { y = Conv<kernel_shape=[2,2]>(x, w) }"

    (layer,) = layers_of(graph(text, {"w": weights}))

    assert (layer.name, layer.weight, layer.output_axis) == ("n0", "w", 0)
    expected = [
        [weights[output, c, kh, kw] for kh in (0, 1) for kw in (0, 1) for c in (0, 1, 2)]
        for output in (0, 1)
    ]
    np.testing.assert_array_equal(layer.rows, np.array(expected, np.float32))


@pytest.mark.parametrize(("node", "axis"), [("Gemm<transB=1>", 0), ("Gemm", 1), ("MatMul", 1)])
def test_a_matrix_has_a_row_per_output(node: str, axis: int) -> None:
    by_output = noise(3, 5)
    stored = by_output if axis == 0 else np.ascontiguousarray(by_output.T)

    (layer,) = layers_of(
        graph(f"g (float[N,5] x) => (float[N,3] y) {{ y = {node}(x, w) }}", {"w": stored})
    )

    assert layer.output_axis == axis
    np.testing.assert_array_equal(layer.rows, by_output)


def test_quantized_weights_are_found_and_others_are_not() -> None:
    text = """g (float[N,5] x) => (float[N,N] y) {
        w = DequantizeLinear(q, s, z)
        h = Gemm<transB=1>(x, w)
        r = Relu(h)
        t = Transpose<perm=[1,0]>(r)
        y = MatMul(r, t)
    }"""
    constants = {"q": np.arange(15, dtype=np.int8).reshape(3, 5), "s": noise(), "z": np.int8(0)}
    model = graph(text, {name: np.asarray(value) for name, value in constants.items()})

    (layer,) = layers_of(model)

    assert (layer.name, layer.weight) == ("n1", "q")
    np.testing.assert_array_equal(layer.rows, constants["q"])
