"""Running a graph that is not yet a file of ours."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnxruntime as ort
from onnx import ModelProto

from exporter.errors import GraphError
from exporter.graph.execution import executed_graph

_SILENT = 4
"""Failures are raised."""


def open_model(model: ModelProto, *, threads: int = 1) -> ort.InferenceSession:
    """Return a session; raises GraphError, worded to follow the file's name.

    Args:
        model: the graph.
        threads: threads of one run; 0 stands for one per core.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _SILENT
    try:
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise GraphError(
            f"cannot be run by ONNX Runtime: {' '.join(str(error).split())}"
        ) from error


def check_bearable(model: ModelProto) -> None:
    """Let a child process with limits load ``model`` before this one does.

    Raises:
        GraphError: worded to follow the file's name: ONNX Runtime refuses it, or it takes too much
            memory or time.
    """
    with tempfile.TemporaryDirectory(prefix="intake-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        try:
            executed_graph(path)
        except GraphError as error:
            raise GraphError(f"is refused: {str(error).replace(str(path), 'the model')}") from error
