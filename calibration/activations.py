"""The float activations of an ONNX model, and a session that returns all of them.

A quantizer asks for a range of every float tensor that depends on the model's input; weights and
other constants have ranges of their own. The session runs the graph as it is, unoptimized: fused
tensors would be missing, and reordered sums would differ from ONNX Runtime's calibrators.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import chain

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    NotImplemented,
    RuntimeException,
)

from calibration.errors import CalibrationError
from calibration.stream import Array

THREADS = 2
RUN_BYTES = 1 << 28
"""Size that the activations of one run should not exceed. ONNX Runtime holds them, and hands out a
copy: a run takes about twice as much."""
FLOAT_BYTES = 4
_REFUSALS = (Fail, InvalidArgument, InvalidGraph, NotImplemented, RuntimeException, ValueError)
"""How ONNX Runtime says that it cannot run a graph or a batch; they share no base class."""


def float_activations(graph: onnx.GraphProto) -> list[str]:
    """Return the float32 tensors of ``graph`` that depend on its inputs, in topological order.

    Graph inputs and outputs count. The graph must have gone through shape inference: a tensor of
    unknown type is left out, as ONNX Runtime's quantizer leaves it in float.
    """
    types = {
        info.name: info.type.tensor_type.elem_type
        for info in chain(graph.input, graph.value_info, graph.output)
    }
    constants = {tensor.name for tensor in graph.initializer}
    # A dict as an ordered set.
    dependent = {info.name: None for info in graph.input if info.name not in constants}
    for node in graph.node:
        if any(name in dependent for name in node.input):
            dependent.update((name, None) for name in node.output if name)  # "" is left out
    return [name for name in dependent if types.get(name) == onnx.TensorProto.FLOAT]


def samples_per_run(graph: onnx.GraphProto) -> int | None:
    """Return how many samples' float activations fit into ``RUN_BYTES``, at least 1.

    None where that cannot be told, or where the graph itself says how many it takes. Tensors of
    unknown shape are not counted. The graph must have gone through shape inference.
    """
    shapes = {
        info.name: list(info.type.tensor_type.shape.dim)
        for info in chain(graph.input, graph.value_info, graph.output)
    }
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [shapes[info.name] for info in graph.input if info.name not in constants]
    if any(not shape or shape[0].HasField("dim_value") for shape in inputs):
        return None
    known = [
        [size.dim_value for size in shapes[name][1:]]
        for name in float_activations(graph)
        if all(size.HasField("dim_value") for size in shapes[name][1:])
    ]
    sample_bytes = FLOAT_BYTES * sum(map(math.prod, known))
    return max(1, RUN_BYTES // sample_bytes) if sample_bytes else None


class ActivationSession:
    """Runs a model and yields its float activations."""

    def __init__(self, model: bytes) -> None:
        """Load a serialized model; raises CalibrationError if it cannot be run."""
        try:
            proto = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model))
        except DecodeError as error:
            raise CalibrationError("The model is not an ONNX file, or a damaged one.") from error
        self.names = float_activations(proto.graph)
        if not self.names:
            raise CalibrationError("The model has no float activations; calibrate a float model.")
        self.samples_per_run = samples_per_run(proto.graph)
        inputs = {info.name for info in proto.graph.input}
        outputs = {info.name for info in proto.graph.output}
        self._fetched = [name for name in self.names if name not in inputs]
        proto.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in self._fetched
            if name not in outputs
        )
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = THREADS
        options.log_severity_level = 4  # refusals are raised; saying them twice helps nobody
        try:
            self._session = onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except _REFUSALS as error:
            raise CalibrationError(f"ONNX Runtime refuses the model: {_line(error)}") from error

    def run(self, batch: Mapping[str, Array]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield name and values of every activation; raises CalibrationError on a wrong batch."""
        try:
            outputs = self._session.run(self._fetched, dict(batch))
        except _REFUSALS as error:
            raise CalibrationError(f"The model does not take the batch: {_line(error)}") from error
        inputs = [(name, batch[name]) for name in self.names if name in batch]
        yield from chain(inputs, zip(self._fetched, outputs, strict=True))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
