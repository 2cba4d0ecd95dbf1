"""Stage: somebody else's float ONNX file, whatever its outputs mean, takes raw pixels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from onnx import ModelProto, TensorProto, helper

from exporter.artifacts import Artifact
from exporter.config import IntakeConfig
from exporter.contract import OUTPUT_NAME, InputContract
from exporter.data.size import Size
from exporter.errors import ConfigError, GraphError
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.graph.naming import name_after_layers
from exporter.graph.wiring import static_shapes
from exporter.intake.channels import channel_matrix
from exporter.intake.class_output import drop_unused
from exporter.intake.image_input import find_image, fix_input
from exporter.intake.names import free_reserved, rename
from exporter.intake.parity import measure_parity
from exporter.intake.pixels import with_first_operators
from exporter.intake.read import read_float_model, told_of
from exporter.intake.run import check_bearable
from exporter.intake.take_in import (
    FOLDED_BATCH,
    TOLERANCE,
    core_of,
    for_any_batch,
    pixels_of,
    write_core,
)
from exporter.normalization import Normalization, normalized_by

VERSION = 1


def take_in_any(
    out: Path,
    config: IntakeConfig,
    files: tuple[Artifact, ...],
    stated: Normalization | None,
    contract: InputContract,
) -> OnnxModel:
    """Write ``model.onnx``, which takes raw pixels and computes what the user's file computes.

    Args:
        out: folder of the result.
        config: what the user states about the file's ends; ``output`` names one that is kept.
        files: the ONNX file, then the files beside it that hold its weights.
        stated: the pixels it takes; None where nobody said.
        contract: size and resizing of the data.

    Raises:
        ConfigError: what the user states contradicts the file.
        GraphError: the file is not allowed, or cannot be wrapped without changing what it computes.
    """
    path, *_ = (file.checked() for file in files)
    with told_of(path):
        model = read_float_model(path)
        image = find_image(model, config, Size(contract.height, contract.width))
        batch = image.batch or FOLDED_BATCH
        fix_input(model, image, config, batch)
        _keep_outputs(model, config.output)
        renamed = free_reserved(model)
        image = dataclasses.replace(image, name=renamed.get(image.name, image.name))
        check_bearable(model)
        core, first = core_of(model, image, batch, config.channel_order)
        _fix_outputs(core, batch)
        core = for_any_batch(core, batch)
        if OUTPUT_NAME in renamed:
            rename(core, {renamed[OUTPUT_NAME]: OUTPUT_NAME})
        name_after_layers(core)
        pixels = pixels_of(model, first, stated)
        wrapped = normalized_by(contract, with_first_operators(pixels, first, config.channel_order))
        file = write_core(out, core, wrapped, files)
        matrix = channel_matrix(image.channels, config.channel_order)
        parity = measure_parity(model, image, batch, pixels, matrix, None, file)
        if not parity <= TOLERANCE:  # also when it is NaN
            raise GraphError(
                f"cannot be wrapped: outputs differ by {parity:.2g} of the largest value, more "
                f"than the limit of {TOLERANCE:g}. Does it compute each image on its own?"
            )
        return dataclasses.replace(read_onnx_model(file), parity=parity)


def _keep_outputs(model: ModelProto, wanted: str) -> None:
    """Leave the ``wanted`` output or, where none is named, all of them."""
    names = [info.name for info in model.graph.output]
    if wanted and wanted not in names:
        raise ConfigError(f"--output is {wanted!r}, but the file's outputs are {', '.join(names)}.")
    kept = [info for info in model.graph.output if wanted in ("", info.name)]
    for info in kept:
        if info.type.tensor_type.elem_type != TensorProto.FLOAT:
            raise GraphError(
                f"gives no float numbers in {info.name!r}; --output names another output."
            )
    del model.graph.output[:]
    model.graph.output.extend(kept)
    drop_unused(model)


def _fix_outputs(model: ModelProto, batch: int) -> None:
    """Write the shapes of the outputs down, ``batch`` images first; raises GraphError if not."""
    shapes = static_shapes(model)
    for info in model.graph.output:
        shape = shapes.get(info.name, ())
        if shape[:1] != (batch,) or None in shape:
            raise GraphError(
                f"gives {list(shape) or 'an unknown shape'} in {info.name!r} for {batch} images, "
                "but must give something of one size for each. --output names another output."
            )
        sizes = [size for size in shape if size is not None]
        info.CopyFrom(helper.make_tensor_value_info(info.name, TensorProto.FLOAT, sizes))
