"""A mean and a deviation for each channel, for integer kernels that know one scalar for all.

A float file says ``(x_c - m_c) / s_c`` with two nodes (see ``exporter.graph.contract``). Integer
kernels read bytes as they are in one form only, ``u_c = (x_c - z) * q``. Before it is quantized, a
network is therefore rewritten to take that: its first convolution can make up for the difference::

    w_c * (x_c - m_c) / s_c  =  w_c / (s_c q) * u_c  +  w_c * (z - m_c) / s_c

The first term is the kernel with another factor for each channel. The second is a constant inside
the image and nothing outside of it, where the network's own zero padding was; a bias would add it
everywhere. So it becomes the kernel of a fourth channel, which holds one and the same byte ``k``
all over the image: ``u_k = (k - z) * q`` there, and 0 in the padding, as in every channel. The
result is exact up to the border. The detour costs nothing: ONNX Runtime's integer convolution on 4
channels is so much faster than the one on 3 that it pays for filling the fourth.

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
from exporter.progress import say

PIXEL_MAX = 255
NORMALIZED = "normalized"
"""The pixels as a core takes them."""
GAIN = "normalized_gain"
SHIFT = "normalized_shift"
SCALED = "normalized_scaled"
SHIFTED = "normalized_shifted"


def constant_pixel(contract: InputContract) -> int:
    """Return the byte that fills the fourth channel; never the zero point."""
    zero_point = contract.zero_point
    wanted = max(1, math.ceil(sum(abs(zero_point - mean) for mean in contract.mean)))
    distance = min(wanted, max(zero_point, PIXEL_MAX - zero_point))
    above = zero_point + distance
    return above if above <= PIXEL_MAX else zero_point - distance


def use_scalar_normalization(
    core: ModelProto, contract: InputContract
) -> dict[str, tuple[float, float]]:
    """Let ``core`` take scalar-normalised pixels, in place, whatever it was trained with.

    Where ungrouped convolutions alone read the pixels, they get a fourth channel. Else there will
    be a multiplication and an addition per channel in front of the network: exact in float, rounded
    to 8 bits when quantized, as any other activation.

    Returns:
        The exact ranges of tensors that were not there before, by name.
    """
    if not contract.mean:
        return {}
    if _fold(core, contract):
        channels = core.graph.input[0].type.tensor_type.shape.dim[1]
        channels.dim_value = contract.channels + 1
        del core.graph.value_info[:]  # inferred for the other input
        return {}
    say(
        "Not only convolutions read the pixels: mean and deviation become a multiplication and an "
        "addition in the int8 file, which cost time and some accuracy."
    )
    return _insert(core, contract)


def _fold(core: ModelProto, contract: InputContract) -> bool:
    """Fold the normalisation into the convolutions; return False, changing nothing, if it can't."""
    wiring = Wiring.of(core.graph)
    readers = wiring.readers.get(NORMALIZED, [])
    weights = {node.input[1] for node in readers if node.op_type == "Conv"}
    shared = any(node not in readers for name in weights for node in wiring.readers[name])
    if shared or not all(_is_foldable(node, wiring, contract) for node in readers):
        return False
    for name in weights:
        tensor = wiring.constants[name]
        folded = _folded(numpy_helper.to_array(tensor), contract)
        tensor.CopyFrom(numpy_helper.from_array(folded, name))
    return True


def _insert(core: ModelProto, contract: InputContract) -> dict[str, tuple[float, float]]:
    mean, std = np.array(contract.mean), np.array(contract.std)
    constants = {
        GAIN: 1 / (std * contract.scale),
        SHIFT: (contract.zero_point - mean) / std,
    }
    core.graph.initializer.extend(
        numpy_helper.from_array(values.astype(np.float32).reshape(1, -1, 1, 1), name)
        for name, values in constants.items()
    )
    network = list(core.graph.node)
    for node in network:
        for index, name in enumerate(node.input):
            if name == NORMALIZED:
                node.input[index] = SHIFTED
    gain = helper.make_node("Mul", [NORMALIZED, GAIN], [SCALED], SCALED)
    shift = helper.make_node("Add", [SCALED, SHIFT], [SHIFTED], SHIFTED)
    replace_nodes(core, [gain, shift, *network])
    del core.graph.value_info[:]
    span = np.array([0, PIXEL_MAX])[:, np.newaxis]
    return {
        SCALED: _range((span - contract.zero_point) / std),
        SHIFTED: _range((span - mean) / std),
    }


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _is_foldable(node: NodeProto, wiring: Wiring, contract: InputContract) -> bool:
    if node.op_type != "Conv" or node.input[0] != NORMALIZED:
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
