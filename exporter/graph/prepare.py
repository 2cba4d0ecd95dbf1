"""ONNX Runtime's own preparation for quantization, run where its failures are noticed.

It folds what is left to fold (padding and batch-norm into convolutions, MatMul and Add into Gemm)
and writes down the type of every tensor, which the quantizer relies on. It is run on export, so
that calibration measures the very tensors that are quantized later, and again before quantizing,
where it finds nothing left to fold.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import onnx
from onnx import ModelProto

from exporter.errors import GraphError


def prepare(model: ModelProto) -> ModelProto:
    """Return ``model`` with constants folded and types inferred; names are kept.

    Raises:
        GraphError: ONNX Runtime cannot load or optimize the model.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # A failed optimization is logged and the model saved without it: a quiet loss of speed.
    logger = logging.getLogger("onnxruntime.quantization.shape_inference")
    errors = _Errors()
    logger.addHandler(errors)
    propagates, logger.propagate = logger.propagate, False
    try:
        with tempfile.TemporaryDirectory(prefix="prepare-") as folder:
            source, prepared = Path(folder) / "source.onnx", Path(folder) / "prepared.onnx"
            source.write_bytes(model.SerializeToString())
            # Symbolic shape inference is for transformers; onnx's own covers convolutional nets.
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            result = onnx.load(prepared)
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise GraphError(f"ONNX Runtime cannot prepare the model: {_one_line(error)}") from error
    finally:
        logger.removeHandler(errors)
        logger.propagate = propagates
    if errors.messages:
        raise GraphError(f"ONNX Runtime cannot prepare the model: {errors.messages[-1]}")
    return result


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # The last thing it logs is the traceback of what went wrong.
        self.messages.append(record.getMessage().strip().splitlines()[-1])


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
