"""Hand-made graphs, written as onnx's text form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

Array = NDArray[Any]
HEADER = '<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]>'


def graph(text: str, constants: Mapping[str, Array] | None = None) -> ModelProto:
    """Return ``<header> g (inputs) => (outputs) { nodes }``; constants become initializers."""
    model = onnx.parser.parse_model(f"{HEADER} {text}")
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"n{index}"
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in (constants or {}).items()
    )
    return model


def evaluate(model: ModelProto, **inputs: Array) -> Array:
    """Return the first output as ONNX Runtime computes it, the graph taken literally."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    result: Array = session.run(None, inputs)[0]
    return result


def operators(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
