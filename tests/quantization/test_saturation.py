from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.quantization.saturation import can_saturate, saturating_layers
from tests.graph.graphs import Array, graph


@pytest.mark.parametrize(
    ("row", "saturates"),
    [
        ([127, 1], False),  # 255 * 128 = 32640
        ([127, 2], True),  # 255 * 129 = 32895
        ([64, 64], False),
        ([65, 64], True),
        ([-64, -64], False),  # -32640
        ([-127, -1], False),
        ([-127, -2], True),
        ([127, -127], False),  # a sum of both signs stays small
        ([0, 127, 127, 0], False),  # neighbours, but not a pair
        ([0, 0, 127, 127], True),
        ([127], False),
        ([0, 0, 127], False),  # the last one is paired with padding
        ([-128, 0], False),
    ],
)
def test_both_sides_of_the_limit(row: list[int], saturates: bool) -> None:
    rows = np.array([[0] * len(row), row], np.int8)

    assert can_saturate(rows) == saturates
    assert can_saturate(rows[::-1]) == saturates


def test_seven_bits_never_saturate() -> None:
    rows = np.random.default_rng(0).choice(np.array([-64, 64], np.int8), (64, 144))

    assert not can_saturate(rows)


@pytest.mark.parametrize("limit", [40, 64, 70, 100, 127])
def test_the_proof_agrees_with_the_instruction(limit: int) -> None:
    generator = np.random.default_rng(limit)
    for _ in range(50):
        rows = generator.integers(-limit, limit + 1, (2, 6), dtype=np.int8)
        # The worst activations of a row: 255 where they push in one direction, 0 elsewhere.
        worst = [np.where(sign * row > 0, 255, 0) for row in rows for sign in (1, -1)]
        wrong = any(
            not np.array_equal(vpmaddubsw(activations, row), exact_pairs(activations, row))
            for activations, row in zip(worst, np.repeat(rows, 2, axis=0), strict=True)
        )
        assert can_saturate(rows) == wrong


def vpmaddubsw(unsigned: NDArray[np.int_], signed: NDArray[np.int8]) -> NDArray[np.int_]:
    return np.clip(exact_pairs(unsigned, signed), -(2**15), 2**15 - 1)


def exact_pairs(unsigned: NDArray[np.int_], signed: NDArray[np.int8]) -> NDArray[np.int_]:
    products: NDArray[np.int_] = unsigned * signed.astype(int)
    return products[0::2] + products[1::2]


def test_pairs_run_along_input_channels_not_along_pixels() -> None:
    text = """g (float[N,2,4,4] x) => (float[N,1,a,b] y) {
        w = DequantizeLinear(q, s, z)
        y = Conv<kernel_shape=[1,2]>(x, w)
    }"""
    scales: dict[str, Array] = {"s": np.array(1, np.float32), "z": np.array(0, np.int8)}
    along_pixels = np.array([[[[127, 127]], [[0, 0]]]], np.int8)
    along_channels = np.array([[[[127, 0]], [[127, 0]]]], np.int8)

    assert saturating_layers(graph(text, scales | {"q": along_pixels})) == ()
    assert saturating_layers(graph(text, scales | {"q": along_channels})) == ("n1",)


def test_a_depthwise_convolution_never_saturates_and_a_grouped_one_can() -> None:
    text = """g (float[N,c,4,4] x) => (float[N,d,a,b] y) {{
        w = DequantizeLinear(q, s, z)
        y = Conv<kernel_shape=[2,2], group={groups}>(x, w)
    }}"""
    scales: dict[str, Array] = {"s": np.array(1, np.float32), "z": np.array(0, np.int8)}
    alone = scales | {"q": np.full((4, 1, 2, 2), 127, np.int8)}
    paired = scales | {"q": np.full((4, 2, 2, 2), 127, np.int8)}

    assert saturating_layers(graph(text.format(groups=4), alone)) == ()
    assert saturating_layers(graph(text.format(groups=2), alone)) == ("n1",)  # two filters each
    assert saturating_layers(graph(text.format(groups=2), paired)) == ("n1",)
