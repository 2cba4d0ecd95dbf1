from __future__ import annotations

import numpy as np
import pytest

from exporter.errors import GraphError
from exporter.graph.count import count_macs, count_parameters
from tests.graph.graphs import Array, graph, noise

# 3x3 kernel over 6 input channels in 2 groups, stride 2, padding 1: 9x7 -> 5x4 places.
CONV = """g (float[N,6,9,7] x) => (float[N,4,a,b] y) {
    y = Conv<group=2, strides=[2,2], pads=[1,1,1,1], kernel_shape=[3,3]>(x, w, b)
}"""
CONV_MACS = (5 * 4) * 4 * (3 * 3 * 3)
CONV_PARAMETERS = 4 * 3 * 3 * 3 + 4


def test_convolution_with_stride_and_groups() -> None:
    model = graph(CONV, {"w": noise(4, 3, 3, 3), "b": noise(4)})

    assert count_macs(model) == CONV_MACS == 2160
    assert count_parameters(model) == CONV_PARAMETERS == 112


@pytest.mark.parametrize(("transposed", "shape"), [(1, (4, 10)), (0, (10, 4))])
def test_fully_connected_layer(transposed: int, shape: tuple[int, ...]) -> None:
    text = f"g (float[N,10] x) => (float[N,4] y) {{ y = Gemm<transB={transposed}>(x, w, b) }}"
    model = graph(text, {"w": noise(*shape), "b": noise(4)})

    assert count_macs(model) == 40
    assert count_parameters(model) == 44


def test_matrix_of_many_rows_and_one_that_is_no_weight() -> None:
    text = """g (float[N,5,10] x) => (float[N,5,5] y) {
        h = MatMul(x, w)
        t = Transpose<perm=[0,2,1]>(h)
        y = MatMul(h, t)
    }"""
    model = graph(text, {"w": noise(10, 4)})

    assert count_macs(model) == 5 * 10 * 4 + 5 * 4 * 5
    assert count_parameters(model) == 40


def test_a_fixed_batch_counts_once() -> None:
    model = graph(CONV.replace("N", "8"), {"w": noise(4, 3, 3, 3), "b": noise(4)})

    assert count_macs(model) == CONV_MACS


def test_quantized_layers_count_like_float_ones() -> None:
    text = """g (float[N,6,9,7] x) => (float[N,4,a,b] y) {
        xq = QuantizeLinear(x, s, z)
        xd = DequantizeLinear(xq, s, z)
        wd = DequantizeLinear<axis=0>(w, ws, wz)
        bd = DequantizeLinear<axis=0>(b, ws, bz)
        y = Conv<group=2, strides=[2,2], pads=[1,1,1,1], kernel_shape=[3,3]>(xd, wd, bd)
    }"""
    constants: dict[str, Array] = {
        "s": np.array(0.1, np.float32),
        "z": np.array(128, np.uint8),
        "w": np.ones((4, 3, 3, 3), np.int8),
        "ws": np.ones(4, np.float32),
        "wz": np.zeros(4, np.int8),
        "b": np.ones(4, np.int32),
        "bz": np.zeros(4, np.int32),
    }
    model = graph(text, constants)

    assert count_macs(model) == CONV_MACS
    assert count_parameters(model) == CONV_PARAMETERS


def test_shared_weights_count_once_and_work_twice() -> None:
    text = """g (float[N,4] x) => (float[N,4] y) {
        h = Gemm<transB=1>(x, w)
        y = Gemm<transB=1>(h, w)
    }"""
    model = graph(text, {"w": noise(4, 4)})

    assert count_macs(model) == 32
    assert count_parameters(model) == 16


def test_work_that_depends_on_the_images_size_is_refused() -> None:
    model = graph(CONV.replace("9,7", "h,w"), {"w": noise(4, 3, 3, 3), "b": noise(4)})

    with pytest.raises(GraphError, match="Conv 'n0' is not fixed"):
        count_macs(model)
