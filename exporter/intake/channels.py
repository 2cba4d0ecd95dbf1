"""Networks that take other channels than red, green and blue -> networks that take these.

Blue, green and red is another order of the same; grey is ``0.299 R + 0.587 G + 0.114 B`` (ITU-R
BT.601, as Pillow and OpenCV have it, without their rounding). Both are a matrix by which the
kernels of the first convolution can be multiplied. The weights of grey add up to 1, so that a
normalisation that holds for grey holds for all three, and zero padding stays zero padding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from exporter.graph.normalization import NORMALIZED
from exporter.graph.wiring import Wiring, replace_nodes

GREY = (0.299, 0.587, 0.114)
RGB = 3
MIXED = f"{NORMALIZED}_mixed"


def channel_matrix(channels: int, order: str) -> NDArray[np.float64]:
    """Return ``[channels, 3]``, by which red, green and blue become a network's own channels."""
    if channels == 1:
        return np.array([GREY])
    return np.eye(RGB)[::-1] if order == "bgr" else np.eye(RGB)


def use_rgb(core: ModelProto, matrix: NDArray[np.float64]) -> None:
    """Let ``core`` take red, green and blue planes in ``normalized``, in place."""
    if np.array_equal(matrix, np.eye(RGB)):
        return
    wiring = Wiring.of(core.graph)
    readers = wiring.readers.get(NORMALIZED, [])
    kernels = {node.input[1] for node in readers if node.op_type == "Conv"}
    tensors = [wiring.constants.get(name) for name in kernels]
    if (
        all(node.op_type == "Conv" and node.input[0] == NORMALIZED for node in readers)
        and all(tensor is not None and tensor.dims[1] == len(matrix) for tensor in tensors)
        and all(node in readers for name in kernels for node in wiring.readers[name])
    ):
        for tensor in tensors:
            assert tensor is not None
            mixed = np.einsum("oc...,cr->or...", numpy_helper.to_array(tensor), matrix)
            tensor.CopyFrom(numpy_helper.from_array(mixed.astype(np.float32), tensor.name))
    else:
        kernel = matrix.astype(np.float32)[:, :, np.newaxis, np.newaxis]
        core.graph.initializer.append(numpy_helper.from_array(kernel, f"{MIXED}.weight"))
        network = list(core.graph.node)
        for node in network:
            node.input[:] = [MIXED if name == NORMALIZED else name for name in node.input]
        first = helper.make_node("Conv", [NORMALIZED, f"{MIXED}.weight"], [MIXED])
        replace_nodes(core, [first, *network])
    core.graph.input[0].type.tensor_type.shape.dim[1].dim_value = RGB
    del core.graph.value_info[:]
