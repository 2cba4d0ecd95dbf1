"""A small network with a map and an embedding for outputs, as other tools write it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

SIDE = 12
PLANES, FEATURES = 4, 6


def two_outputs(*, kind: int = TensorProto.FLOAT, resized: bool = False) -> ModelProto:
    """Conv, Relu, Conv is the map; its average, by a Gemm, the embedding called ``logits``.

    Args:
        kind: type of the embedding.
        resized: whether the map is blown up to twice its size, as written for one image.
    """
    generator = np.random.default_rng(0)
    weights = {
        "w1": generator.normal(0, 0.3, (16, 3, 3, 3)),
        "w2": generator.normal(0, 0.3, (PLANES, 16, 3, 3)),
        "w3": generator.normal(0, 0.5, (PLANES, FEATURES)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["planes"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["planes"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "w3"], ["e"]),
        helper.make_node("Cast", ["e"], ["logits"], to=kind),
    ]
    constants = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    side, name = SIDE, "planes"
    if resized:
        side, name = 2 * SIDE, "large"
        sizes = np.array([1, PLANES, side, side], np.int64)
        constants.append(numpy_helper.from_array(sizes, "sizes"))
        nodes.append(helper.make_node("Resize", ["planes", "", "", "sizes"], [name], mode="linear"))
    batch = 1 if resized else "n"
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, PLANES, side, side]),
            helper.make_tensor_value_info("logits", kind, [batch, FEATURES]),
        ],
        constants,
    )
    opset = [helper.make_opsetid("", 17)]
    model: ModelProto = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    return model
