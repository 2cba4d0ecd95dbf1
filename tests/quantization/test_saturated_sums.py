"""The emulation against one multiplication at a time, and against this CPU's own kernels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from exporter.quantization import columns
from exporter.quantization.columns import channels_last
from exporter.quantization.integer_layers import IntegerLayer, integer_layers
from exporter.quantization.saturated_sums import emulate
from exporter.verification.machine import describe_machine
from tests.quantization.integer_graphs import (
    INPUT_SCALE,
    INPUT_ZERO,
    OUTPUT_SCALE,
    OUTPUT_ZERO,
    one_layer,
    pixels,
    rails,
)

Sums = tuple[int, int, int]
"""Exact, saturated, clipped pairs."""


def scalar(activations: Sequence[int], weights: Sequence[int]) -> Sums:
    """``vpmaddubsw``, ``vpmaddwd``, ``vpaddd``, four elements at a time."""
    padding = [0] * (-len(weights) % 4)
    a, w = [*activations, *padding], [*weights, *padding]
    exact = saturated = clipped = 0
    for start in range(0, len(w), 4):
        for first in (start, start + 2):
            pair = a[first] * w[first] + a[first + 1] * w[first + 1]
            lane = max(-32768, min(32767, pair))
            exact, saturated = exact + pair, saturated + lane
            clipped += lane != pair
    return exact, saturated, clipped


def assert_equal(
    layer: IntegerLayer, values: NDArray[np.uint8], taken: dict[tuple[int, ...], Sums]
) -> None:
    """Check every output; ``taken`` holds its sums before zero point and bias."""
    found = emulate(layer, values)
    assert found.exact.size == len(taken)
    for (image, output, *position), (exact, saturated, _) in taken.items():
        place = (image, *position, output) if position else (0, image, output)
        shift = int(layer.bias[output]) - INPUT_ZERO * int(layer.rows[output].sum(dtype=int))
        assert found.exact[place] == exact + shift
        assert found.saturated[place] == saturated + shift
    assert found.clipped == sum(clipped for _, _, clipped in taken.values()) > 0
    assert found.pairs == len(taken) * ((layer.rows.shape[1] + 1) // 2)


@pytest.mark.parametrize(
    ("channels", "groups", "stride", "dilation", "pads"),
    [
        (4, 1, 1, 1, (1, 1, 1, 1)),
        (3, 1, 1, 1, (1, 1, 1, 1)),  # a stem: pairs run over from one position to the next
        (3, 1, 2, 1, (0, 1, 1, 0)),
        (4, 1, 1, 2, (2, 2, 2, 2)),
        (4, 2, 1, 1, (0, 0, 0, 0)),
        (4, 1, 3, 1, None),  # 5x6 by stride 3 gives 2x2: one row on top, one below
    ],
)
def test_a_convolution(
    channels: int,
    groups: int,
    stride: int,
    dilation: int,
    pads: tuple[int, int, int, int] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(columns, "BLOCK", 400)  # a few positions at a time
    place = f"pads=[{','.join(map(str, pads))}]" if pads else 'auto_pad="SAME_UPPER"'
    weights = rails(6, channels // groups, 3, 3)
    values = pixels(2, channels, 5, 6)
    (layer,) = integer_layers(
        one_layer(
            f"Conv<kernel_shape=[3,3], strides=[{stride},{stride}], group={groups}, "
            f"dilations=[{dilation},{dilation}], {place}>",
            weights,
        )
    )
    top, left, bottom, right = pads or (0, 0, 1, 0)
    shape = (
        (5 + top + bottom - 2 * dilation - 1) // stride + 1,
        (6 + left + right - 2 * dilation - 1) // stride + 1,
    )
    taken: dict[tuple[int, ...], Sums] = {}
    for image, output, row, column in np.ndindex(2, 6, *shape):
        first = output // (6 // groups) * (channels // groups)
        a, w = [], []
        for i, j, c in itertools.product(range(3), range(3), range(channels // groups)):
            y, x = row * stride + i * dilation - top, column * stride + j * dilation - left
            inside = 0 <= y < 5 and 0 <= x < 6
            a.append(int(values[image, first + c, y, x]) if inside else INPUT_ZERO)
            w.append(int(weights[output, c, i, j]))
        taken[image, output, row, column] = scalar(a, w)

    assert_equal(layer, values, taken)


@pytest.mark.parametrize("operator", ["Gemm<transB=1>", "Gemm", "MatMul"])
def test_a_matrix_product_of_an_odd_length(operator: str) -> None:
    rows, values = rails(4, 7), pixels(3, 7)
    stored = rows if "transB" in operator else np.ascontiguousarray(rows.T)
    (layer,) = integer_layers(one_layer(operator, stored))
    taken: dict[tuple[int, ...], Sums] = {
        (image, output): scalar(values[image].tolist(), rows[output].tolist())
        for image, output in np.ndindex(3, 4)
    }

    assert_equal(layer, values, taken)


def test_a_depthwise_convolution_never_saturates() -> None:
    weights = np.full((4, 1, 3, 3), 127, np.int8)
    (layer,) = integer_layers(one_layer("Conv<kernel_shape=[3,3], group=4>", weights))

    found = emulate(layer, np.full((1, 4, 3, 3), 255, np.uint8))

    assert (found.clipped, found.saturated.tolist()) == (0, found.exact.tolist())
    assert found.exact[0, 0, 0, 0] == layer.bias[0] + 9 * 127 * (255 - INPUT_ZERO)


@pytest.mark.parametrize(
    ("operator", "shape", "image"),
    [
        ("Conv<kernel_shape=[3,3], pads=[1,1,1,1]>", (16, 8, 3, 3), (8, 6, 7)),  # symmetric kernel
        ("Conv<kernel_shape=[3,3], pads=[1,1,1,1]>", (8, 3, 3, 3), (3, 6, 7)),  # im2col
        ("Conv<kernel_shape=[3,3], group=16>", (16, 1, 3, 3), (16, 6, 7)),
        ("Gemm<transB=1>", (10, 37), (37,)),
    ],
)
def test_this_cpu_gives_the_same_bytes(
    operator: str, shape: tuple[int, ...], image: tuple[int, ...]
) -> None:
    model = one_layer(operator, rails(*shape))
    values = pixels(5, *image)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (layer,) = integer_layers(model)

    found = emulate(layer, values)

    machine = describe_machine()
    narrow = machine.architecture == "x86_64" and not (
        {"avx512_vnni", "avx_vnni"} & set(machine.instruction_sets)  # type: ignore[arg-type]
    )
    sums = found.saturated if narrow else found.exact
    factors = np.float32(INPUT_SCALE) * layer.row_scales / np.float32(OUTPUT_SCALE)
    shown = np.clip(np.rint(sums.astype(np.float32) * factors) + OUTPUT_ZERO, 0, 255)
    computed = session.run(None, {"p": values})[0]
    np.testing.assert_array_equal(channels_last(layer, computed), shown)
    assert len(np.unique(shown)) > 30


def test_signed_activations_are_moved_by_128() -> None:
    model = one_layer("Gemm<transB=1>", rails(4, 8))
    (layer,) = integer_layers(model)
    for tensor in model.graph.initializer:
        if tensor.name == "xz":
            tensor.CopyFrom(numpy_helper.from_array(np.array(INPUT_ZERO - 128, np.int8), "xz"))
    (signed,) = integer_layers(model)
    values = pixels(3, 8)

    moved = emulate(signed, (values.astype(np.int16) - 128).astype(np.int8))

    assert signed.zero_point == layer.zero_point
    np.testing.assert_array_equal(moved.saturated, emulate(layer, values).saturated)
