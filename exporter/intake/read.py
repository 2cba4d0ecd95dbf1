"""A float ONNX file of somebody else's, read within limits and checked to be one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnx import ModelProto

from exporter.artifacts import Artifact
from exporter.errors import GraphError
from exporter.graph.limits import check_limits, parse_model
from exporter.intake.external_data import external_files, load_external_data
from exporter.intake.single_precision import use_single_precision

OLDEST_OPSET = 7
"""Of 2018: the first that ONNX Runtime promises to run, and the first with broadcasting as it is
now."""
STANDARD = ("", "ai.onnx")


def files_of(path: Path) -> tuple[Artifact, ...]:
    """Return the file ``path`` and the files beside it that hold its weights.

    Raises:
        GraphError: a file is missing, too large, or lies outside the folder.
    """
    with told_of(path):
        beside = external_files(parse_model(path), path.parent)
    return tuple(map(Artifact.of, (path, *beside)))


def read_float_model(path: Path) -> ModelProto:
    """Return the float model in ``path``: whole, in single precision, without custom operators.

    Weights are no longer listed among its inputs, nor kept in other files.

    Raises:
        GraphError: the file is missing, damaged, not allowed (see ``graph.limits``), already
            quantized, or older than ``OLDEST_OPSET``.
    """
    with told_of(path):
        model = parse_model(path)
        load_external_data(model, path.parent)
        check_limits(model)
        _check_operators(model)
        _use_one_domain(model)
        if opset_of(model) < OLDEST_OPSET:
            raise GraphError(
                f"has opset {opset_of(model)}, but {OLDEST_OPSET} is the oldest that can be read; "
                "export it again."
            )
        use_single_precision(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    # Version 3 wanted weights among the inputs.
    model.ir_version = max(model.ir_version, 4)
    return model


def opset_of(model: ModelProto) -> int:
    """Return the version of the standard operators that ``model`` is written in."""
    return max((e.version for e in model.opset_import if e.domain in STANDARD), default=0)


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Put ``path`` in front of what is said about the file without its name."""
    try:
        yield
    except GraphError as error:
        text = str(error)
        raise GraphError(text if str(path) in text else f"{path} {text}") from error


def _check_operators(model: ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type.startswith(("QLinear", "QGemm")) or (
            "QuantizeLinear" in node.op_type
            or "DequantizeLinear" in node.op_type
            or node.op_type.endswith("Integer")
        ):
            raise GraphError(
                f"is already quantized ({node.op_type} {node.name!r}); bring the float file it was "
                "made from."
            )
        if node.domain not in STANDARD:
            raise GraphError(
                f"uses {node.domain}.{node.op_type}, which only ONNX Runtime knows; bring the file "
                "as it was before it was optimized."
            )


def _use_one_domain(model: ModelProto) -> None:
    """Call the standard operators' domain by one of its two names."""
    version = opset_of(model)
    del model.opset_import[:]
    model.opset_import.add(domain="", version=version)
    for node in model.graph.node:
        node.domain = ""
