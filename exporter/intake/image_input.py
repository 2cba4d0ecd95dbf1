"""Which input of a network takes the image, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from exporter.config import IntakeConfig
from exporter.data.size import Size
from exporter.errors import ConfigError, GraphError
from exporter.graph.wiring import Shape, Wiring, ints_attribute

Layout = Literal["NCHW", "NHWC"]
CHANNELS = (1, 3)
"""Grey and colour."""
TYPES = (TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInput:
    """The input of a network that takes images."""

    name: str
    layout: Layout
    channels: int
    height: int
    width: int
    batch: int | None
    """Number of images that the file is made for; None where it takes any."""

    def shape(self, batch: int | str) -> list[int | str]:
        """Return the shape of a batch of images in the file's own order."""
        sizes = {"N": batch, "C": self.channels, "H": self.height, "W": self.width}
        return [sizes[axis] for axis in self.layout]


def find_image(model: ModelProto, config: IntakeConfig, size: Size | None) -> ImageInput:
    """Return the input that takes the image.

    Args:
        model: weights are not among its inputs.
        config: what the user states about it.
        size: what ``--size`` states.

    Raises:
        ConfigError: what the user states contradicts the file, or must be stated and is not.
        GraphError: worded to follow the file's name: no input is an image's.
    """
    info = _chosen(model, config)
    shape = _dims(info)
    if len(shape) != 4:
        raise GraphError(
            f"has the input {info.name!r} of shape {list(shape)}, but an image's has four "
            "dimensions: images, channels, height, width (or the channels last)."
        )
    if info.type.tensor_type.elem_type not in TYPES:
        raise GraphError(f"has the input {info.name!r}, which takes no numbers that pixels can be.")
    layout = _layout(model, info.name, shape, config)
    by_axis = dict(zip(layout, shape, strict=True))
    channels = by_axis["C"] or 3
    if channels not in CHANNELS:
        raise GraphError(
            f"takes images of {channels} channels in {info.name!r}, read as {layout}; only colour "
            "(3) and grey (1) can be built. Say --layout if the channels are elsewhere."
        )
    height, width = _sides(by_axis["H"], by_axis["W"], info.name, size)
    return ImageInput(
        name=info.name,
        layout=layout,
        channels=channels,
        height=height,
        width=width,
        batch=by_axis["N"],
    )


def fix_input(model: ModelProto, image: ImageInput, config: IntakeConfig, batch: int) -> None:
    """Leave the image as the only input, of one shape for ``batch`` images; others get constants.

    Raises:
        ConfigError: an input has no constant, a constant has no input, or does not fit it.
    """
    constants = _constants(config)
    kept: list[ValueInfoProto] = []
    for info in model.graph.input:
        if info.name == image.name:
            kind = info.type.tensor_type.elem_type
            kept.append(helper.make_tensor_value_info(info.name, kind, image.shape(batch)))
        elif info.name in constants:
            value = _filled(info, constants.pop(info.name), batch)
            model.graph.initializer.append(numpy_helper.from_array(value, info.name))
        else:
            raise ConfigError(
                f"The file has the input {info.name!r} beside the image {image.name!r}. Give it a "
                f"value with --constant {info.name}=NUMBER."
            )
    if constants:
        raise ConfigError(
            f"--constant names {next(iter(constants))!r}, but the file's inputs are "
            f"{', '.join(info.name for info in model.graph.input)}."
        )
    del model.graph.input[:]
    model.graph.input.extend(kept)
    del model.graph.value_info[:]  # inferred for other shapes


def _chosen(model: ModelProto, config: IntakeConfig) -> ValueInfoProto:
    inputs: dict[str, ValueInfoProto] = {info.name: info for info in model.graph.input}
    if config.input:
        if config.input not in inputs:
            raise ConfigError(
                f"--input is {config.input!r}, but the file's inputs are {', '.join(inputs)}."
            )
        return inputs[config.input]
    named = {entry.partition("=")[0] for entry in config.constant}
    candidates = [info for info in inputs.values() if info.name not in named]
    if len(candidates) > 1:
        candidates = [info for info in candidates if len(_dims(info)) == 4]
    if len(candidates) != 1:
        raise ConfigError(
            f"The file has the inputs {', '.join(inputs) or '(none)'}. Say which one takes the "
            "image with --input."
        )
    return candidates[0]


def _dims(info: ValueInfoProto) -> Shape:
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        for dim in info.type.tensor_type.shape.dim
    )


def _layout(
    model: ModelProto, name: str, shape: Sequence[int | None], config: IntakeConfig
) -> Layout:
    if config.layout != "auto":
        return "NCHW" if config.layout == "nchw" else "NHWC"
    first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    if first != last:
        return "NCHW" if first else "NHWC"
    readers = Wiring.of(model.graph).readers.get(name, [])
    if any(node.op_type == "Conv" for node in readers):
        return "NCHW"
    if any(ints_attribute(node, "perm") == [0, 3, 1, 2] for node in readers):
        return "NHWC"
    raise ConfigError(
        f"The file does not tell where its input {name!r} has the channels. Say --layout nchw or "
        "nhwc."
    )


def _sides(height: int | None, width: int | None, name: str, size: Size | None) -> tuple[int, int]:
    if size is None:
        if height is None or width is None:
            raise ConfigError(
                f"The file takes images of any size in {name!r}. Say which one it shall take with "
                "--size HEIGHTxWIDTH."
            )
        return height, width
    if (height or size.height, width or size.width) != (size.height, size.width):
        raise ConfigError(
            f"--size is {size}, but the file takes images of {height or 'any'}x{width or 'any'}. "
            "Leave --size out."
        )
    return size.height, size.width


def _constants(config: IntakeConfig) -> dict[str, float]:
    constants = {}
    for entry in config.constant:
        name, _, text = entry.rpartition("=")
        try:
            constants[name] = float(text)
        except ValueError:
            name = ""
        if not name:
            raise ConfigError(f"--constant is {entry!r}, but must be NAME=NUMBER.")
    return constants


def _filled(
    info: ValueInfoProto, value: float, batch: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    shape = [size or batch for size in _dims(info)]  # what is free is most likely the batch
    kind = info.type.tensor_type.elem_type
    try:
        return np.full(shape, value, helper.tensor_dtype_to_np_dtype(kind))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"--constant {info.name}={value:g} does not fit that input.") from error
