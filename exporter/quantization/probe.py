"""Inner tensors of a graph, float or QDQ, for images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnx import ModelProto, ValueInfoProto

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_ERRORS_ONLY = 3
"""ONNX Runtime's log level; what fails is raised."""


def open_probe(model: ModelProto, tensors: Sequence[str]) -> InferenceSession:
    """Return a session that runs ``model`` as far as the ``tensors`` and returns them.

    A QDQ graph is computed in float between its 8-bit tensors: the numbers are those of every CPU,
    whatever its integer kernels do.
    """
    import onnxruntime as ort  # what only proves something about weights needs none

    shown = ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(ValueInfoProto(name=name) for name in tensors)
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(
        shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
