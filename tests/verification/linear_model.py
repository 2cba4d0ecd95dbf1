"""A network whose logits can be computed by hand: channel means times a matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exporter.artifacts import Artifact


def linear_model(
    path: Path,
    weights: NDArray[np.float32],
    side: int = 20,
    *,
    input_name: str = "image",
    batch: str | int = "N",
    output_name: str = "logits",
) -> Artifact:
    """Write a model with ``logits = mean((pixels - 128) / 64) @ weights [3, classes]``."""
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", [input_name], ["nchw"], perm=[0, 3, 1, 2]),
            helper.make_node("DequantizeLinear", ["nchw", "scale", "zero"], ["normalized"]),
            helper.make_node("GlobalAveragePool", ["normalized"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], [output_name]),
        ],
        "linear",
        [helper.make_tensor_value_info(input_name, TensorProto.UINT8, [batch, side, side, 3])],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, [batch, weights.shape[1]])],
        [
            numpy_helper.from_array(np.array(1 / 64, np.float32), "scale"),
            numpy_helper.from_array(np.array(128, np.uint8), "zero"),
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return Artifact.of(path)


def qdq_model(path: Path, side: int = 20) -> Artifact:
    """Write an int8 model as ONNX Runtime wants it: a convolution on the raw bytes, then means.

    Its classes are the channels of ``linear_model`` with the right weights.
    """
    kernel = np.zeros((3, 3, 1, 1), np.int8)
    for label in range(3):
        kernel[label, 2 - label] = 100
    constants: dict[str, NDArray[np.generic]] = {
        "scale": np.array(1 / 64, np.float32),
        "zero": np.array(128, np.uint8),
        "kernel": kernel,
        "kernel_scale": np.full(3, 0.01, np.float32),
        "kernel_zero": np.zeros(3, np.int8),
        "out_scale": np.array(1 / 64, np.float32),
        "out_zero": np.array(128, np.uint8),
    }
    quantized = ["out_scale", "out_zero"]
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
            helper.make_node("DequantizeLinear", ["nchw", "scale", "zero"], ["normalized"]),
            helper.make_node(
                "DequantizeLinear", ["kernel", "kernel_scale", "kernel_zero"], ["w"], axis=0
            ),
            helper.make_node("Conv", ["normalized", "w"], ["convolved"]),
            helper.make_node("QuantizeLinear", ["convolved", *quantized], ["bytes"]),
            helper.make_node("DequantizeLinear", ["bytes", *quantized], ["real"]),
            helper.make_node("GlobalAveragePool", ["real"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["logits"]),
        ],
        "qdq",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", side, side, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return Artifact.of(path)


RIGHT = np.eye(3, dtype=np.float32)[::-1].copy()
"""Weights that tell the classes of the shared test dataset apart: class i is channel 2 - i."""
