"""Small classifiers as other tools write them, and what they compute, by ONNX Runtime alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from exporter.contract import InputContract
from exporter.data.splits import Splits

SIDE = 12
CLASSES = ("ant", "bee", "cat", "dog", "elk")
CONTRACT = InputContract(height=SIDE, width=SIDE, classes=CLASSES)
IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
Array = NDArray[Any]


def image_input(
    *shape: int | str | None, name: str = "data", kind: int = TensorProto.FLOAT
) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def classifier(
    *,
    opset: int = 7,
    image: ValueInfoProto | None = None,
    first: Sequence[NodeProto] = (),
    start: str = "data",
    last: Sequence[NodeProto] = (),
    constants: Mapping[str, Array] | None = None,
    channels: int = 3,
    width: int = 16,
    classes: int = len(CLASSES),
    inputs: Sequence[ValueInfoProto] = (),
    outputs: Sequence[ValueInfoProto] | None = None,
    listed: bool = False,
    flatten: Sequence[int] = (),
) -> ModelProto:
    """Conv, BatchNormalization, Relu, MaxPool, Conv, Relu, GlobalAveragePool, Gemm.

    Args:
        opset: of the file.
        image: the image's input, channels first and any batch unless told otherwise.
        first: nodes in front of the network.
        start: the tensor that the network reads.
        last: nodes behind ``scores``; the last one's output is the graph's.
        constants: initializers of ``first`` and ``last``.
        channels: of the image.
        width: channels of the second convolution.
        classes: numbers in ``scores``.
        inputs: further inputs.
        outputs: in place of the last node's.
        listed: whether weights are listed as inputs, as version 3 of the format wanted.
        flatten: target of a Reshape in place of Flatten.
    """
    random = np.random.default_rng(1)

    def weights(*shape: int, scale: float = 0.4) -> Array:
        return random.normal(0, scale, shape).astype(np.float32)

    tensors: dict[str, Array] = {
        "w1": weights(8, channels, 3, 3), "scale": 1 + weights(8) / 4, "shift": weights(8),
        "mean": weights(8), "var": 1 + weights(8) ** 2, "w2": weights(width, 8, 3, 3),
        "b2": weights(width), "w3": weights(width, classes), "b3": weights(classes),
    }  # fmt: skip
    if flatten:
        tensors["flat_shape"] = np.array(flatten, np.int64)
    reshape = helper.make_node("Reshape", ["mean2", "flat_shape"], ["flat"])
    nodes = [
        *first,
        helper.make_node("Conv", [start, "w1"], ["c1"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c1", "scale", "shift", "mean", "var"], ["n1"]),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["mean2"]),
        reshape if flatten else helper.make_node("Flatten", ["mean2"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["scores"]),
        *last,
    ]
    output = helper.make_tensor_value_info(
        nodes[-1].output[0], TensorProto.FLOAT, ["batch", classes]
    )
    initializers = [
        numpy_helper.from_array(value, name)
        for name, value in (tensors | dict(constants or {})).items()
    ]
    graph = helper.make_graph(
        nodes,
        "theirs",
        [
            image or image_input("batch", channels, SIDE, SIDE),
            *inputs,
            *(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                for tensor in initializers
                if listed
            ),
        ],
        [output] if outputs is None else list(outputs),
        initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3 if listed else 8
    )
    onnx.checker.check_model(model)
    return model


def fitted_classifier(data: Splits, width: int = 32) -> ModelProto:
    """Return a classifier of ``data``: random features, and the best line through them."""
    classes = len(data.contract.classes)
    model = classifier(classes=classes, width=width)
    seen = ModelProto.FromString(model.SerializeToString())
    seen.graph.output[0].name = "flat"
    seen.graph.output[0].type.tensor_type.shape.dim[1].dim_value = width
    images, labels = data.train.arrays()
    features = np.c_[run(seen, data=normalized(images)), np.ones(len(labels))]
    lines = np.linalg.lstsq(features, np.eye(classes)[labels], rcond=1e-6)[0].astype(np.float32)
    for tensor in model.graph.initializer:
        if tensor.name in ("w3", "b3"):
            values = lines[:-1] if tensor.name == "w3" else lines[-1]
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


def normalized(raw: Array) -> Array:
    """Return images as ``IMAGENET`` says, channels first."""
    mean, std = IMAGENET
    planes: Array = ((raw / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    return planes


def written(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def raw_images(count: int = 6) -> NDArray[np.uint8]:
    shape = (count, SIDE, SIDE, 3)
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def run(source: ModelProto | Path, *outputs: str, **inputs: Array) -> Array:
    """Return what ONNX Runtime computes, as the file stands."""
    content = source.SerializeToString() if isinstance(source, ModelProto) else source.read_bytes()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    result: Array = session.run(list(outputs) or None, inputs)[0]
    return result


def difference(found: Array, wanted: Array) -> float:
    """Return the largest difference, relative to the largest number."""
    assert found.shape == wanted.shape
    return float(abs(found - wanted).max() / abs(wanted).max())
