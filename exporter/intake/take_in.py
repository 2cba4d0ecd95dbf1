"""Stage: somebody else's float ONNX classifier becomes a float file that takes raw pixels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto, TensorProto

from exporter.artifacts import Artifact
from exporter.config import IntakeConfig
from exporter.contract import InputContract
from exporter.data.size import Size
from exporter.data.splits import Split
from exporter.errors import ConfigError, GraphError
from exporter.graph.addition import use_addition_for_sum
from exporter.graph.canonical import save_model
from exporter.graph.constant_operand import use_addition_and_product
from exporter.graph.contract import attach_image
from exporter.graph.flatten import use_flatten
from exporter.graph.gelu import use_gelu
from exporter.graph.global_pool import use_global_average_pool
from exporter.graph.metadata import tool_versions, write_metadata
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.graph.naming import name_after_layers
from exporter.graph.norm_convolution import use_convolution_for_norm
from exporter.graph.norm_product import use_product_for_norm
from exporter.graph.prepare import prepare
from exporter.graph.resize import use_constant_factors
from exporter.intake.batch import take_any_batch
from exporter.intake.channels import channel_matrix, use_rgb
from exporter.intake.class_names import rows_of, select_rows
from exporter.intake.class_output import drop_softmax, keep_output, use_logits
from exporter.intake.first_operators import FirstOperators, take_first_operators
from exporter.intake.image_input import ImageInput, find_image, fix_input
from exporter.intake.names import free_reserved
from exporter.intake.onnx_module import OnnxModule
from exporter.intake.opset import use_opset
from exporter.intake.parity import measure_parity
from exporter.intake.pixels import is_raw, usual_pixels, with_first_operators
from exporter.intake.read import opset_of, read_float_model, told_of
from exporter.intake.run import check_bearable
from exporter.normalization import Normalization, normalized_by
from exporter.training.loop import evaluate
from exporter.training.preprocessing import Preprocessing, try_normalizations

VERSION = 1

TOLERANCE = 1e-4
"""As for an export from torch: sums of float32 in another order give 1e-7 to 1e-5."""
FOLDED_BATCH = 3
"""Images for which shapes are folded where the file takes any number of them. Not 1, which is
broadcast and squeezed away; any other would do."""
TOOLS = ("onnx", "onnxruntime")


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenIn:
    """A network that came as an ONNX file, wrapped to the contract."""

    model: OnnxModel
    opset: int
    """Of the file as it came."""
    first_operators: tuple[str, ...]
    """Types of the operators at its start that became part of the contract."""
    dropped_softmax: bool
    """Whether it ended with a softmax; what ships ends with the logits."""
    preprocessing: Preprocessing
    """How well it does on validation images under the usual normalisations."""


def take_in(
    out: Path,
    config: IntakeConfig,
    files: tuple[Artifact, ...],
    names: tuple[str, ...],
    stated: Normalization | None,
    contract: InputContract,
    validation: Split,
) -> TakenIn:
    """Write ``model.onnx``, which takes raw pixels and computes what the user's file computes.

    Args:
        out: folder of the result.
        config: what the user states about the file's ends.
        files: the ONNX file, then the files beside it that hold its weights.
        names: the class of each of its outputs; empty where they are those of the data.
        stated: the pixels it takes; None where nobody said.
        contract: size, resizing and classes of the data.
        validation: images to try normalisations on.

    Raises:
        ConfigError: what the user states contradicts the file.
        GraphError: the file is not allowed, no float classifier of these classes, or cannot be
            wrapped without changing what it computes.
    """
    path, *_ = (file.checked() for file in files)
    with told_of(path):
        rows = rows_of(names or contract.classes, contract.classes)
        model = read_float_model(path)
        opset = opset_of(model)
        image = find_image(model, config, Size(contract.height, contract.width))
        batch = image.batch or FOLDED_BATCH
        fix_input(model, image, config, batch)
        keep_output(model, config, len(names or contract.classes))
        dropped_softmax = drop_softmax(model)
        renamed = free_reserved(model)
        image = dataclasses.replace(image, name=renamed.get(image.name, image.name))
        check_bearable(model)
        core, first = _core(model, image, batch, len(names or contract.classes), config, rows)
        pixels = pixels_of(model, first, stated)
        wrapped = normalized_by(contract, with_first_operators(pixels, first, config.channel_order))
        module = OnnxModule(core, first, config.channel_order)
        file = write_core(out, core, wrapped, files)
        matrix = channel_matrix(image.channels, config.channel_order)
        parity = measure_parity(model, image, batch, pixels, matrix, rows, file)
        if not parity <= TOLERANCE:  # also when it is NaN
            raise GraphError(
                f"cannot be wrapped: outputs differ by {parity:.2g} of the largest one, more than "
                f"the limit of {TOLERANCE:g}. Does it compute each image on its own?"
            )
        before = normalized_by(contract, pixels)
        return TakenIn(
            model=dataclasses.replace(read_onnx_model(file), parity=parity),
            opset=opset,
            first_operators=first.operators,
            dropped_softmax=dropped_softmax,
            preprocessing=try_normalizations(
                module, pixels, before, validation, evaluate(module, before, validation)
            ),
        )


def _core(
    model: ModelProto,
    image: ImageInput,
    batch: int,
    outputs: int,
    config: IntakeConfig,
    rows: list[int],
) -> tuple[ModelProto, FirstOperators]:
    """Return the network between normalised pixels and logits, and what stood in front of it."""
    core, first = core_of(model, image, batch, config.channel_order)
    use_logits(core, outputs, batch)
    core = for_any_batch(core, batch)
    if rows != list(range(outputs)):
        select_rows(core, rows)
    name_after_layers(core)
    return core, first


def core_of(
    model: ModelProto, image: ImageInput, batch: int, channel_order: str
) -> tuple[ModelProto, FirstOperators]:
    """Return the network behind its first operators, and those; made for ``batch`` images."""
    core = prepare(use_opset(model))
    first = take_first_operators(core, image, batch)
    use_rgb(core, channel_matrix(image.channels, channel_order))
    use_global_average_pool(core)
    use_flatten(core)
    use_gelu(core)
    use_addition_and_product(core)
    use_addition_for_sum(core)
    return core, first


def for_any_batch(core: ModelProto, batch: int) -> ModelProto:
    """Return ``core`` for any number of images, its outputs' shapes known for ``batch``."""
    take_any_batch(core, batch)
    use_constant_factors(core)
    core = prepare(core)
    use_convolution_for_norm(core)
    use_product_for_norm(core)
    return core


def pixels_of(
    user: ModelProto, first: FirstOperators, stated: Normalization | None
) -> Normalization:
    """Return the pixels that a file takes; raises ConfigError where they cannot be the stated."""
    takes_bytes = user.graph.input[0].type.tensor_type.elem_type != TensorProto.FLOAT
    pixels = stated or usual_pixels(first, takes_bytes=takes_bytes)
    if takes_bytes and not is_raw(pixels):
        raise ConfigError(
            f"The file takes whole numbers, which {pixels.name} pixels are not. Leave the "
            "normalisation out, or state --normalization raw."
        )
    return pixels


def write_core(
    out: Path, core: ModelProto, contract: InputContract, files: tuple[Artifact, ...]
) -> Path:
    """Write ``model.onnx``: a core behind raw pixels; return its path."""
    path = out / "model.onnx"
    attach_image(core, contract)
    write_metadata(
        core,
        contract,
        tools=tool_versions(*TOOLS),
        digests={"source": files[0].sha256},
    )
    save_model(core, path)
    return path
