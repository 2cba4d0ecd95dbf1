"""QDQ graphs of one layer, with bytes at both ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from tests.graph.graphs import Array, graph

INPUT_SCALE, INPUT_ZERO = 0.02, 7
OUTPUT_SCALE, OUTPUT_ZERO = 0.4, 110


def one_layer(operator: str, weights: NDArray[np.int8]) -> ModelProto:
    """Return ``p -> DequantizeLinear -> operator -> QuantizeLinear -> r`` with a bias.

    Args:
        operator: Conv or Gemm with its attributes, or MatMul (which gets no bias).
        weights: as the operator wants them.
    """
    axis = 0 if operator.startswith("Conv") or "transB" in operator else 1
    outputs = weights.shape[axis]
    generator = np.random.default_rng(3)
    scales = np.array(generator.uniform(0.5, 1.5, outputs) / 64, np.float32)
    constants: dict[str, Array] = {
        "xs": np.array(INPUT_SCALE, np.float32),
        "xz": np.array(INPUT_ZERO, np.uint8),
        "wq": weights,
        "ws": scales,
        "wz": np.zeros(outputs, np.int8),
        "bq": np.array(generator.integers(-3000, 3000, outputs), np.int32),
        "bs": np.array(np.float32(INPUT_SCALE) * scales, np.float32),
        "bz": np.zeros(outputs, np.int32),
        "ys": np.array(OUTPUT_SCALE, np.float32),
        "yz": np.array(OUTPUT_ZERO, np.uint8),
    }
    bias = "" if operator == "MatMul" else "b = DequantizeLinear<axis=0>(bq, bs, bz)"
    inputs = "x, w, b" if bias else "x, w"
    sizes = "N,c,h,w" if operator.startswith("Conv") else "N,k"
    text = f"""g (uint8[{sizes}] p) => (uint8[{sizes}] r) {{
        x = DequantizeLinear(p, xs, xz)
        w = DequantizeLinear<axis={axis}>(wq, ws, wz)
        {bias}
        y = {operator}({inputs})
        r = QuantizeLinear(y, ys, yz)
    }}"""
    model = graph(text, constants if bias else {k: v for k, v in constants.items() if k[0] != "b"})
    for info in (*model.graph.input, *model.graph.output):
        for index, dim in enumerate(info.type.tensor_type.shape.dim):
            dim.dim_param = f"{info.name}{index}"
    return model


def rails(*shape: int, seed: int = 0, low: int = 60) -> NDArray[np.int8]:
    """Weights near the ends of int8: some pairs of neighbours can saturate."""
    generator = np.random.default_rng(seed)
    signs = generator.choice(np.array([-1, 1], np.int8), shape)
    return signs * generator.integers(low, 128, shape).astype(np.int8)


def pixels(*shape: int, seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
