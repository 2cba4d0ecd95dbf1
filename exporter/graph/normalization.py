"""A mean and a deviation for each channel, behind a graph that starts with one scalar for all.

A network trained on ``(x_c - m_c) / s_c`` gets ``u_c = (x_c - z) * q`` instead, the only form whose
bytes integer kernels read as they are. Its first convolution can undo the difference by itself::

    w_c * (x_c - m_c) / s_c  =  w_c / (s_c q) * u_c  +  w_c * (z - m_c) / s_c

The first term is the kernel with another factor for each channel. The second is a constant inside
the image and nothing outside of it, where the network's own zero padding was; a bias would add it
everywhere. So it becomes the kernel of a fourth channel, which holds one and the same byte ``k``
all over the image: ``u_k = (k - z) * q`` there, and 0 in the padding, as in every channel. The
result is exact up to the border, in float and in integer kernels alike, and ONNX Runtime's integer
convolution on 4 channels is faster than the one on 3.

How far ``k`` lies from ``z`` decides how the fourth kernel is rounded, since it shares its scale
with the other three. At a distance of ``sum_c |z - m_c|`` it is never larger than the largest of
their weights, so that it costs them no resolution; any farther, its rounding error, which is
multiplied by that distance, would only grow.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from exporter.contract import InputContract
from exporter.graph.wiring import Wiring, replace_nodes

PIXEL_MAX = 255
GAIN = "normalized_gain"
SHIFT = "normalized_shift"
SCALED = "normalized_scaled"
SHIFTED = "normalized_shifted"
INSERTED = (GAIN, SHIFT, SCALED, SHIFTED)


def constant_pixel(contract: InputContract) -> int:
    """Return the byte that fills the fourth channel; never the zero point."""
    zero_point = contract.zero_point
    wanted = max(1, math.ceil(sum(abs(zero_point - mean) for mean in contract.mean)))
    distance = min(wanted, max(zero_point, PIXEL_MAX - zero_point))
    above = zero_point + distance
    return above if above <= PIXEL_MAX else zero_point - distance


def fold_normalization(model: ModelProto, pixels: str, contract: InputContract) -> bool:
    """Let the convolutions that read ``pixels`` read four scalar-normalised channels instead.

    Args:
        model: a float core that takes ``(x - mean) / std``; changed in place.
        pixels: name of its input.
        contract: with a mean and a deviation for each channel.

    Returns:
        False, and ``model`` as it was, if anything but ungrouped convolutions reads the pixels.
    """
    wiring = Wiring.of(model.graph)
    readers = wiring.readers.get(pixels, [])
    weights = {node.input[1] for node in readers if node.op_type == "Conv"}
    shared = any(node not in readers for name in weights for node in wiring.readers[name])
    if shared or not all(_is_foldable(node, pixels, wiring, contract) for node in readers):
        return False
    for name in weights:
        tensor = wiring.constants[name]
        folded = _folded(numpy_helper.to_array(tensor), contract)
        tensor.CopyFrom(numpy_helper.from_array(folded, name))
    return True


def normalize_in_float(model: ModelProto, pixels: str, contract: InputContract) -> None:
    """Put a multiplication and an addition per channel between ``pixels`` and who reads them.

    Exact in float; a quantized graph rounds their results to 8 bits as any other activation.
    """
    mean, std = np.array(contract.mean), np.array(contract.std)
    constants = {
        GAIN: 1 / (std * contract.scale),
        SHIFT: (contract.zero_point - mean) / std,
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(values.astype(np.float32).reshape(1, -1, 1, 1), name)
        for name, values in constants.items()
    )
    network = list(model.graph.node)
    for node in network:
        for index, name in enumerate(node.input):
            if name == pixels:
                node.input[index] = SHIFTED
    gain = helper.make_node("Mul", [pixels, GAIN], [SCALED], SCALED)
    shift = helper.make_node("Add", [SCALED, SHIFT], [SHIFTED], SHIFTED)
    replace_nodes(model, [gain, shift, *network])


def _is_foldable(node: NodeProto, pixels: str, wiring: Wiring, contract: InputContract) -> bool:
    if node.op_type != "Conv" or node.input[0] != pixels:
        return False
    weight = wiring.constants.get(node.input[1])
    # A grouped convolution has fewer input channels in its kernels.
    return weight is not None and weight.dims[1] == contract.channels


def _folded(weight: NDArray[np.generic], contract: InputContract) -> NDArray[np.float32]:
    """Return kernels ``[O, 4, kh, kw]`` on scalar-normalised channels from ``[O, 3, kh, kw]``."""
    per_step = weight.astype(np.float64) / np.array(contract.std).reshape(-1, 1, 1)
    offset = (contract.zero_point - np.array(contract.mean)).reshape(-1, 1, 1)
    constant = (per_step * offset).sum(axis=1, keepdims=True)
    distance = constant_pixel(contract) - contract.zero_point
    folded = np.concatenate([per_step, constant / distance], axis=1) / contract.scale
    return folded.astype(np.float32)
