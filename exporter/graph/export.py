"""Stage: a trained network becomes a float ONNX file that takes raw pixels."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from onnx import ModelProto
from torch import nn

from exporter.artifacts import Artifact, digest
from exporter.checkpoint import Checkpoint, restore
from exporter.contract import OUTPUT_NAME, InputContract
from exporter.errors import GraphError
from exporter.graph.canonical import OPSET, save_model
from exporter.graph.checks import check_shippable
from exporter.graph.contract import BATCH, attach_image
from exporter.graph.count import count_macs, count_parameters
from exporter.graph.flatten import use_flatten
from exporter.graph.gelu import use_gelu
from exporter.graph.global_pool import use_global_average_pool
from exporter.graph.limits import read_model
from exporter.graph.metadata import tool_versions, write_metadata
from exporter.graph.model import OnnxModel
from exporter.graph.naming import name_after_layers
from exporter.graph.norm_convolution import use_convolution_for_norm
from exporter.graph.normalization import NORMALIZED
from exporter.graph.parity import measure_parity
from exporter.graph.prepare import prepare
from exporter.graph.resize import use_constant_factors
from exporter.outputs import named_tensors

VERSION = 1

TOLERANCE = 1e-4
"""Accepted relative difference of logits. Both sides add float32 numbers in an order of their own,
which gives 1e-7 to 1e-5; a wrong padding or a missing bias gives 1e-2 and more."""
TOOLS = ("onnx", "onnxruntime", "onnxscript", "torch")


def export_onnx(out: Path, checkpoint: Checkpoint) -> OnnxModel:
    """Write ``model.onnx`` for the network in ``checkpoint``.

    Raises:
        GraphError: the network cannot be exported, or the file does not compute the same.
        ModelError: the checkpoint is damaged.
    """
    path = out / "model.onnx"
    digests = {"checkpoint": digest(checkpoint)}
    parity = export_module(restore(checkpoint), checkpoint.contract, path, digests=digests)
    model = read_model(path)
    return OnnxModel(
        file=Artifact.of(path),
        contract=checkpoint.contract,
        parameters=count_parameters(model),
        macs=count_macs(model),
        parity=parity,
    )


def export_module(
    module: nn.Module,
    contract: InputContract,
    path: Path,
    *,
    digests: dict[str, str] | None = None,
) -> float:
    """Write ``module`` in eval mode as an ONNX file that keeps ``contract``; return its parity.

    The same weights give the same bytes, in any process and folder.

    Args:
        module: maps normalised pixels ``float32 [N, C, H, W]`` to logits ``[N, classes]``; where
            the contract has no classes, to float tensors in any nesting of dictionaries and lists,
            which become the file's outputs by their names. It is not changed.
        contract: the input side of the file.
        path: where the file goes.
        digests: what the file is made from, for its metadata.

    Returns:
        The largest difference of a logit between torch and ONNX Runtime on random pixels,
        relative to the largest logit.

    Raises:
        GraphError: the module cannot be exported, or the file does not compute the same.
    """
    module = copy.deepcopy(module).cpu().eval()
    model = _traced(module, contract)
    use_global_average_pool(model)
    use_flatten(model)
    use_gelu(model)
    model = prepare(model)
    use_convolution_for_norm(model)
    use_constant_factors(model)
    name_after_layers(model)
    attach_image(model, contract)
    write_metadata(model, contract, tools=tool_versions(*TOOLS), digests=digests or {})
    save_model(model, path)
    try:
        check_shippable(read_model(path), contract)
    except GraphError as error:
        raise GraphError(f"{type(module).__name__}: the exported file {error}") from error
    parity = measure_parity(module, contract, path)
    if not parity <= TOLERANCE:  # also when it is NaN
        raise GraphError(
            f"The ONNX file differs from the network by {parity:.2g} of the largest logit, more "
            f"than the limit of {TOLERANCE:g}. Does the network compute each image on its own?"
        )
    return parity


def _traced(module: nn.Module, contract: InputContract) -> ModelProto:
    """Return the graph as torch's exporter writes it, batch-norm folded, any batch size."""
    # Two images: torch.export would take one for a constant.
    pixels = torch.zeros(2, contract.channels, contract.height, contract.width)
    names = [OUTPUT_NAME]
    if not contract.classes:
        with torch.no_grad():
            names = list(named_tensors(module(pixels)))
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (pixels,),
                dynamo=True,
                verbose=False,
                optimize=True,
                opset_version=OPSET,
                external_data=False,
                input_names=[NORMALIZED],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim(BATCH, min=1)},),
            )
    except Exception as error:  # exporter, tracer and decompositions each raise their own
        raise GraphError(
            f"{type(module).__name__} cannot be exported to ONNX: {_cause(error)}"
        ) from error
    if program is None or program.model_proto.functions:
        raise GraphError(f"{type(module).__name__} has layers that ONNX has no operators for.")
    model: ModelProto = program.model_proto
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter prints, warns and logs from whoever watches our own progress.

    On failure it prints graphs and code; what went wrong is in the exception.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _cause(error: BaseException) -> str:
    """Return the first line of the innermost error: the outer ones describe the exporter."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
