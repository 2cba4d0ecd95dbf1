"""Between the network's own input and raw pixels.

The core of a model takes ``normalized``, float32 [N, C, H, W]. In front of it, the shipped form has
two nodes::

    image (uint8 [N, H, W, C]) -> Transpose -> image_nchw -> DequantizeLinear -> normalized

DequantizeLinear computes ``(pixel - zero_point) * scale``, which is the training's normalisation.
In a quantized model it is the very DequantizeLinear that integer kernels absorb: the first
convolution then reads the raw bytes, and the Transpose fits ONNX Runtime's channels-last kernels.

Where the training's normalisation differs between channels, a float file has a scale for each, and
an addition for what is left of the mean; a quantized one has a fourth channel in front, see
``exporter.graph.normalization``::

    image -> Transpose -> DequantizeLinear (per channel) -> Add -> normalized
    image -> Pad (a fourth channel) -> Transpose -> DequantizeLinear -> normalized
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from exporter.contract import INPUT_NAME, InputContract
from exporter.errors import GraphError
from exporter.graph.normalization import (
    GAIN,
    NORMALIZED,
    SCALED,
    SHIFT,
    SHIFTED,
    constant_pixel,
)
from exporter.graph.wiring import Wiring, replace_nodes

NCHW = "image_nchw"
PADDED = "image_padded"
PADS = "image_pads"
CONSTANT = "image_constant"
SCALE = "normalized_scale"
ZERO_POINT = "normalized_zero_point"
INPUT_SIDE = (
    PADDED, PADS, CONSTANT, NCHW, SCALE, ZERO_POINT, GAIN, SHIFT, SCALED, SHIFTED, NORMALIZED,
)  # fmt: skip
"""Every name that the input side of a file can have."""
BATCH = "N"


def attach_image(model: ModelProto, contract: InputContract) -> None:
    """Put the raw-bytes input in front of a float core that takes pixels as in training."""
    network = list(model.graph.node)
    zero_point = np.array(contract.zero_point, np.uint8)
    if contract.mean:
        mean, std = np.array(contract.mean), np.array(contract.std)
        constants = {
            SCALE: (1 / std).astype(np.float32),
            ZERO_POINT: np.full(contract.channels, zero_point),
            SHIFT: ((contract.zero_point - mean) / std).astype(np.float32).reshape(1, -1, 1, 1),
        }
        dequantized = SCALED
        last = [helper.make_node("Add", [SCALED, SHIFT], [NORMALIZED], "normalize_mean")]
    else:
        constants = {SCALE: np.array(contract.scale, np.float32), ZERO_POINT: zero_point}
        dequantized, last = NORMALIZED, []
    model.graph.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in constants.items()
    )
    normalize = helper.make_node(
        "DequantizeLinear", [NCHW, SCALE, ZERO_POINT], [dequantized], "normalize"
    )
    first = _to_nchw(model, contract.channels, contract)
    replace_nodes(model, [*first, normalize, *last, *network])
    _set_input(model, helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, _nhwc(contract)))


def detach_image(model: ModelProto, contract: InputContract) -> None:
    """Undo ``attach_image``: leave the float core; raises GraphError on any other input side."""
    wiring = Wiring.of(model.graph)
    expected = {
        NCHW: ["Transpose", INPUT_NAME],
        NORMALIZED: ["DequantizeLinear", NCHW, SCALE, ZERO_POINT],
    }
    if contract.mean:
        expected |= {SCALED: expected[NORMALIZED], NORMALIZED: ["Add", SCALED, SHIFT]}
    for name, wanted in expected.items():
        node = wiring.producer.get(name)
        if node is None or [node.op_type, *node.input] != wanted:
            raise GraphError(
                f"The model does not start with {INPUT_NAME} -> Transpose -> DequantizeLinear -> "
                f"{NORMALIZED}. Export it with this tool."
            )
    replace_nodes(model, [node for node in model.graph.node if node.output[0] not in expected])
    shape: list[str | int] = [BATCH, contract.channels, contract.height, contract.width]
    _set_input(model, helper.make_tensor_value_info(NORMALIZED, TensorProto.FLOAT, shape))


def attach_image_to_quantized(model: ModelProto, contract: InputContract) -> None:
    """Feed raw bytes into a quantized core in place of its first QuantizeLinear.

    The outputs stay the same to the bit, because quantizing the normalised pixels gives the pixels
    back: the core must quantize its input with the contract's scale and zero point.

    Raises:
        GraphError: it does not, or something else reads the float input.
    """
    wiring = Wiring.of(model.graph)
    quantize = wiring.only_reader(NORMALIZED)
    if quantize is None or quantize.op_type != "QuantizeLinear":
        names = ", ".join(node.name for node in wiring.readers.get(NORMALIZED, []))
        raise GraphError(f"The pixels are not quantized once and first; they are read by {names}.")
    scale, zero_point = (wiring.values(name) for name in quantize.input[1:3])
    expected = np.array(contract.scale, np.float32), np.array(contract.zero_point, np.uint8)
    if scale != expected[0] or zero_point != expected[1]:
        raise GraphError(
            f"The pixels are quantized with scale {scale} and zero point {zero_point}, but the "
            f"input contract has {contract.scale} and {contract.zero_point}."
        )
    quantized = quantize.output[0]
    network = [node for node in model.graph.node if node.name != quantize.name]
    for node in network:
        for index, name in enumerate(node.input):
            if name == quantized:
                node.input[index] = NCHW
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    replace_nodes(model, [*_to_nchw(model, channels, contract), *network])
    _set_input(model, helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, _nhwc(contract)))


def pad_image(model: ModelProto, contract: InputContract, channels: int) -> None:
    """Let a file whose pixels go to integer kernels as they are fill up to ``channels`` planes."""
    network = [node for node in model.graph.node if list(node.output) != [NCHW]]
    replace_nodes(model, [*_to_nchw(model, channels, contract), *network])
    del model.graph.value_info[:]  # inferred for fewer planes


def _to_nchw(model: ModelProto, channels: int, contract: InputContract) -> list[NodeProto]:
    """Return the nodes from the image to ``channels`` planes; adds the constants they need."""
    perm = [0, 3, 1, 2]
    if channels == contract.channels:
        return [helper.make_node("Transpose", [INPUT_NAME], [NCHW], "to_nchw", perm=perm)]
    pads = [0] * 7 + [channels - contract.channels]  # at the starts of N, H, W, C, then at the ends
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(pads, np.int64), PADS),
            numpy_helper.from_array(np.array(constant_pixel(contract), np.uint8), CONSTANT),
        ]
    )
    return [
        helper.make_node("Pad", [INPUT_NAME, PADS, CONSTANT], [PADDED], "pad_channels"),
        helper.make_node("Transpose", [PADDED], [NCHW], "to_nchw", perm=perm),
    ]


def _nhwc(contract: InputContract) -> list[str | int]:
    return [BATCH, contract.height, contract.width, contract.channels]


def _set_input(model: ModelProto, info: ValueInfoProto) -> None:
    del model.graph.input[:]
    model.graph.input.extend([info])
    # Types of inner tensors were inferred for the other input side.
    del model.graph.value_info[:]
