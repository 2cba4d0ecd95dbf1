"""Small float networks, built without torch, in both forms: float core and raw bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

ZERO_POINT = 128
SCALE = 1 / 64
CLASSES = 4


class Builder:
    """Appends layers with seeded weights; ``tail`` is the tensor the next layer reads."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.tail = "normalized"

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        spread = np.sqrt(2 / max(1, int(np.prod(shape[1:]))))
        values = self.random.normal(0, spread, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def layer(
        self, op: str, inputs: Sequence[str] = (), output: str = "", **attributes: Any
    ) -> str:
        output = output or f"{op.lower()}{len(self.nodes)}"
        node = helper.make_node(
            op, [self.tail, *inputs], [output], name=f"node_{output}", **attributes
        )
        self.nodes.append(node)
        self.tail = output
        return output

    def conv(self, inputs: int, outputs: int) -> str:
        return self.layer(
            "Conv", [self.weight(outputs, inputs, 3, 3), self.weight(outputs)], pads=[1, 1, 1, 1]
        )

    def finish(self, features: int) -> onnx.ModelProto:
        self.layer("Flatten", axis=1)
        self.layer(
            "Gemm", [self.weight(CLASSES, features), self.weight(CLASSES)], "logits", transB=1
        )
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("normalized", TensorProto.FLOAT, ["N", 3, 8, 8])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.checker.check_model(model)
        return model


def chain(channels: int = 16) -> onnx.ModelProto:
    """Conv, ReLU and max pooling, twice, and a fully connected layer."""
    build = Builder()
    for inputs in (3, channels):
        build.conv(inputs, channels)
        build.layer("Relu")
        build.layer("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    return build.finish(channels * 4)


def residual(channels: int = 16) -> onnx.ModelProto:
    """A stem and two residual blocks, global average pooling, a fully connected layer."""
    build = Builder(1)
    build.conv(3, channels)
    build.layer("Relu")
    for _ in range(2):
        shortcut = build.tail
        build.conv(channels, channels)
        build.layer("Relu")
        build.conv(channels, channels)
        build.layer("Add", [shortcut])
        build.layer("Relu")
    build.layer("GlobalAveragePool")
    return build.finish(channels)


def clipped(channels: int = 16) -> onnx.ModelProto:
    """ReLU6 by constants, average pooling, a convolution without activation."""
    build = Builder(2)
    build.weights += [
        numpy_helper.from_array(floats(0), "zero"),
        numpy_helper.from_array(floats(6), "six"),
    ]
    build.conv(3, channels)
    build.layer("Clip", ["zero", "six"])
    build.layer("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    build.conv(channels, channels)
    return build.finish(channels * 16)


def unfolded(channels: int = 16) -> onnx.ModelProto:
    """A batch-norm that ONNX Runtime's pre-processing folds into the convolution."""
    build = Builder(3)
    build.conv(3, channels)
    variance = numpy_helper.from_array(np.full(channels, 0.5, np.float32), "variance")
    build.weights.append(variance)
    build.layer("BatchNormalization", [*(build.weight(channels) for _ in range(3)), "variance"])
    build.layer("Relu")
    return build.finish(channels * 64)


FOLDED = {"chain": chain, "residual": residual, "clipped": clipped}
"""Networks that pre-processing leaves as they are, as an exporter writes them."""
NETS = FOLDED | {"unfolded": unfolded}


def raw_bytes(core: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``core`` behind Transpose and DequantizeLinear: ``image`` uint8 [N, 8, 8, 3]."""
    model = onnx.ModelProto()
    model.CopyFrom(core)
    graph = model.graph
    front = [
        helper.make_node("Transpose", ["image"], ["image_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "DequantizeLinear", ["image_nchw", "image_scale", "image_zero"], ["normalized"]
        ),
    ]
    rest = list(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend(front + rest)
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 8, 8, 3]))
    graph.initializer.extend(
        [
            numpy_helper.from_array(floats(SCALE), "image_scale"),
            numpy_helper.from_array(np.array(ZERO_POINT, np.uint8), "image_zero"),
        ]
    )
    onnx.checker.check_model(model)
    return model


def floats(values: ArrayLike) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return random pixels ``uint8 [count, 8, 8, 3]``."""
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def normalized(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the graph makes of raw pixels: ``float32 [N, 3, H, W]``."""
    floats = (pixels.astype(np.float32) - ZERO_POINT) * np.float32(SCALE)
    return np.ascontiguousarray(floats.transpose(0, 3, 1, 2))
