"""Reading ONNX files that somebody else may have made, broken or ill-meant.

Nothing outside the file is opened (no external data), nothing in it can run code of its own (no
custom operators, no functions) or run for ever (no loops), and its size is bounded before anything
is computed. onnx's checker and shape inference then have the last word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto

from exporter.errors import GraphError

MAX_BYTES = 512 * 2**20
"""Far above any network for a small device, far below protobuf's own limit of 2 GiB."""
MAX_NODES = 20_000
MAX_ELEMENTS = 2**28
"""Elements of one tensor, computed or stored: 1 GiB of float32."""
DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
"""Standard operators and ONNX Runtime's own; any other domain needs code that we don't have."""
CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def read_model(path: Path) -> ModelProto:
    """Return the checked model in the file ``path``.

    Raises:
        GraphError: the file is missing, no ONNX file, damaged, too large, or needs more than
            itself: external data, custom operators, functions, control flow.
    """
    model = parse_model(path)
    try:
        check_limits(model)
    except GraphError as error:
        raise GraphError(f"{path} {error}") from error
    return model


def parse_model(path: Path) -> ModelProto:
    """Return what the file ``path`` holds, which nothing but its size was checked of.

    Raises:
        GraphError: the file is missing, too large or no ONNX file.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise GraphError(
                f"{path} has {size / 2**20:.0f} MiB, more than the limit of "
                f"{MAX_BYTES // 2**20} MiB."
            )
        content = path.read_bytes()
    except OSError as error:
        raise GraphError(f"Cannot read {path}: {error.strerror}.") from error
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise GraphError(f"{path} is not an ONNX file, or a truncated one.") from error
    if not model.graph.node or not model.graph.output:
        raise GraphError(f"{path} is not an ONNX file, or one without a network.")
    return model


def check_limits(model: ModelProto) -> None:
    """Raise GraphError, worded to follow the file's name, if ``model`` may not be run."""
    if not all(isinstance(text, str) for text in _texts(model)):
        raise GraphError("holds names that are not text (UTF-8); it is damaged.")
    if len(model.graph.node) > MAX_NODES:
        raise GraphError(f"has {len(model.graph.node)} nodes, more than the limit of {MAX_NODES}.")
    if model.functions:
        raise GraphError("defines functions of its own; export it with plain operators.")
    if model.training_info:
        raise GraphError("holds training information; export it for inference.")
    for node in model.graph.node:
        if node.domain not in DOMAINS:
            raise GraphError(
                f"uses the custom operator {node.domain}.{node.op_type}; only standard operators "
                "can be run."
            )
        nested = any(entry.HasField("g") or entry.graphs for entry in node.attribute)
        if node.op_type in CONTROL_FLOW or nested:
            raise GraphError(
                f"has control flow ({node.op_type} {node.name!r}); export it unrolled."
            )
    if model.graph.sparse_initializer:
        raise GraphError("stores sparse tensors; export it with dense ones.")
    for tensor in stored_tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise GraphError(
                f"keeps the tensor {tensor.name!r} in another file; export it as one file "
                "(external_data=False)."
            )
        _check_size(tensor.name, tensor.dims)
    try:
        onnx.checker.check_model(model)
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except Exception as error:  # a name that is no UTF-8 breaks even the checker's own message
        raise GraphError(f"is not valid ONNX: {_first_line(error)}") from error
    graph = inferred.graph
    for info in chain(graph.input, graph.value_info, graph.output):
        # A dynamic dimension counts as one: its size is the caller's choice.
        shape = info.type.tensor_type.shape.dim
        _check_size(info.name, [dim.dim_value for dim in shape if dim.HasField("dim_value")])


def _texts(model: ModelProto) -> Iterator[object]:
    """Yield the texts that other code reads; protobuf gives bytes for what is no UTF-8."""
    yield from (
        model.producer_name,
        model.producer_version,
        *(s.domain for s in model.opset_import),
    )
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    graph = model.graph
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for named in (*graph.initializer, *graph.input, *graph.output):
        yield named.name
    for info in (*graph.input, *graph.output):
        yield from (dim.dim_param for dim in info.type.tensor_type.shape.dim)


def stored_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield every tensor with a content: initializers, and those in attributes of nodes."""
    yield from graph.initializer
    for node in graph.node:
        for entry in node.attribute:
            if entry.HasField("t"):
                yield entry.t
            yield from entry.tensors


def _check_size(name: str, dims: Iterable[int]) -> None:
    elements = 1
    for dim in dims:
        if dim < 0:
            raise GraphError(f"has the tensor {name!r} with a negative dimension, {dim}.")
        elements *= dim
    if elements > MAX_ELEMENTS:
        raise GraphError(
            f"has the tensor {name!r} with {elements:,} elements, more than the limit of "
            f"{MAX_ELEMENTS:,}."
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
