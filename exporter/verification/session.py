"""ONNX Runtime sessions on files that keep the raw-bytes contract."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import onnxruntime as ort

from exporter.artifacts import Artifact
from exporter.contract import INPUT_NAME, OUTPUT_NAME
from exporter.errors import GraphError

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
_ERRORS_ONLY = 3
"""ONNX Runtime's log level; what fails is raised, its warnings would break the progress display."""


def open_session(
    model: Artifact, *, threads: int = 0, settings: Mapping[str, str] = NO_SETTINGS
) -> ort.InferenceSession:
    """Return a CPU session on the shipped bytes, with every optimisation of the runtime.

    Args:
        model: the .onnx or .ort file; its content is checked first.
        threads: threads of one run; 0 stands for one per core.
        settings: further session settings, by ONNX Runtime's own keys.

    Raises:
        CacheError: the file is not what it was.
        GraphError: the file cannot be loaded or does not keep the contract.
    """
    path = model.checked()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    for key, value in settings.items():
        options.add_session_config_entry(key, value)
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions have no base of their own
        raise GraphError(
            f"{path} cannot be loaded by ONNX Runtime {ort.__version__}: {_first_line(error)}"
        ) from error
    _check_contract(session, model)
    return session


def takes_one_image(session: ort.InferenceSession) -> bool:
    """Return whether the file's shapes say one image per run, not any number."""
    return bool(session.get_inputs()[0].shape[0] == 1)


def image_shape(session: ort.InferenceSession) -> tuple[int, int, int]:
    """Return height, width and channels of the images that the session wants."""
    height, width, channels = session.get_inputs()[0].shape[1:]
    return height, width, channels


def _check_contract(session: ort.InferenceSession, model: Artifact) -> None:
    inputs = [(entry.name, entry.type, entry.shape) for entry in session.get_inputs()]
    outputs = [(entry.name, entry.type, entry.shape) for entry in session.get_outputs()]
    if not (
        len(inputs) == 1
        and inputs[0][:2] == (INPUT_NAME, "tensor(uint8)")
        and len(inputs[0][2]) == 4
        and (inputs[0][2][0] == 1 or not isinstance(inputs[0][2][0], int))
        and all(isinstance(size, int) for size in inputs[0][2][1:])
    ):
        raise GraphError(
            f"{model.path} has the inputs {_listed(inputs)}, but must have one: "
            f"{INPUT_NAME} tensor(uint8) [N, height, width, channels] with any N, or 1."
        )
    if not (
        len(outputs) == 1
        and outputs[0][:2] == (OUTPUT_NAME, "tensor(float)")
        and len(outputs[0][2]) == 2
    ):
        raise GraphError(
            f"{model.path} has the outputs {_listed(outputs)}, but must have one: "
            f"{OUTPUT_NAME} tensor(float) [N, classes]."
        )


def _listed(values: list[tuple[str, str, list[object]]]) -> str:
    return ", ".join(
        f"{name} {kind} [{', '.join(map(str, shape))}]" for name, kind, shape in values
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
